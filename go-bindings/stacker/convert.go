package stacker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci"
	"github.com/opencontainers/umoci/oci/casext"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// Convert makes the image of name from a base image of another type, the tag of the layout cache. One
// of tar layers is read there, and nothing is unpacked; of any other, stacker has unpacked the layers
// into their folders.
//
// Configuration, annotations and history are carried on. The history gets one more entry, which tells
// of the conversion.
func (o *Output) Convert(ctx context.Context, cache, tag, name string) error {
	if err := o.convert(ctx, cache, tag, name); err != nil {
		return fmt.Errorf("convert the base image %s for %s: %w", tag, name, err)
	}
	return nil
}

func (o *Output) convert(ctx context.Context, cache, tag, name string) (err error) {
	oci, err := umoci.OpenLayout(cache)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, oci.Close()) }()
	_, base, err := find(ctx, oci, tag)
	if err != nil {
		return err
	}
	if IsImage(base) || !slices.ContainsFunc(base.Layers, isForeign) {
		return o.convertArchives(ctx, cache, tag, name)
	}
	config, err := read[ispec.Image](ctx, oci, base.Config)
	if err != nil {
		return err
	}
	return o.convertFolders(ctx, base, config, tag, name)
}

// isForeign tells whether a layer is no tar archive.
func isForeign(layer ispec.Descriptor) bool {
	return !strings.Contains(layer.MediaType, ".tar")
}

// convertArchives converts an image of tar layers.
func (o *Output) convertArchives(ctx context.Context, cache, tag, name string) error {
	options := o.Options
	options.CreatedBy = convertedBy(tag)
	if o.SourceDateEpoch != nil {
		options.Created = *o.SourceDateEpoch
	}
	_, err := puzzlefs.Convert(ctx, cache+":"+tag, o.reference(name), &options)
	return err
}

// convertFolders converts an image whose layers are unpacked: each becomes a step.
func (o *Output) convertFolders(ctx context.Context, base ispec.Manifest, config ispec.Image, tag, name string) (err error) {
	oci, err := umoci.OpenLayout(o.OCIDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, oci.Close()) }()

	history := config.History
	converted := ispec.History{Created: config.Created, CreatedBy: convertedBy(tag), EmptyLayer: true}
	if o.SourceDateEpoch != nil {
		converted.Created = o.SourceDateEpoch
	}
	folders := base.Layers
	base.Layers = []ispec.Descriptor{}
	config.RootFS.DiffIDs, config.History = []digest.Digest{}, nil
	if err := o.put(ctx, oci, name, base, config); err != nil {
		return err
	}
	image := o.Image(oci, name, nil)
	for _, layer := range folders {
		if _, err := image.addFolder(ctx, layer, converted); err != nil {
			return err
		}
	}
	// The layers have entries of their own.
	_, manifest, err := find(ctx, oci, LayerName(name))
	if err != nil {
		return err
	}
	config, err = read[ispec.Image](ctx, oci, manifest.Config)
	if err != nil {
		return err
	}
	config.History = append(slices.Clone(history), converted)
	FitHistory(config.History, len(manifest.Layers))
	return o.put(ctx, oci, name, manifest, config)
}

func convertedBy(tag string) string {
	return "stacker conversion of " + tag
}

// put makes the image of name one of this manifest and this configuration.
func (o *Output) put(ctx context.Context, oci casext.Engine, name string, manifest ispec.Manifest, config ispec.Image) error {
	var err error
	manifest.Config, err = putDocument(ctx, oci, ispec.MediaTypeImageConfig, config)
	if err != nil {
		return err
	}
	image, err := putDocument(ctx, oci, ispec.MediaTypeImageManifest, manifest)
	if err != nil {
		return err
	}
	return UpdateIndex(ctx, o.OCIDir, func() error {
		return oci.UpdateReference(ctx, LayerName(name), image)
	})
}

func putDocument(ctx context.Context, oci casext.Engine, mediaType string, document any) (ispec.Descriptor, error) {
	digest, size, err := oci.PutBlobJSON(ctx, document)
	return ispec.Descriptor{MediaType: mediaType, Digest: digest, Size: size}, err
}
