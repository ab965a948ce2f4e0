package stacker_test

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
	"github.com/project-machine/libpuzzlefs/go-bindings/stacker"
)

// makeCache makes a layout with base images of both types, of several layers and of none.
func makeCache(t *testing.T) (layout string) {
	t.Helper()
	m := newModel(t, &epoch, tarType, puzzlefsType)
	m.build(fiveSteps(t)...)
	m.build(recipe{name: "nothing"})
	foreign, _ := m.read("tool")
	for i := range foreign.Layers {
		foreign.Layers[i].MediaType = foreignMediaType
	}
	m.tag("tool-foreign", m.put(ispec.MediaTypeImageManifest, foreign))
	return m.output.OCIDir
}

// TestBases builds on base images, of each layer type to each: what comes out is what was mounted
// when it was built.
func TestBases(t *testing.T) {
	cache := makeCache(t)
	layerTypes := map[string][]string{
		"puzzlefs": {puzzlefsType},
		"tar":      {tarType},
		"both":     {tarType, puzzlefsType},
	}
	for _, base := range []string{"app", "app-puzzlefs", "tool-foreign", "nothing", "nothing-puzzlefs"} {
		for _, name := range slices.Sorted(maps.Keys(layerTypes)) {
			t.Run(base+" to "+name, func(t *testing.T) {
				m := newModel(t, nil, layerTypes[name]...)
				m.cache = cache
				m.build(
					recipe{name: "unchanged", oci: base},
					recipe{name: "first", oci: base, run: func(root string) {
						write(t, filepath.Join(root, "var/cache/first"), noise(5, 50_000))
						check(t, os.RemoveAll(filepath.Join(root, "usr/bin/tool")))
					}},
					recipe{name: "second", built: "first", run: func(root string) {
						write(t, filepath.Join(root, "etc/second"), []byte("second\n"))
						check(t, os.RemoveAll(filepath.Join(root, "var/cache")))
					}},
					recipe{name: "hidden", oci: base, buildOnly: true, run: func(root string) {
						write(t, filepath.Join(root, "hidden"), []byte("hidden\n"))
					}},
					recipe{name: "third", built: "hidden", run: func(root string) {
						check(t, os.Rename(filepath.Join(root, "hidden"), filepath.Join(root, "found")))
					}},
				)
				for _, image := range []string{"unchanged", "first", "second", "third"} {
					m.compareWithMounted(image, base)
				}
			})
		}
	}
}

// compareWithMounted compares an image with the folders that are mounted for those that are built
// on it. Of one without layers there is nothing to compare.
func (m *model) compareWithMounted(name, base string) {
	m.t.Helper()
	var want []string
	m.recipes["probe"] = recipe{name: "probe", built: name}
	check(m.t, os.MkdirAll(m.folder("probe"), 0o755))
	m.metadata["probe"] = m.setUp(m.recipes["probe"])
	m.run("probe", func(root string) { want = describe(m.t, root) })
	// The upperdir of the probe, which is its own.
	want = want[1:]

	for _, layerType := range m.layerTypes {
		manifest, config := m.read(layerName(layerType, name))
		if len(manifest.Layers) == 0 {
			continue
		}
		m.checkHistory(name, manifest, config)
		var got []string
		if layerType == puzzlefsType {
			got = describe(m.t, m.extract(name))
			m.checkPacks(name, base)
		} else {
			got = describe(m.t, m.unpackWithUmoci(name))
		}
		compare(m.t, layerType+" "+name, got[1:], want)
	}
}

// extract extracts the puzzlefs image of a name.
func (m *model) extract(name string) string {
	m.t.Helper()
	image := must(puzzlefs.Open(m.output.OCIDir+":"+stacker.LayerName(name), nil))
	defer image.Close()
	dir := filepath.Join(m.t.TempDir(), "extracted")
	if result := must(image.Extract(context.Background(), dir, nil)); len(result.Lost) > 0 {
		m.t.Errorf("%s: extraction lost %v", name, result.Lost)
	}
	return dir
}

// checkHistory checks that no more entries stand for a layer than there are: umoci's stat panics.
func (m *model) checkHistory(name string, manifest ispec.Manifest, config ispec.Image) {
	m.t.Helper()
	layers := 0
	for _, entry := range config.History {
		if entry.Created == nil {
			m.t.Errorf("%s: %q has no time", name, entry.CreatedBy)
		}
		if !entry.EmptyLayer {
			layers++
		}
	}
	if layers > len(manifest.Layers) {
		m.t.Errorf("%s: %d entries of the history stand for %d layers", name, layers, len(manifest.Layers))
	}
}

// checkPacks checks that an image still has the data of its puzzlefs base, but for what it removed.
func (m *model) checkPacks(name, base string) {
	m.t.Helper()
	oci := must(umoci.OpenLayout(m.cache))
	defer oci.Close()
	paths := must(oci.ResolveReference(context.Background(), base))
	of := must(oci.FromDescriptor(context.Background(), paths[0].Descriptor())).Data.(ispec.Manifest)
	if !stacker.IsImage(of) {
		return
	}
	got, _ := m.read(stacker.LayerName(name))
	kept := map[digest.Digest]bool{}
	for _, l := range got.Layers {
		kept[l.Digest] = true
	}
	shared := 0
	for _, pack := range of.Layers[1:] {
		if kept[pack.Digest] {
			shared++
		}
	}
	if shared == 0 {
		m.t.Errorf("%s shares no pack with its base, which has %d", name, len(of.Layers)-1)
	}
}

func TestLookup(t *testing.T) {
	oci := must(umoci.OpenLayout(makeCache(t)))
	defer oci.Close()
	cases := []struct {
		tag    string
		is     bool
		layers int
	}{
		{"app", false, 5},
		{"app-puzzlefs", true, 1},
		{"tool-foreign", false, 3},
		{"nothing", false, 0},
		{"nothing-puzzlefs", false, 0},
	}
	for _, c := range cases {
		manifest := must(stacker.Lookup(context.Background(), oci, c.tag))
		if stacker.IsImage(manifest) != c.is || len(manifest.Layers) != c.layers {
			t.Errorf("%s: %+v", c.tag, manifest)
		}
	}
	if _, err := stacker.Lookup(context.Background(), oci, "none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a tag that is not there: %v", err)
	}
}

func TestFitHistory(t *testing.T) {
	const layer, empty = false, true
	cases := []struct {
		history []bool
		layers  int
		want    []bool
	}{
		{nil, 0, nil},
		{[]bool{layer, empty, layer}, 2, []bool{layer, empty, layer}},
		{[]bool{layer, empty, layer}, 1, []bool{empty, empty, layer}},
		{[]bool{layer, empty, layer}, 0, []bool{empty, empty, empty}},
		{[]bool{empty, layer}, 5, []bool{empty, layer}},
	}
	for _, c := range cases {
		history := make([]ispec.History, len(c.history))
		for i := range history {
			history[i].EmptyLayer = c.history[i]
		}
		stacker.FitHistory(history, c.layers)
		for i := range history {
			if history[i].EmptyLayer != c.want[i] {
				t.Errorf("%v with %d layers is %v, want %v", c.history, c.layers, history, c.want)
				break
			}
		}
	}
}

// TestConvert carries on what a base image says of itself, of whatever type it is.
func TestConvert(t *testing.T) {
	cache := makeCache(t)
	for _, base := range []string{"tool", "tool-foreign"} {
		m := newModel(t, nil, puzzlefsType)
		m.cache = cache
		m.unpack(m.lookup(base))
		check(t, m.output.Convert(context.Background(), cache, base, "app"))

		oci := must(umoci.OpenLayout(cache))
		from := &model{t: t, oci: oci}
		wantManifest, want := from.read(base)
		gotManifest, got := m.read("app-puzzlefs")
		check(t, oci.Close())

		want.History = append(want.History, ispec.History{
			Created: got.Created, CreatedBy: "stacker conversion of " + base, EmptyLayer: true,
		})
		stacker.FitHistory(want.History, len(gotManifest.Layers))
		compareJSON(t, base+": the configuration", got, want)
		compareJSON(t, base+": the annotations", gotManifest.Annotations, wantManifest.Annotations)
	}
}
