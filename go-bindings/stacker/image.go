package stacker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci/oci/casext"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// Image is an image of the output layout that grows step by step. It is for puzzlefs what umoci's
// Mutator is for layers that lie on each other; but each step is in the layout, with the image's
// tag, when the function that adds it returns.
type Image struct {
	output *Output
	oci    casext.Engine
	name   string
	layers []ispec.Descriptor
}

// Image returns the image of name, to which steps can be added. It is in the layout, which oci has
// open: taken over, converted, copied, or made without layers by umoci's NewImage.
//
// Below are the layers in whose folders its tree lies, the lowest one first. Of an image that was
// taken over, they are those of the parent's manifest in stacker's overlay metadata; of a base image
// those that [Lookup] tells; of a new one there are none.
func (o *Output) Image(oci casext.Engine, name string, below []ispec.Descriptor) *Image {
	return &Image{output: o, oci: oci, name: name, layers: slices.Clone(below)}
}

// Add adds the step that left an upperdir, in an overlay that was mounted with userxattr. The step
// is called after its history entry. Add tells whether there is one: an upperdir with nothing in it
// makes no step.
//
// The descriptor stands for the step in stacker's overlay metadata. Its digest names the folder into
// which the upperdir is moved next; it is of no blob.
func (i *Image) Add(ctx context.Context, upperdir string, history ispec.History) (ispec.Descriptor, bool, error) {
	empty, err := isEmpty(upperdir)
	if err != nil {
		return ispec.Descriptor{}, false, stepError(history, err)
	}
	if empty {
		return ispec.Descriptor{}, false, nil
	}
	step, err := i.delta(ctx, upperdir, history)
	return step, err == nil, err
}

// AddExisting adds the step whose changes are in the folder of a layer already: those of a build-only
// image that another image was built on before, or of an overlay_dir. The new step's folder becomes a
// link to that one.
func (i *Image) AddExisting(ctx context.Context, layer ispec.Descriptor, history ispec.History) (ispec.Descriptor, error) {
	step, err := i.addFolder(ctx, layer, history)
	if err != nil {
		return ispec.Descriptor{}, err
	}
	err = os.Symlink(folderName(layer), i.output.folder(step))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return ispec.Descriptor{}, stepError(history, err)
	}
	return step, nil
}

// Manifest returns the image's manifest as stacker's overlay metadata wants it: its layers are those
// that have folders, the steps and what is below them.
func (i *Image) Manifest(ctx context.Context) (ispec.Manifest, error) {
	_, manifest, err := find(ctx, i.oci, LayerName(i.name))
	manifest.Layers = slices.Clone(i.layers)
	return manifest, err
}

// Config returns the image's configuration.
func (i *Image) Config(ctx context.Context) (ispec.Image, error) {
	_, manifest, err := find(ctx, i.oci, LayerName(i.name))
	if err != nil {
		return ispec.Image{}, err
	}
	return read[ispec.Image](ctx, i.oci, manifest.Config)
}

// addFolder adds the step whose changes are in the folder of a layer.
func (i *Image) addFolder(ctx context.Context, layer ispec.Descriptor, history ispec.History) (ispec.Descriptor, error) {
	return i.delta(ctx, filepath.Join(i.output.folder(layer), "overlay"), history)
}

// delta adds the step that left an upperdir.
func (i *Image) delta(ctx context.Context, upperdir string, history ispec.History) (ispec.Descriptor, error) {
	// That of an overlay_dir is a link in its folder.
	upperdir, err := filepath.EvalSymlinks(upperdir)
	if err != nil {
		return ispec.Descriptor{}, stepError(history, err)
	}
	options := i.output.Options
	options.Base = i.output.reference(i.name)
	options.Marks = puzzlefs.UserMarks
	options.Author = history.Author
	options.CreatedBy = history.CreatedBy
	options.Comment = history.Comment
	if history.Created != nil {
		options.Created = *history.Created
	}
	if epoch := i.output.SourceDateEpoch; epoch != nil {
		options.ClampMtime = *epoch
	}
	result, err := puzzlefs.Delta(ctx, upperdir, options.Base, &options)
	if err != nil {
		return ispec.Descriptor{}, stepError(history, err)
	}
	image := ispec.Descriptor{
		MediaType: ispec.MediaTypeImageManifest,
		Digest:    digest.Digest(result.Digest),
		Size:      result.Size,
	}
	manifest, err := read[ispec.Manifest](ctx, i.oci, image)
	if err != nil {
		return ispec.Descriptor{}, stepError(history, err)
	}
	step := stepOn(i.layers, manifest.Layers[0])
	i.layers = append(i.layers, step)
	return step, nil
}

// stepOn describes the step on the layers below that made an image with this metadata.
//
// A step's folder holds a change. The digest of the metadata, of a whole tree, is no name for it: to
// add a file and to remove it again makes the tree that was there before. So the digest is one of all
// that is below, too. A first step has that of the metadata, like a base image: the folder of either
// holds the whole tree.
func stepOn(below []ispec.Descriptor, metadata ispec.Descriptor) ispec.Descriptor {
	var chain []digest.Digest
	for _, layer := range below {
		chain = append(chain, layer.Digest)
	}
	metadata.Digest = identity.ChainID(append(chain, metadata.Digest))
	return metadata
}

// folder is the folder of a layer, whose "overlay" is mounted.
func (o *Output) folder(layer ispec.Descriptor) string {
	return filepath.Join(o.RootsDir, folderName(layer))
}

// folderName is the digest without what separates the folders in the options of an overlay.
func folderName(layer ispec.Descriptor) string {
	return strings.ReplaceAll(layer.Digest.String(), ":", "_")
}

// stepError is the error of a step, which is called after its history entry.
func stepError(history ispec.History, err error) error {
	return fmt.Errorf("%s: %w", history.CreatedBy, err)
}

func isEmpty(dir string) (empty bool, err error) {
	file, err := os.Open(dir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	_, err = file.Readdirnames(1)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	return false, err
}
