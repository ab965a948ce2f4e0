package stacker

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// Output is where stacker builds, and how.
type Output struct {
	// OCIDir is the layout that the images go into: stacker's --oci-dir.
	OCIDir string
	// RootsDir is the directory of the folders that are mounted on each other: stacker's
	// --roots-dir.
	RootsDir string
	// SourceDateEpoch is the newest time of what is built, and when it was built; nil for what the
	// files and the history say.
	SourceDateEpoch *time.Time
	// Options say how data is compressed and stored, how many threads do it, and who is told how
	// far it is. What the fields above and the functions' arguments say is taken from there.
	Options puzzlefs.BuildOptions
}

// TakeOver makes the image of name that of parent, which is an image of the same layout. Nothing is
// copied.
func (o *Output) TakeOver(ctx context.Context, parent, name string) error {
	if err := puzzlefs.Tag(ctx, o.reference(parent), LayerName(name)); err != nil {
		return fmt.Errorf("take the image of %s over for %s: %w", parent, name, err)
	}
	return nil
}

// reference names the image of a tag.
func (o *Output) reference(tag string) string {
	return o.OCIDir + ":" + LayerName(tag)
}

// OverlayDir is the layer that stands for an overlay_dir, a directory that is mounted over the base
// of an image: its digest names a folder. It becomes a step by [Image.AddExisting].
func OverlayDir(dir string) ispec.Descriptor {
	return ispec.Descriptor{MediaType: MediaTypeRootfs, Digest: digest.FromString("overlay_dir " + dir)}
}
