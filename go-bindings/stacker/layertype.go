package stacker

import (
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerType is the name of the layer type, as in --layer-type.
const LayerType = "puzzlefs"

// MediaTypeRootfs is the media type of an image's first layer, which holds its metadata. No image
// of another kind has it.
const MediaTypeRootfs = "application/vnd.puzzlefs.image.rootfs.v1"

// LayerName is the tag of the puzzlefs image that is built beside the tar image of this tag.
func LayerName(tag string) string {
	return tag + "-" + LayerType
}

// IsImage tells whether a manifest is that of a puzzlefs image.
func IsImage(manifest ispec.Manifest) bool {
	return len(manifest.Layers) > 0 && manifest.Layers[0].MediaType == MediaTypeRootfs
}
