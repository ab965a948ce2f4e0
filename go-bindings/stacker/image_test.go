package stacker_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci"

	"github.com/project-machine/libpuzzlefs/go-bindings/stacker"
)

// TestReproducible builds twice, at different times: the same images.
func TestReproducible(t *testing.T) {
	tree, extra := makeTree(t), t.TempDir()
	write(t, filepath.Join(extra, "opt/extra"), []byte("extra\n"))
	digests := func() map[string]string {
		m := newModel(t, &epoch, puzzlefsType)
		m.build(
			recipe{name: "base", tar: tree},
			recipe{name: "app", built: "base", overlayDirs: []string{extra}, run: func(root string) {
				write(t, filepath.Join(root, "etc/motd"), []byte("changed\n"))
				check(t, os.RemoveAll(filepath.Join(root, "var/cache")))
			}},
		)
		found := map[string]string{}
		for name := range m.recipes {
			paths := must(m.oci.ResolveReference(context.Background(), stacker.LayerName(name)))
			found[name] = paths[0].Descriptor().Digest.String()
		}
		return found
	}
	compareJSON(t, "the second time it", digests(), digests())
}

// TestStepErrors has steps that fail. Each error tells which step, and leaves the image as it was.
func TestStepErrors(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	changed := func(t *testing.T, dir string) { write(t, filepath.Join(dir, "file"), []byte("new")) }
	cases := []struct {
		name    string
		ctx     context.Context
		prepare func(t *testing.T, dir string)
		is      error
	}{
		{"no upperdir", context.Background(), func(t *testing.T, dir string) { check(t, os.Remove(dir)) }, fs.ErrNotExist},
		{"cancelled", cancelled, changed, context.Canceled},
		{"a redirect", context.Background(), func(t *testing.T, dir string) {
			check(t, os.Mkdir(filepath.Join(dir, "moved"), 0o755))
			setxattr(t, filepath.Join(dir, "moved"), "user.overlay.redirect", []byte("/elsewhere"))
		}, errors.ErrUnsupported},
	}
	m := newModel(t, nil, puzzlefsType)
	m.build(recipe{name: "app", tar: makeTree(t)})
	before, _ := m.read("app-puzzlefs")
	for _, c := range cases {
		image := m.output.Image(m.oci, "app", m.metadata["app"].layers(puzzlefsType))
		dir := t.TempDir()
		c.prepare(t, dir)
		_, added, err := image.Add(c.ctx, dir, ispec.History{CreatedBy: "stacker build of app"})
		if added || !errors.Is(err, c.is) || !strings.HasPrefix(err.Error(), "stacker build of app: ") {
			t.Errorf("%s: added %t, %v", c.name, added, err)
		}
		after, _ := m.read("app-puzzlefs")
		compareJSON(t, c.name+": the image", after, before)
		if manifest := must(image.Manifest(context.Background())); len(manifest.Layers) != 1 {
			t.Errorf("%s: the steps are %v", c.name, manifest.Layers)
		}
	}
}

// TestNoChange adds no step.
func TestNoChange(t *testing.T) {
	m := newModel(t, nil, puzzlefsType)
	check(t, umoci.NewImage(m.oci, "app-puzzlefs", nil))
	image := m.output.Image(m.oci, "app", nil)
	step, added, err := image.Add(context.Background(), t.TempDir(), ispec.History{CreatedBy: "stacker build of app"})
	if added || err != nil {
		t.Errorf("it added %v, %v", step, err)
	}
	if config := must(image.Config(context.Background())); len(config.History) != 0 {
		t.Errorf("the history is %v", config.History)
	}
}

// TestBaseErrors has bases that are not there, or of no type that is known.
func TestBaseErrors(t *testing.T) {
	cache := makeCache(t)
	m := newModel(t, nil, puzzlefsType)
	ctx := context.Background()
	cases := []struct {
		name string
		call func() error
		is   error
	}{
		{"no parent", func() error { return m.output.TakeOver(context.Background(), "parent", "app") }, fs.ErrNotExist},
		{"no base", func() error { return m.output.Convert(ctx, cache, "none", "app") }, fs.ErrNotExist},
		{"puzzlefs", func() error { return m.output.Convert(ctx, cache, "app-puzzlefs", "app") }, fs.ErrInvalid},
	}
	for _, c := range cases {
		if err := c.call(); !errors.Is(err, c.is) || !strings.Contains(err.Error(), "for app") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestLayerType(t *testing.T) {
	if name := stacker.LayerName("app"); name != "app-puzzlefs" {
		t.Errorf("the tag is %s", name)
	}
	cases := map[string]bool{
		stacker.MediaTypeRootfs:                                true,
		"application/vnd.puzzlefs.image.filedata.v1+zstd":      false,
		ispec.MediaTypeImageLayerGzip:                          false,
		"application/vnd.stacker.image.layer.squashfs+zstd":    false,
		"application/vnd.puzzlefs.image.rootfs.v1+unheard-of":  false,
		"application/vnd.oci.image.layer.nondistributable.tar": false,
	}
	for mediaType, want := range cases {
		manifest := ispec.Manifest{Layers: []ispec.Descriptor{{MediaType: mediaType}}}
		if got := stacker.IsImage(manifest); got != want {
			t.Errorf("%s: %t", mediaType, got)
		}
	}
	if stacker.IsImage(ispec.Manifest{}) {
		t.Error("a manifest without layers")
	}
}
