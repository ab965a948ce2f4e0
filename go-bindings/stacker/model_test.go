package stacker_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci"
	"github.com/opencontainers/umoci/mutate"
	"github.com/opencontainers/umoci/oci/casext"
	"github.com/opencontainers/umoci/oci/casext/blobcompress"
	"github.com/opencontainers/umoci/oci/layer"

	"github.com/project-machine/libpuzzlefs/go-bindings/stacker"
)

// The layer types of the model. The foreign one, of which only base images are, has layers that nobody
// but stacker can unpack, such as squashfs.
const (
	tarType      = "tar"
	puzzlefsType = stacker.LayerType
	foreignType  = "foreign"

	foreignMediaType = "application/vnd.stacker.image.layer.foreign+gzip"
)

// layerTypeOf is the layer type of an image.
func layerTypeOf(manifest ispec.Manifest) string {
	switch {
	case stacker.IsImage(manifest):
		return puzzlefsType
	case len(manifest.Layers) > 0 && manifest.Layers[0].MediaType == foreignMediaType:
		return foreignType
	default:
		return tarType
	}
}

// recipe is what a stacker.yaml has for an image.
type recipe struct {
	name string
	// from is a base of the type: an image of the model, a tag of the cache, a directory of which
	// an archive is made; scratch if none of them is set.
	built, oci, tar string
	buildOnly       bool
	overlayDirs     []string
	run             func(root string)
	config          func(config *ispec.ImageConfig)
}

// model builds as stacker does: with overlays that are mounted with userxattr, umoci, the same
// folders, the same metadata of them, and the same order of things.
type model struct {
	t          *testing.T
	output     stacker.Output
	unpacker   stacker.Unpacker
	oci        casext.Engine
	cache      string
	layerTypes []string
	started    time.Time
	recipes    map[string]recipe
	metadata   map[string]overlayMetadata
}

// overlayMetadata is what stacker keeps in overlay_metadata.json.
type overlayMetadata struct {
	manifests        map[string]ispec.Manifest
	configs          map[string]ispec.Image
	builtLayers      []string
	hasBuiltOutput   bool
	overlayDirLayers map[string][]ispec.Descriptor
}

// clone is the metadata as written and read again.
func (ovl overlayMetadata) clone() overlayMetadata {
	ovl.manifests = maps.Clone(ovl.manifests)
	ovl.configs = maps.Clone(ovl.configs)
	ovl.builtLayers = slices.Clone(ovl.builtLayers)
	return ovl
}

// layers has those in whose folders the tree is: of the layer type, or of another one, whose folders
// have the same content.
func (ovl overlayMetadata) layers(layerType string) []ispec.Descriptor {
	if manifest, ok := ovl.manifests[layerType]; ok {
		return manifest.Layers
	}
	for _, manifest := range ovl.manifests {
		return manifest.Layers
	}
	return nil
}

// newModel has nothing built yet. It builds as of the time that is given, if one is.
func newModel(t *testing.T, epoch *time.Time, layerTypes ...string) *model {
	t.Helper()
	dir := t.TempDir()
	m := &model{
		t: t,
		output: stacker.Output{
			OCIDir:          filepath.Join(dir, "oci"),
			RootsDir:        filepath.Join(dir, "roots"),
			SourceDateEpoch: epoch,
		},
		cache:      filepath.Join(dir, "cache"),
		layerTypes: layerTypes,
		started:    time.Now().UTC(),
		recipes:    map[string]recipe{},
		metadata:   map[string]overlayMetadata{},
	}
	check(t, os.Mkdir(m.output.RootsDir, 0o755))
	m.oci = must(umoci.CreateLayout(m.output.OCIDir))
	t.Cleanup(func() { check(t, m.oci.Close()) })
	return m
}

// layerName is the tag of an image.
func layerName(layerType, name string) string {
	if layerType == puzzlefsType {
		return stacker.LayerName(name)
	}
	return name
}

func (m *model) folder(name string) string {
	return filepath.Join(m.output.RootsDir, name, "overlay")
}

func (m *model) layerFolder(d digest.Digest) string {
	return filepath.Join(m.output.RootsDir, strings.ReplaceAll(d.String(), ":", "_"))
}

// now is the time in the history. Every layer is made at the same one, in whole seconds, so that those
// of different types can be compared.
func (m *model) now() *time.Time {
	now := m.started.Truncate(time.Second)
	if m.output.SourceDateEpoch != nil {
		now = *m.output.SourceDateEpoch
	}
	return &now
}

// build builds images, one after the other, and ends as stacker does.
func (m *model) build(recipes ...recipe) {
	m.t.Helper()
	for _, r := range recipes {
		m.recipes[r.name] = r
		check(m.t, os.RemoveAll(filepath.Dir(m.folder(r.name))))
		check(m.t, os.MkdirAll(m.folder(r.name), 0o755))
		m.metadata[r.name] = m.setUp(r)
		m.setOverlayDirs(r)
		if r.run != nil {
			m.run(r.name, r.run)
		}
		if !r.buildOnly {
			m.repack(r.name)
			m.configure(r)
		}
	}
	check(m.t, m.oci.GC(context.Background()))
}

// setUp lays the base's folders below an image's.
func (m *model) setUp(r recipe) overlayMetadata {
	ovl := overlayMetadata{manifests: map[string]ispec.Manifest{}, configs: map[string]ispec.Image{}}
	switch {
	case r.built != "":
		ovl = m.metadata[r.built].clone()
		for _, manifest := range ovl.manifests {
			m.unpack(manifest)
		}
		ovl.builtLayers = append(ovl.builtLayers, r.built)
		// That is the parent's, and would add its layer twice.
		ovl.hasBuiltOutput = false
	case r.oci != "":
		manifest := m.lookup(r.oci)
		m.unpack(manifest)
		ovl.manifests[layerTypeOf(manifest)] = manifest
	case r.tar != "":
		archive := layer.GenerateInsertLayer(r.tar, "/", false, nil)
		defer archive.Close()
		check(m.t, layer.UnpackLayer(m.folder(r.name), archive, &layer.UnpackOptions{KeepDirlinks: true}))
	}
	return ovl
}

// lookup finds a base image in the cache.
func (m *model) lookup(tag string) ispec.Manifest {
	m.t.Helper()
	oci := must(umoci.OpenLayout(m.cache))
	defer oci.Close()
	return must(stacker.Lookup(context.Background(), oci, tag))
}

// unpack fills the folders of a base's layers.
func (m *model) unpack(manifest ispec.Manifest) {
	m.t.Helper()
	for _, l := range manifest.Layers {
		dir := filepath.Join(m.layerFolder(l.Digest), "overlay")
		if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
			continue
		}
		if l.MediaType == stacker.MediaTypeRootfs {
			check(m.t, m.unpacker.Unpack(context.Background(), m.cache, l, dir))
			continue
		}
		unpackTar(m.t, m.cache, l, dir)
	}
}

// setOverlayDirs makes layers of directories that are mounted over the base.
func (m *model) setOverlayDirs(r recipe) {
	if len(r.overlayDirs) == 0 {
		return
	}
	ovl := m.metadata[r.name]
	ovl.overlayDirLayers = map[string][]ispec.Descriptor{}
	for _, layerType := range m.layerTypes {
		for _, dir := range r.overlayDirs {
			desc := m.overlayDirLayer(layerType, dir)
			check(m.t, os.MkdirAll(m.layerFolder(desc.Digest), 0o755))
			err := os.Symlink(dir, filepath.Join(m.layerFolder(desc.Digest), "overlay"))
			if !errors.Is(err, fs.ErrExist) {
				check(m.t, err)
			}
			ovl.overlayDirLayers[layerType] = append(ovl.overlayDirLayers[layerType], desc)
		}
	}
	m.metadata[r.name] = ovl
}

func (m *model) overlayDirLayer(layerType, dir string) ispec.Descriptor {
	if layerType == puzzlefsType {
		return stacker.OverlayDir(dir)
	}
	blob := m.archive(dir)
	defer blob.Close()
	d, size, err := m.oci.PutBlob(context.Background(), blob)
	check(m.t, err)
	return ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: d, Size: size}
}

// run runs a command: a function, which gets the directory that would be its root.
func (m *model) run(name string, command func(root string)) {
	m.t.Helper()
	dir := filepath.Dir(m.folder(name))
	root, work := filepath.Join(dir, "rootfs"), filepath.Join(dir, "work")
	check(m.t, os.MkdirAll(root, 0o755))
	check(m.t, os.MkdirAll(work, 0o755))
	lower := m.lower(name)
	slices.Reverse(lower)
	options := fmt.Sprintf("userxattr,lowerdir=%s,upperdir=%s,workdir=%s", strings.Join(lower, ":"), m.folder(name), work)
	if err := syscall.Mount("overlay", root, "overlay", 0, options); err != nil {
		m.t.Fatalf("mount %s: %v", options, err)
	}
	defer func() { check(m.t, syscall.Unmount(root, 0)) }()
	command(root)
}

// lower has the directories below an image's own, the lowest one first.
func (m *model) lower(name string) []string {
	m.t.Helper()
	ovl := m.metadata[name]
	var lower []string
	for _, l := range ovl.layers("any") {
		lower = append(lower, filepath.Join(m.layerFolder(l.Digest), "overlay"))
	}
	for _, built := range ovl.builtLayers {
		lower = append(lower, m.folder(built))
	}
	for _, layers := range ovl.overlayDirLayers {
		for _, l := range layers {
			lower = append(lower, filepath.Join(m.layerFolder(l.Digest), "overlay"))
		}
		break
	}
	if len(lower) == 0 {
		lower = append(lower, m.t.TempDir())
	}
	return lower
}

// repack adds what was built to the images.
func (m *model) repack(name string) {
	m.t.Helper()
	ctx := context.Background()
	outputs := map[string]output{}
	for _, layerType := range m.layerTypes {
		outputs[layerType] = m.begin(name, layerType)
	}
	ovl := m.metadata[name]
	for layerType, layers := range ovl.overlayDirLayers {
		for _, l := range layers {
			history := ispec.History{Created: m.now(), CreatedBy: "stacker overlay dir for " + name}
			check(m.t, outputs[layerType].addExisting(ctx, l, history, l.Digest))
		}
	}
	changed := len(ovl.overlayDirLayers) > 0
	for _, built := range ovl.builtLayers {
		if m.addLayer(built, outputs) {
			changed = true
			parent := m.metadata[built]
			m.describe(&parent, outputs)
			parent.hasBuiltOutput = true
			m.metadata[built] = parent
		}
	}
	if m.addLayer(name, outputs) {
		changed = true
	}
	if !changed {
		return
	}
	ovl = overlayMetadata{manifests: map[string]ispec.Manifest{}, configs: map[string]ispec.Image{}}
	for layerType, output := range outputs {
		check(m.t, output.commit(ctx, layerName(layerType, name)))
	}
	m.describe(&ovl, outputs)
	m.metadata[name] = ovl
}

// describe writes into the metadata what the images have now.
func (m *model) describe(ovl *overlayMetadata, outputs map[string]output) {
	ctx := context.Background()
	for layerType, output := range outputs {
		ovl.manifests[layerType] = must(output.Manifest(ctx))
		ovl.configs[layerType] = must(output.Config(ctx))
	}
}

// addLayer adds an image's own changes, and tells whether there are any.
func (m *model) addLayer(name string, outputs map[string]output) bool {
	m.t.Helper()
	ctx := context.Background()
	dir := m.folder(name)
	if entries := must(os.ReadDir(dir)); len(entries) == 0 {
		return m.addBuiltLayer(name, outputs)
	}
	history := ispec.History{Created: m.now(), CreatedBy: "stacker build of " + name}
	var target string
	for _, layerType := range m.layerTypes {
		desc, err := outputs[layerType].add(ctx, dir, history)
		check(m.t, err)
		folder := m.layerFolder(desc.Digest)
		if target != "" {
			if err := os.Symlink(target, folder); !errors.Is(err, fs.ErrExist) {
				check(m.t, err)
			}
			continue
		}
		target = folder
		defer func() {
			check(m.t, os.MkdirAll(target, 0o755))
			err := os.Rename(dir, filepath.Join(target, "overlay"))
			if errors.Is(err, fs.ErrExist) {
				err = os.RemoveAll(dir)
			}
			check(m.t, err)
			check(m.t, os.Mkdir(dir, 0o755))
		}()
	}
	return true
}

// addBuiltLayer adds the changes of a build-only image that another one was built on before.
func (m *model) addBuiltLayer(name string, outputs map[string]output) bool {
	ovl := m.metadata[name]
	if !ovl.hasBuiltOutput {
		return false
	}
	for layerType, output := range outputs {
		layers := ovl.manifests[layerType].Layers
		config := ovl.configs[layerType]
		history := config.History[len(config.History)-1]
		diffID := config.RootFS.DiffIDs[len(config.RootFS.DiffIDs)-1]
		check(m.t, output.addExisting(context.Background(), layers[len(layers)-1], history, diffID))
	}
	return true
}

// begin makes the base's image that of name.
func (m *model) begin(name, layerType string) output {
	m.t.Helper()
	ctx := context.Background()
	tag := layerName(layerType, name)
	base := name
	for base != "" && m.recipes[base].built != "" && (base == name || m.recipes[base].buildOnly) {
		base = m.recipes[base].built
	}
	var below []ispec.Descriptor
	switch base := m.recipes[base]; {
	case base.name != name && !base.buildOnly:
		below = m.metadata[base.name].layers(layerType)
		if layerType == puzzlefsType {
			check(m.t, m.output.TakeOver(context.Background(), base.name, name))
		} else {
			m.tag(tag, must(m.oci.ResolveReference(ctx, base.name))[0].Descriptor())
		}
	case base.oci != "":
		below = m.lookup(base.oci).Layers
		m.copyBase(base.oci, name, layerType)
	default:
		check(m.t, umoci.NewImage(m.oci, tag, m.output.SourceDateEpoch))
	}
	if layerType == puzzlefsType {
		return puzzlefsOutput{m.output.Image(m.oci, name, below)}
	}
	path := must(m.oci.ResolveReference(ctx, tag))[0]
	return tarOutput{must(mutate.New(m.oci, path)), m}
}

// copyBase makes a base image of the cache that of name.
func (m *model) copyBase(base, name, layerType string) {
	m.t.Helper()
	switch {
	case layerType == layerTypeOf(m.lookup(base)):
		command(m.t, "skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers",
			"oci:"+m.cache+":"+base, "oci:"+m.output.OCIDir+":"+layerName(layerType, name))
	case layerType == puzzlefsType:
		check(m.t, m.output.Convert(context.Background(), m.cache, base, name))
	default:
		m.convertToTar(base, name)
	}
}

// convertToTar makes a layer of each of the base's folders.
func (m *model) convertToTar(base, name string) {
	m.t.Helper()
	ctx := context.Background()
	cache := must(umoci.OpenLayout(m.cache))
	defer cache.Close()
	manifest := must(stacker.Lookup(ctx, cache, base))
	config := must(cache.FromDescriptor(ctx, manifest.Config)).Data.(ispec.Image)
	stacker.FitHistory(config.History, len(manifest.Layers))
	layers := manifest.Layers
	manifest.Layers, config.RootFS.DiffIDs = nil, nil
	for _, l := range layers {
		blob := m.archive(filepath.Join(m.layerFolder(l.Digest), "overlay"))
		d, size, err := m.oci.PutBlob(ctx, blob)
		check(m.t, errors.Join(err, blob.Close()))
		if err := os.Symlink(m.layerFolder(l.Digest), m.layerFolder(d)); !errors.Is(err, fs.ErrExist) {
			check(m.t, err)
		}
		manifest.Layers = append(manifest.Layers, ispec.Descriptor{MediaType: ispec.MediaTypeImageLayer, Digest: d, Size: size})
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, d)
	}
	manifest.Config = m.put(ispec.MediaTypeImageConfig, config)
	m.tag(name, m.put(ispec.MediaTypeImageManifest, manifest))
}

func (m *model) put(mediaType string, document any) ispec.Descriptor {
	m.t.Helper()
	d, size, err := m.oci.PutBlobJSON(context.Background(), document)
	check(m.t, err)
	return ispec.Descriptor{MediaType: mediaType, Digest: d, Size: size}
}

func (m *model) tag(tag string, image ispec.Descriptor) {
	m.t.Helper()
	check(m.t, m.oci.UpdateReference(context.Background(), tag, image))
}

// configure sets what a recipe says of an image, as a step of its own.
func (m *model) configure(r recipe) {
	m.t.Helper()
	ctx := context.Background()
	for _, layerType := range m.layerTypes {
		path := must(m.oci.ResolveReference(ctx, layerName(layerType, r.name)))[0]
		mutator := must(mutate.New(m.oci, path))
		config := must(mutator.Config(ctx)).Config
		config.Env = append(config.Env, "PATH=/bin")
		if r.config != nil {
			r.config(&config)
		}
		meta := must(mutator.Meta(ctx))
		meta.Created, meta.Author = *m.now(), "stacker"
		annotations := must(mutator.Annotations(ctx))
		annotations["io.stackeroci.stacker.stacker_yaml"] = "yaml of " + r.name
		history := ispec.History{EmptyLayer: true, Created: &meta.Created, CreatedBy: "stacker build", Author: meta.Author}
		check(m.t, mutator.Set(ctx, config, meta, annotations, &history))
		m.tag(layerName(layerType, r.name), must(mutator.Commit(ctx)).Root())
	}
}

// archive is the tar layer of an upperdir.
func (m *model) archive(dir string) io.ReadCloser {
	return layer.GenerateInsertLayer(dir, "/", false, &layer.RepackOptions{
		OnDiskFormat:    layer.OverlayfsRootfs{UserXattr: true},
		SourceDateEpoch: m.output.SourceDateEpoch,
	})
}

// output is an image that grows.
type output interface {
	add(ctx context.Context, upperdir string, history ispec.History) (ispec.Descriptor, error)
	addExisting(ctx context.Context, l ispec.Descriptor, history ispec.History, diffID digest.Digest) error
	Manifest(ctx context.Context) (ispec.Manifest, error)
	Config(ctx context.Context) (ispec.Image, error)
	commit(ctx context.Context, tag string) error
}

// tarOutput has layers that lie on each other.
type tarOutput struct {
	*mutate.Mutator
	m *model
}

func (o tarOutput) add(ctx context.Context, upperdir string, history ispec.History) (ispec.Descriptor, error) {
	blob := o.m.archive(upperdir)
	defer blob.Close()
	return o.Add(ctx, ispec.MediaTypeImageLayer, blob, &history, blobcompress.Gzip, nil)
}

func (o tarOutput) addExisting(ctx context.Context, l ispec.Descriptor, history ispec.History, diffID digest.Digest) error {
	return o.AddExisting(ctx, l, &history, diffID)
}

func (o tarOutput) commit(ctx context.Context, tag string) error {
	path, err := o.Commit(ctx)
	o.m.tag(tag, path.Root())
	return err
}

// puzzlefsOutput has steps.
type puzzlefsOutput struct {
	*stacker.Image
}

func (o puzzlefsOutput) add(ctx context.Context, upperdir string, history ispec.History) (ispec.Descriptor, error) {
	step, _, err := o.Add(ctx, upperdir, history)
	return step, err
}

func (o puzzlefsOutput) addExisting(ctx context.Context, l ispec.Descriptor, history ispec.History, _ digest.Digest) error {
	_, err := o.AddExisting(ctx, l, history)
	return err
}

func (puzzlefsOutput) commit(context.Context, string) error { return nil }

// unpackTar unpacks one layer of tar for an overlay.
func unpackTar(t *testing.T, layout string, l ispec.Descriptor, dir string) {
	t.Helper()
	oci := must(umoci.OpenLayout(layout))
	defer oci.Close()
	var content io.ReadCloser = must(oci.GetVerifiedBlob(context.Background(), l))
	if strings.HasSuffix(l.MediaType, "+gzip") {
		content = must(gzip.NewReader(content))
	}
	format := layer.OverlayfsRootfs{UserXattr: true}
	check(t, layer.UnpackLayer(dir, content, &layer.UnpackOptions{OnDiskFormat: format}))
	check(t, content.Close())
}
