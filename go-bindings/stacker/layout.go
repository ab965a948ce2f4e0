package stacker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/casext"
)

// find finds the image of a tag.
func find(ctx context.Context, oci casext.Engine, tag string) (digest.Digest, ispec.Manifest, error) {
	paths, err := oci.ResolveReference(ctx, tag)
	if err != nil {
		return "", ispec.Manifest{}, fmt.Errorf("look for the tag %s: %w", tag, err)
	}
	if len(paths) == 0 {
		return "", ispec.Manifest{}, fmt.Errorf("look for the tag %s: %w", tag, fs.ErrNotExist)
	}
	if len(paths) > 1 {
		return "", ispec.Manifest{}, fmt.Errorf("look for the tag %s: %d images have it", tag, len(paths))
	}
	descriptor := paths[0].Descriptor()
	manifest, err := read[ispec.Manifest](ctx, oci, descriptor)
	return descriptor.Digest, manifest, err
}

// read reads a document of a layout.
func read[T any](ctx context.Context, oci casext.Engine, descriptor ispec.Descriptor) (document T, err error) {
	blob, err := oci.FromDescriptor(ctx, descriptor)
	if err != nil {
		return document, fmt.Errorf("read %s: %w", descriptor.Digest, err)
	}
	defer func() { err = errors.Join(err, blob.Close()) }()
	document, ok := blob.Data.(T)
	if !ok {
		return document, fmt.Errorf("read %s: it is of type %s", descriptor.Digest, descriptor.MediaType)
	}
	return document, nil
}
