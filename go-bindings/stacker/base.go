package stacker

import (
	"context"
	"maps"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/casext"
)

const (
	// annotationImage is, in the descriptor of a base image's only layer, the digest of its manifest:
	// what is unpacked is not the layer, but the image.
	annotationImage = "io.puzzlefsoci.libpuzzlefs.image"
	// annotationPackSize is the library's own, and tells of blobs.
	annotationPackSize = "io.puzzlefsoci.libpuzzlefs.pack_size"
)

// Lookup is the manifest of a base image as stacker's overlay metadata wants it: one whose layers
// have a folder each. Those of a puzzlefs image are blobs of data, and become one layer, which
// [Unpacker.Unpack] knows; any other manifest is what it is.
func Lookup(ctx context.Context, oci casext.Engine, tag string) (ispec.Manifest, error) {
	image, manifest, err := find(ctx, oci, tag)
	if err != nil || !IsImage(manifest) {
		return manifest, err
	}
	layer := manifest.Layers[0]
	layer.Annotations = maps.Clone(layer.Annotations)
	if layer.Annotations == nil {
		layer.Annotations = map[string]string{}
	}
	layer.Annotations[annotationImage] = image.String()
	manifest.Layers = []ispec.Descriptor{layer}
	delete(manifest.Annotations, annotationPackSize)
	return manifest, nil
}

// FitHistory marks the oldest entries of a history as those of an empty layer, until no more stand
// for a layer than there are. A puzzlefs image that is converted to another type, one layer, has
// more of them: one for each step.
func FitHistory(history []ispec.History, layers int) {
	surplus := -layers
	for _, entry := range history {
		if !entry.EmptyLayer {
			surplus++
		}
	}
	for i := range history {
		if surplus > 0 && !history[i].EmptyLayer {
			history[i].EmptyLayer = true
			surplus--
		}
	}
}
