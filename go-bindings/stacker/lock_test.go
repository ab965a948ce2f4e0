package stacker_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/umoci"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
	"github.com/project-machine/libpuzzlefs/go-bindings/stacker"
)

// makeLayout makes a layout without images, and one blob to which nothing refers.
func makeLayout(t *testing.T) (path string, garbage string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "oci")
	oci := must(umoci.CreateLayout(path))
	defer oci.Close()
	digest, _, err := oci.PutBlob(context.Background(), strings.NewReader("garbage"))
	check(t, err)
	return path, filepath.Join(path, "blobs/sha256", digest.Encoded())
}

// waits tells whether a collector waits: it is told to stop as soon as it has begun to.
func waits(t *testing.T, layout string) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	_, err := puzzlefs.GC(ctx, layout, &puzzlefs.GCOptions{
		Grace:    puzzlefs.NoGrace,
		DryRun:   true,
		Progress: func(puzzlefs.Progress) { cancel() },
	})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return err != nil
}

// TestLock keeps libpuzzlefs from deleting what no tag refers to.
func TestLock(t *testing.T) {
	layout, _ := makeLayout(t)
	ctx := context.Background()
	lock := must(stacker.LockLayout(ctx, layout))
	if !waits(t, layout) {
		t.Error("nobody waits for the lock")
	}
	// Builders do not wait for each other.
	other := must(stacker.LockLayout(ctx, layout))
	must(puzzlefs.Build(ctx, makeTree(t), layout+":v1", nil))
	check(t, other.Close())
	check(t, lock.Close())

	if _, err := stacker.LockLayout(ctx, filepath.Join(layout, "none")); err == nil {
		t.Error("a layout that is not there: no error")
	}
}

// TestCollect collects as soon as nobody else is at work.
func TestCollect(t *testing.T) {
	layout, garbage := makeLayout(t)
	ctx := context.Background()
	oci := must(umoci.OpenLayout(layout))
	defer oci.Close()
	collect := func(ctx context.Context) error { return oci.GC(ctx) }
	lock, other := must(stacker.LockLayout(ctx, layout)), must(stacker.LockLayout(ctx, layout))

	steps := []struct {
		name      string
		before    func() error
		collected bool
	}{
		{"beside another one", func() error { return nil }, false},
		{"alone", other.Close, true},
		{"again", func() error { return nil }, true},
	}
	for _, step := range steps {
		check(t, step.before())
		collected, err := lock.Collect(ctx, collect)
		if err != nil || collected != step.collected {
			t.Errorf("%s: collected %t, %v", step.name, collected, err)
		}
		if exists(garbage) == step.collected {
			t.Errorf("%s: the blob is there: %t", step.name, exists(garbage))
		}
		if !waits(t, layout) {
			t.Errorf("%s: the lock is gone", step.name)
		}
	}
	failed := errors.New("failed")
	if _, err := lock.Collect(ctx, func(context.Context) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a collector that fails: %v", err)
	}
	check(t, lock.Close())
}

// TestUpdateIndex has many that set tags at once, by umoci and by libpuzzlefs: none is lost.
func TestUpdateIndex(t *testing.T) {
	layout, _ := makeLayout(t)
	ctx := context.Background()
	must(puzzlefs.Build(ctx, makeTree(t), layout+":v1", nil))
	const each = 20
	var wait sync.WaitGroup
	wait.Go(func() {
		for i := range each {
			if err := puzzlefs.Tag(ctx, layout+":v1", fmt.Sprintf("ours-%d", i)); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Go(func() {
		oci := must(umoci.OpenLayout(layout))
		defer oci.Close()
		image := must(oci.ResolveReference(ctx, "v1"))[0].Descriptor()
		for i := range each {
			err := stacker.UpdateIndex(ctx, layout, func() error {
				return oci.UpdateReference(ctx, fmt.Sprintf("theirs-%d", i), image)
			})
			if err != nil {
				t.Error(err)
			}
		}
	})
	wait.Wait()
	if tags := must(puzzlefs.Tags(layout)); len(tags) != 1+2*each {
		t.Errorf("there are %d tags", len(tags))
	}
}

func TestUpdateIndexErrors(t *testing.T) {
	layout, _ := makeLayout(t)
	failed := errors.New("failed")
	if err := stacker.UpdateIndex(context.Background(), layout, func() error { return failed }); !errors.Is(err, failed) {
		t.Errorf("a change that fails: %v", err)
	}
	// Nobody waits for ever.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	check(t, stacker.UpdateIndex(context.Background(), layout, func() error {
		err := stacker.UpdateIndex(ctx, layout, func() error { return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("it waited, and returned %v", err)
		}
		return nil
	}))
}
