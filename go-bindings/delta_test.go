package puzzlefs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// overlay mounts a writable overlay on lower until the test ends; change is made in it. It returns
// the upperdir and where the overlay is mounted.
func overlay(t *testing.T, lower string, change func(merged string)) (upper, merged string) {
	t.Helper()
	dir := t.TempDir()
	upper, merged = filepath.Join(dir, "upper"), filepath.Join(dir, "merged")
	work := filepath.Join(dir, "work")
	for _, path := range []string{upper, merged, work} {
		check(t, os.Mkdir(path, 0o755))
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,redirect_dir=off,metacopy=off,index=off,xino=off",
		lower, upper, work)
	mountSystem(t, "overlay", merged, "overlay", 0, options)
	change(merged)
	return upper, merged
}

// dump returns all of an image's metadata as text.
func dump(t *testing.T, image string) string {
	t.Helper()
	return string(command(t, "inspect", "--dump", image))
}

// TestDelta learns a change in each way, with the library and with the command: the images are the
// same.
func TestDelta(t *testing.T) {
	lower := makeTree(t)
	base, layout := build(t, lower, nil)
	upper, merged := overlay(t, lower, func(merged string) {
		check(t, os.WriteFile(filepath.Join(merged, "new"), []byte("new"), 0o644))
		check(t, os.Remove(filepath.Join(merged, "text")))
		check(t, os.RemoveAll(filepath.Join(merged, "dir")))
		check(t, os.Mkdir(filepath.Join(merged, "dir"), 0o700))
	})
	ctx := context.Background()
	at := func(tag string) string { return layout + ":" + tag }

	delta := must(puzzlefs.Delta(ctx, upper, at("delta"), &puzzlefs.BuildOptions{
		Base: base, VerifyBase: true, Marks: puzzlefs.TrustedMarks, Comment: "why",
	}))
	printed := command(t, "delta", "--json", "--base", base, "--comment=why", upper, at("command"))
	want := buildResult(t, printed)
	// What the first one stored, the second one shares.
	delta.BytesShared += delta.BytesStored
	delta.BytesStored = 0
	if *delta != *want {
		t.Errorf("the delta is %+v, want %+v", delta, want)
	}
	built := must(puzzlefs.Build(ctx, merged, at("merged"), &puzzlefs.BuildOptions{Base: base}))
	trusting := must(puzzlefs.Build(ctx, merged, at("trusting"), &puzzlefs.BuildOptions{Base: base, TrustMtime: true}))
	if built.Digest != trusting.Digest || built.UnchangedFiles != delta.UnchangedFiles || built.UnchangedFiles == 0 {
		t.Errorf("with and without trust: %+v, %+v", trusting, built)
	}
	must(puzzlefs.Canonicalize(ctx, at("delta"), at("canonical"), nil))
	must(puzzlefs.Build(ctx, merged, at("apart"), nil))
	for _, pair := range [][2]string{{"delta", "merged"}, {"canonical", "apart"}} {
		if dump(t, at(pair[0])) != dump(t, at(pair[1])) {
			t.Errorf("%s and %s differ", pair[0], pair[1])
		}
	}
}

// TestDeltaElsewhere has the base in another layout, whose data is copied.
func TestDeltaElsewhere(t *testing.T) {
	base, _ := build(t, makeTree(t), nil)
	image := filepath.Join(t.TempDir(), "layout") + ":v1"
	made := must(puzzlefs.Delta(context.Background(), t.TempDir(), image, &puzzlefs.BuildOptions{Base: base}))
	if made.BytesCopied < 1<<20 {
		t.Errorf("it copied %d bytes", made.BytesCopied)
	}
}

func TestDeltaErrors(t *testing.T) {
	base, layout := build(t, makeTree(t), nil)
	upper := t.TempDir()
	check(t, os.Mkdir(filepath.Join(upper, "dir"), 0o755))
	check(t, syscall.Setxattr(filepath.Join(upper, "dir"), "trusted.overlay.redirect", []byte("/x"), 0))
	ctx := context.Background()
	at := layout + ":v2"
	cases := []struct {
		name string
		call func() (*puzzlefs.BuildResult, error)
		is   error
	}{
		{"no base", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Delta(ctx, t.TempDir(), at, nil)
		}, fs.ErrInvalid},
		{"no such base", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Delta(ctx, t.TempDir(), at, &puzzlefs.BuildOptions{Base: layout + ":none"})
		}, fs.ErrNotExist},
		{"redirect", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Delta(ctx, upper, at, &puzzlefs.BuildOptions{Base: base})
		}, errors.ErrUnsupported},
		{"marks", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Build(ctx, t.TempDir(), at, &puzzlefs.BuildOptions{Marks: puzzlefs.UserMarks})
		}, fs.ErrInvalid},
		{"unknown marks", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Delta(ctx, t.TempDir(), at, &puzzlefs.BuildOptions{Base: base, Marks: 9})
		}, errors.ErrUnsupported},
		{"trust without a base", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Build(ctx, t.TempDir(), at, &puzzlefs.BuildOptions{TrustMtime: true})
		}, fs.ErrInvalid},
		{"canonicalize on a base", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Canonicalize(ctx, base, at, &puzzlefs.BuildOptions{Base: base})
		}, fs.ErrInvalid},
		{"convert a puzzlefs image", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Convert(ctx, base, at, nil)
		}, fs.ErrInvalid},
		{"squash", func() (*puzzlefs.BuildResult, error) {
			return puzzlefs.Build(ctx, t.TempDir(), at, &puzzlefs.BuildOptions{Squash: true})
		}, errors.ErrUnsupported},
	}
	before := list(t, layout)
	for _, c := range cases {
		made, err := c.call()
		if made != nil || !errors.Is(err, c.is) {
			t.Errorf("%s: it returned %+v and %v", c.name, made, err)
		}
	}
	if after := list(t, layout); len(after) != len(before) {
		t.Errorf("the layout has %v, had %v", after, before)
	}
}

// TestCompareCancel stops a build that compares files with the base's.
func TestCompareCancel(t *testing.T) {
	tree := t.TempDir()
	for i := range 200 {
		check(t, os.WriteFile(filepath.Join(tree, fmt.Sprint(i)), noise(100_000+i), 0o644))
	}
	base, layout := build(t, tree, nil)
	// The highest level takes so long that no machine is done before it is stopped.
	check(t, os.WriteFile(filepath.Join(tree, "noise"), noise(64<<20), 0o644))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	stages := map[puzzlefs.Stage]bool{}
	_, err := puzzlefs.Build(ctx, tree, layout+":v2", &puzzlefs.BuildOptions{
		Base:  base,
		Level: 22,
		Progress: func(p puzzlefs.Progress) {
			stages[p.Stage] = true
			if p.Stage == puzzlefs.StageCompare || p.Stage == puzzlefs.StageStore {
				cancel()
			}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it returned %v in %v", err, stages)
	}
	if tags := string(command(t, "tags", layout)); strings.Contains(tags, "v2") {
		t.Errorf("there is a tag: %s", tags)
	}
}

// TestConvert makes an ordinary image, and converts it with the library and with the command.
func TestConvert(t *testing.T) {
	dir := t.TempDir()
	layout, bundle := filepath.Join(dir, "layout"), filepath.Join(dir, "bundle")
	umoci := func(args ...string) {
		t.Helper()
		if output, err := exec.Command("umoci", args...).CombinedOutput(); err != nil {
			t.Fatalf("umoci %v: %v\n%s", args, err, output)
		}
	}
	umoci("init", "--layout", layout)
	umoci("new", "--image", layout+":tar")
	umoci("unpack", "--image", layout+":tar", bundle)
	check(t, os.WriteFile(filepath.Join(bundle, "rootfs/file"), noise(300_000), 0o644))
	umoci("repack", "--image", layout+":tar", bundle)

	for _, squash := range []bool{false, true} {
		options := &puzzlefs.BuildOptions{Squash: squash}
		stages := map[puzzlefs.Stage]bool{}
		options.Progress = func(p puzzlefs.Progress) { stages[p.Stage] = true }
		made := must(puzzlefs.Convert(context.Background(), layout+":tar", layout+":new", options))
		args := []string{"convert", layout + ":tar", layout + ":command"}
		if squash {
			args = append(args, "--squash")
		}
		if printed := strings.TrimSpace(string(command(t, args...))); printed != made.Digest {
			t.Errorf("squash %t: it is %s, want %s", squash, made.Digest, printed)
		}
		if made.Files != 1 {
			t.Errorf("squash %t: %+v", squash, made)
		}
	}
}

// TestExport writes an image out with the library and with the command.
func TestExport(t *testing.T) {
	name, _ := build(t, makeTree(t), nil)
	image := must(puzzlefs.Open(name, nil))
	defer image.Close()
	var archive bytes.Buffer
	exported := must(image.Export(context.Background(), &archive, nil))
	if exported.Sockets != 1 || exported.Entries < 20 {
		t.Errorf("it exported %+v", exported)
	}
	if printed := command(t, "export", name); !bytes.Equal(printed, archive.Bytes()) {
		t.Errorf("%d bytes, the command has %d", archive.Len(), len(printed))
	}

	_, err := image.Export(context.Background(), failing{}, nil)
	if !errors.Is(err, errFull) {
		t.Errorf("a writer that fails: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := image.Export(ctx, &archive, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

var errFull = errors.New("full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errFull }
