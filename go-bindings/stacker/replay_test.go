package stacker_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci"
	"github.com/opencontainers/umoci/oci/layer"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
	"github.com/project-machine/libpuzzlefs/go-bindings/stacker"
)

// epoch is when reproducible builds are.
var epoch = time.Date(2024, 5, 31, 12, 0, 0, 0, time.UTC)

// fiveSteps is a build of five steps, of which one changes no file, and a second image on the first.
func fiveSteps(t *testing.T) []recipe {
	t.Helper()
	extra := filepath.Join(t.TempDir(), "extra")
	write(t, filepath.Join(extra, "opt/extra"), []byte("from outside\n"))
	setTimes(t, extra, epoch)
	return []recipe{
		{name: "base", tar: makeTree(t)},
		{name: "changed", built: "base", run: func(root string) {
			at := func(name string) string { return filepath.Join(root, name) }
			library := must(os.OpenFile(at("usr/lib/library.so"), os.O_WRONLY, 0))
			_, err := library.WriteAt([]byte("patched"), 1<<20)
			check(t, err)
			check(t, library.Close())
			write(t, at("etc/hostname"), []byte("other\n"))
			check(t, os.Remove(at("etc/name")))
			check(t, os.Remove(at("becomes-dir")))
			write(t, at("becomes-dir/inside"), []byte("inside\n"))
			check(t, os.RemoveAll(at("becomes-file")))
			write(t, at("becomes-file"), []byte("a file now\n"))
			check(t, os.Chmod(at("etc/motd"), 0o600))
		}},
		{name: "opaque", built: "changed", run: func(root string) {
			at := func(name string) string { return filepath.Join(root, name) }
			check(t, os.RemoveAll(at("var/cache")))
			write(t, at("var/cache/three"), []byte("three\n"))
			write(t, at("usr/bin/tool"), noise(4, 200_000))
			check(t, os.Link(at("usr/bin/tool"), at("usr/bin/alias")))
			setxattr(t, at("usr/bin/tool"), "security.capability", capability)
			setxattr(t, at("etc"), "user.note", []byte("noted"))
			check(t, os.Symlink("/nowhere", at("dangling")))
		}},
		{name: "configured", built: "opaque", config: func(config *ispec.ImageConfig) {
			config.Entrypoint = []string{"/usr/bin/tool"}
			config.Labels = map[string]string{"key": "value"}
			config.WorkingDir = "/var"
		}},
		{name: "app", built: "configured", overlayDirs: []string{extra}, run: func(root string) {
			write(t, filepath.Join(root, "opt/app"), must(os.ReadFile(filepath.Join(root, "opt/extra"))))
		}},
		{name: "tool", built: "changed", run: func(root string) {
			check(t, os.Rename(filepath.Join(root, "etc/motd"), filepath.Join(root, "etc/issue")))
		}},
	}
}

// buildOnly has images that others are built on and that are none themselves; and a step that takes
// back what the one before it did, so that two trees are the same.
func buildOnly(t *testing.T) []recipe {
	t.Helper()
	add := func(name string) func(root string) {
		return func(root string) { write(t, filepath.Join(root, name), []byte(name)) }
	}
	remove := func(name string) func(root string) {
		return func(root string) { check(t, os.RemoveAll(filepath.Join(root, name))) }
	}
	return []recipe{
		{name: "one", run: add("1"), buildOnly: true},
		{name: "two", built: "one", run: add("2"), buildOnly: true},
		{name: "three", built: "two", run: add("3")},
		{name: "four", built: "two", run: add("4")},
		{name: "five", built: "one"},
		{name: "nothing"},
		{name: "something", built: "nothing", run: add("5")},
		{name: "dir", built: "five", run: func(root string) { check(t, os.Mkdir(filepath.Join(root, "dir"), 0o755)) }},
		{name: "no-dir", built: "dir", run: remove("dir")},
		{name: "back", built: "no-dir", run: add("6")},
	}
}

// TestReplay builds with the layer types tar and puzzlefs side by side: umoci unpacks of the one what
// the other one's images have, extracted and mounted, and both say the same of themselves.
func TestReplay(t *testing.T) {
	cases := []struct {
		name       string
		recipes    func(t *testing.T) []recipe
		layerTypes []string
		epoch      *time.Time
	}{
		{"five steps to tar and puzzlefs", fiveSteps, []string{tarType, puzzlefsType}, nil},
		{"five steps to puzzlefs and tar", fiveSteps, []string{puzzlefsType, tarType}, &epoch},
		{"build only to tar and puzzlefs", buildOnly, []string{tarType, puzzlefsType}, &epoch},
		{"build only to puzzlefs and tar", buildOnly, []string{puzzlefsType, tarType}, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			m := newModel(t, c.epoch, c.layerTypes...)
			recipes := c.recipes(t)
			m.build(recipes...)
			for _, r := range recipes {
				if !r.buildOnly {
					m.compare(r.name)
				}
			}
		})
	}
}

// compare compares the images of a name.
func (m *model) compare(name string) {
	m.t.Helper()
	tar, tarConfig := m.read(name)
	ours, oursConfig := m.read(stacker.LayerName(name))
	// An image has rarely as many blobs as steps: the oldest entries may stand for no layer.
	for i, entry := range oursConfig.History {
		if i < len(tarConfig.History) && entry.EmptyLayer {
			tarConfig.History[i].EmptyLayer = true
		}
	}
	fitted := slices.Clone(oursConfig.History)
	stacker.FitHistory(fitted, len(ours.Layers))
	compareJSON(m.t, name+" with as many layers as it has", fitted, oursConfig.History)
	compareJSON(m.t, name, oursConfig, tarConfig)
	compareJSON(m.t, name, ours.Annotations, tar.Annotations)
	if len(tar.Layers) == 0 {
		// Nothing to unpack, of whatever type.
		if len(ours.Layers) != 0 {
			m.t.Errorf("%s has the layers %v", name, ours.Layers)
		}
		return
	}

	want := describe(m.t, m.unpackWithUmoci(name))
	dir := m.t.TempDir()
	extracted, mounted := filepath.Join(dir, "extracted"), filepath.Join(dir, "mounted")
	image := must(puzzlefs.Open(m.output.OCIDir+":"+stacker.LayerName(name), nil))
	defer image.Close()
	extraction := must(image.Extract(context.Background(), extracted, nil))
	if len(extraction.Lost) > 0 {
		m.t.Errorf("%s: extraction lost %v", name, extraction.Lost)
	}
	compare(m.t, name+", extracted,", describe(m.t, extracted), want)

	check(m.t, os.Mkdir(mounted, 0o755))
	mount := must(image.Mount(context.Background(), mounted, nil))
	defer func() { check(m.t, mount.Unmount()) }()
	compare(m.t, name+", mounted,", describe(m.t, mounted), want)
}

// unpackWithUmoci unpacks an image of tar layers.
func (m *model) unpackWithUmoci(tag string) string {
	m.t.Helper()
	bundle := m.t.TempDir()
	check(m.t, umoci.Unpack(m.oci, tag, bundle, layer.UnpackOptions{}))
	return filepath.Join(bundle, layer.RootfsName)
}

// read reads an image's manifest and configuration, without what differs between layer types.
func (m *model) read(tag string) (ispec.Manifest, ispec.Image) {
	m.t.Helper()
	ctx := context.Background()
	paths := must(m.oci.ResolveReference(ctx, tag))
	if len(paths) != 1 {
		m.t.Fatalf("%d images have the tag %s", len(paths), tag)
	}
	manifest := must(m.oci.FromDescriptor(ctx, paths[0].Descriptor())).Data.(ispec.Manifest)
	delete(manifest.Annotations, "io.puzzlefsoci.libpuzzlefs.pack_size")
	config := must(m.oci.FromDescriptor(ctx, manifest.Config)).Data.(ispec.Image)
	config.RootFS = ispec.RootFS{}
	return manifest, config
}

func compareJSON(t *testing.T, what string, got, want any) {
	t.Helper()
	lines := func(document any) string { return string(must(json.MarshalIndent(document, "", " "))) }
	if lines(got) != lines(want) {
		t.Errorf("%s has %s, want %s", what, lines(got), lines(want))
	}
}
