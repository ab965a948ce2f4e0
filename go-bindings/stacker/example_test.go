package stacker_test

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci"

	"github.com/project-machine/libpuzzlefs/go-bindings/stacker"
)

// Two images: one on nothing, and one that is built on it.
func Example() {
	ctx := context.Background()
	output := &stacker.Output{OCIDir: "oci", RootsDir: "roots"}
	oci, err := umoci.OpenLayout(output.OCIDir)
	if err != nil {
		log.Fatal(err)
	}
	defer oci.Close()

	// add adds what the run section of name wrote, and returns the layers for those that are built
	// on it.
	add := func(name string, below []ispec.Descriptor) []ispec.Descriptor {
		image := output.Image(oci, name, below)
		upperdir := filepath.Join(output.RootsDir, name, "overlay")
		now := time.Now()
		step, changed, err := image.Add(ctx, upperdir, ispec.History{
			Created:   &now,
			CreatedBy: "stacker build of " + name,
		})
		if err != nil {
			log.Fatal(err)
		}
		if changed {
			// From now on, it is mounted below others.
			folder := filepath.Join(output.RootsDir, strings.ReplaceAll(step.Digest.String(), ":", "_"))
			if err := os.Mkdir(folder, 0o755); err != nil {
				log.Fatal(err)
			}
			if err := os.Rename(upperdir, filepath.Join(folder, "overlay")); err != nil {
				log.Fatal(err)
			}
		}
		manifest, err := image.Manifest(ctx)
		if err != nil {
			log.Fatal(err)
		}
		return manifest.Layers
	}

	if err := umoci.NewImage(oci, stacker.LayerName("base"), nil); err != nil {
		log.Fatal(err)
	}
	layers := add("base", nil)
	if err := output.TakeOver(ctx, "base", "app"); err != nil {
		log.Fatal(err)
	}
	add("app", layers)
}
