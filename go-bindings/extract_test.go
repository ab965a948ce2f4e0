package puzzlefs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// TestExtract extracts an image; an image of what came out is the same.
func TestExtract(t *testing.T) {
	rootfs := makeTree(t)
	name, layout := build(t, rootfs, nil)
	image := must(puzzlefs.Open(name, nil))
	defer image.Close()

	cases := []struct {
		name    string
		options *puzzlefs.ExtractOptions
		build   *puzzlefs.BuildOptions
	}{
		{"nil", nil, nil},
		{"one thread", &puzzlefs.ExtractOptions{Threads: 1}, nil},
		{
			"no same owner",
			&puzzlefs.ExtractOptions{NoSameOwner: true},
			&puzzlefs.BuildOptions{Owner: &puzzlefs.Owner{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "dir")
			result := must(image.Extract(context.Background(), dir, c.options))
			want := must(puzzlefs.Build(context.Background(), rootfs, layout+":want", c.build))
			got := must(puzzlefs.Build(context.Background(), dir, layout+":got", c.build))
			if got.Digest != want.Digest {
				t.Errorf("an image of what was extracted is %s, not %s", got.Digest, want.Digest)
			}
			if result.Inodes != want.Inodes || result.Bytes != want.BytesTree || len(result.Lost) != 0 {
				t.Errorf("it extracted %+v of %+v", result, want)
			}
		})
	}
}

// TestExtractCancel stops the work when it has begun: nothing of it stays.
func TestExtractCancel(t *testing.T) {
	// So many files that no machine has written all of them before it is told to stop.
	tree := t.TempDir()
	for i := range 20_000 {
		dir := filepath.Join(tree, fmt.Sprint(i/1000))
		check(t, os.MkdirAll(dir, 0o755))
		check(t, os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), []byte("content"), 0o644))
	}
	image := open(t, tree)
	reason := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	stages := make(map[puzzlefs.Stage]bool)
	options := &puzzlefs.ExtractOptions{Threads: 1, Progress: func(p puzzlefs.Progress) {
		stages[p.Stage] = true
		cancel(reason)
	}}
	dir := filepath.Join(t.TempDir(), "dir")
	_, err := image.Extract(ctx, dir, options)
	if !errors.Is(err, context.Canceled) || !errors.Is(err, reason) {
		t.Errorf("it returned %v", err)
	}
	if !stages[puzzlefs.StageExtract] || len(stages) != 1 {
		t.Errorf("the stages were %v", stages)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s stays: %v", dir, err)
	}
}
