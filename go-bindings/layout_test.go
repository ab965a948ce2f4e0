package puzzlefs_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// TestConfig changes each configuration twice, with the library and with the command: the results
// are the same.
func TestConfig(t *testing.T) {
	image, layout := build(t, makeTree(t), nil)
	config := []byte(`{"config": {"Cmd": ["sh"], "x": 1}}`)
	configFile := filepath.Join(t.TempDir(), "config.json")
	check(t, os.WriteFile(configFile, config, 0o644))
	must(puzzlefs.Config(context.Background(), image, &puzzlefs.ConfigOptions{
		Entrypoint: []string{"/old"},
		Env:        []string{"A=b"},
		Labels:     map[string]string{"a": "b"},
	}))

	cases := []struct {
		name    string
		options *puzzlefs.ConfigOptions
		args    []string
	}{
		// The command refuses to change nothing.
		{"defaults", &puzzlefs.ConfigOptions{}, []string{"--created-by=puzzlefs config"}},
		{
			"lists",
			&puzzlefs.ConfigOptions{
				Entrypoint:   []string{"/bin/sh", "-c"},
				Cmd:          []string{"true", ""},
				Env:          []string{"A=1=2", "B="},
				Volumes:      []string{"/v"},
				ExposedPorts: []string{"80/tcp", "53"},
			},
			[]string{
				"--entrypoint=/bin/sh", "--entrypoint=-c", "--cmd=true", "--cmd=", "--env=A=1=2", "--env=B=",
				"--volume=/v", "--expose=80/tcp", "--expose=53",
			},
		},
		{
			"texts",
			&puzzlefs.ConfigOptions{User: "0:0", WorkingDir: "/tmp", StopSignal: "SIGINT"},
			[]string{"--user=0:0", "--workdir=/tmp", "--stop-signal=SIGINT"},
		},
		{
			"maps",
			&puzzlefs.ConfigOptions{
				Labels:      map[string]string{"b": "=", "a": ""},
				Annotations: map[string]string{"ü": "ö"},
			},
			[]string{"--label=a=", "--label=b==", "--annotation=ü=ö"},
		},
		{
			"clear",
			&puzzlefs.ConfigOptions{Clear: []string{puzzlefs.ClearEnv, puzzlefs.ClearLabels, puzzlefs.ClearAnnotations}},
			[]string{"--clear=config.env", "--clear=config.labels", "--clear=manifest.annotations"},
		},
		{
			"config",
			&puzzlefs.ConfigOptions{Config: config, Architecture: "riscv64", OS: "plan9", Platform: "linux/amd64"},
			[]string{"--config=" + configFile, "--architecture=riscv64", "--os=plan9", "--platform=linux/amd64"},
		},
		{
			"history",
			&puzzlefs.ConfigOptions{Created: time.Unix(-1, 0), Author: "Ada", CreatedBy: "a test", Comment: "why"},
			[]string{"--created=-1", "--author=Ada", "--created-by=a test", "--comment=why"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.options.Tag = "library"
			got := must(puzzlefs.Config(context.Background(), image, c.options))
			args := append([]string{"config", image, "--tag=command", "--json"}, c.args...)
			var want struct {
				Descriptor struct {
					Digest string
					Size   int64
				}
				Verity string
			}
			check(t, json.Unmarshal(command(t, args...), &want))
			if got.Digest != want.Descriptor.Digest || got.Size != want.Descriptor.Size || got.Verity != want.Verity {
				t.Errorf("the library made %+v, the command %+v", got, want)
			}
		})
	}

	// What no option of the command does: no entry point, which is not the same as to leave it.
	must(puzzlefs.Config(context.Background(), image, &puzzlefs.ConfigOptions{Entrypoint: []string{}}))
	opened := must(puzzlefs.Open(image, nil))
	defer opened.Close()
	if document := string(must(opened.Inspect())); !strings.Contains(document, `"Entrypoint":[]`) {
		t.Errorf("there still is an entry point: %s", document)
	}
	if must(puzzlefs.Config(context.Background(), image, nil)).Digest == opened.Digest() {
		t.Error("nothing was added to the history")
	}

	for name, options := range map[string]*puzzlefs.ConfigOptions{
		"a bad tag":        {Tag: "a/b"},
		"an unknown clear": {Clear: []string{"config.onbuild"}},
		"no variable":      {Env: []string{"A"}},
		"no port":          {ExposedPorts: []string{"http"}},
		"NUL in a command": {Cmd: []string{"a\x00b"}},
		"NUL in a label":   {Labels: map[string]string{"a": "\x00"}},
		"no configuration": {Config: []byte("[]")},
	} {
		if _, err := puzzlefs.Config(context.Background(), image, options); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := puzzlefs.Config(context.Background(), layout+":none", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestTags(t *testing.T) {
	image, layout := build(t, makeTree(t), nil)
	ctx := context.Background()
	check(t, puzzlefs.Tag(ctx, image, "v2"))
	check(t, puzzlefs.Untag(ctx, image))
	check(t, puzzlefs.Tag(ctx, layout+":v2", "latest"))
	var printed []puzzlefs.TagEntry
	check(t, json.Unmarshal(command(t, "tags", "--json", layout), &printed))
	got := must(puzzlefs.Tags(layout))
	if !reflect.DeepEqual(got, printed) {
		t.Errorf("the library lists %+v, the command %+v", got, printed)
	}
	var tags []string
	for _, entry := range got {
		tags = append(tags, entry.Tag)
		if entry.Kind != puzzlefs.KindPuzzlefs || entry.Digest == "" || entry.Bytes <= entry.Size || entry.Size <= 0 {
			t.Errorf("%+v", entry)
		}
	}
	if !slices.Equal(tags, []string{"v2", "latest"}) {
		t.Errorf("the tags are %q", tags)
	}
	check(t, puzzlefs.Untag(ctx, layout+"@"+got[0].Digest))
	if left := must(puzzlefs.Tags(layout)); len(left) != 0 {
		t.Errorf("there still is %+v", left)
	}

	missing := filepath.Join(layout, "missing")
	for name, c := range map[string]struct {
		err error
		is  error
	}{
		"no such tag":    {puzzlefs.Tag(ctx, image, "v3"), fs.ErrNotExist},
		"no tag to take": {puzzlefs.Untag(ctx, image), fs.ErrNotExist},
		"no layout":      {second(puzzlefs.Tags(missing)), fs.ErrNotExist},
		"no name":        {puzzlefs.Tag(ctx, layout, "v3"), fs.ErrInvalid},
		"a bad tag":      {puzzlefs.Tag(ctx, image, ""), fs.ErrInvalid},
		"NUL in a tag":   {puzzlefs.Tag(ctx, image, "a\x00"), fs.ErrInvalid},
		"NUL in a name":  {puzzlefs.Untag(ctx, image+"\x00"), fs.ErrInvalid},
		"NUL in a path":  {second(puzzlefs.Tags(layout + "\x00")), fs.ErrInvalid},
	} {
		if !errors.Is(c.err, c.is) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
}

// TestLocked changes a layout that somebody else has locked: it waits no longer than it is told.
func TestLocked(t *testing.T) {
	image, layout := build(t, makeTree(t), nil)
	index := must(os.ReadFile(filepath.Join(layout, "index.json")))
	folder := must(os.Open(layout))
	check(t, syscall.Flock(int(folder.Fd()), syscall.LOCK_SH))
	calls := map[string]func(context.Context) error{
		"Tag":    func(ctx context.Context) error { return puzzlefs.Tag(ctx, image, "v2") },
		"Config": func(ctx context.Context) error { return second(puzzlefs.Config(ctx, image, nil)) },
		"Untag":  func(ctx context.Context) error { return puzzlefs.Untag(ctx, image) },
	}
	for name, call := range calls {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		cancel()
	}
	if now := must(os.ReadFile(filepath.Join(layout, "index.json"))); !bytes.Equal(now, index) {
		t.Errorf("the index is %s", now)
	}
	check(t, folder.Close())
	for _, name := range []string{"Tag", "Config", "Untag"} {
		if err := calls[name](context.Background()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second[T any](_ T, err error) error {
	return err
}

func TestGC(t *testing.T) {
	image, layout := build(t, makeTree(t), nil)
	entry := must(puzzlefs.Tags(layout))[0]
	leftover := filepath.Join(layout, ".puzzlefs-leftover")
	check(t, os.WriteFile(leftover, []byte("12345"), 0o644))
	ctx := context.Background()
	check(t, puzzlefs.Untag(ctx, image))

	// All blobs are young.
	want := &puzzlefs.GCReport{Removed: []string{}, Leftovers: 1, BytesLeftovers: 5, BytesYoung: entry.Bytes}
	got := must(puzzlefs.GC(ctx, layout, &puzzlefs.GCOptions{DryRun: true}))
	want.Young = got.Young
	if !reflect.DeepEqual(got, want) || got.Young < 4 {
		t.Errorf("it found %+v, and not %+v", got, want)
	}
	if must(puzzlefs.GC(ctx, layout, nil)).Young != got.Young {
		t.Error("young blobs were deleted")
	}

	stages := make(map[puzzlefs.Stage]bool)
	options := &puzzlefs.GCOptions{
		Grace:    puzzlefs.NoGrace,
		DryRun:   true,
		Progress: func(p puzzlefs.Progress) { stages[p.Stage] = true },
	}
	told := must(puzzlefs.GC(ctx, layout, options))
	if !stages[puzzlefs.StageDelete] || len(stages) != 1 {
		t.Errorf("the stages were %v", stages)
	}
	if int64(len(told.Removed)) != want.Young || told.Bytes != entry.Bytes || !slices.Contains(told.Removed, entry.Digest) {
		t.Errorf("it would delete %+v", told)
	}

	// Who wants no more, loses nothing.
	cancelled, cancel := context.WithCancel(ctx)
	options.DryRun, options.Progress = false, nil
	cancel()
	if _, err := puzzlefs.GC(cancelled, layout, options); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if got := must(puzzlefs.GC(ctx, layout, options)); !slices.Equal(got.Removed, told.Removed) {
		t.Errorf("it deleted %q, and not %q", got.Removed, told.Removed)
	}
	if left := must(os.ReadDir(filepath.Join(layout, "blobs/sha256"))); len(left) != 0 {
		t.Errorf("there still is %v", left)
	}

	if _, err := puzzlefs.GC(ctx, layout+"/missing", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := puzzlefs.GC(ctx, "\x00", nil); !errors.Is(err, fs.ErrInvalid) {
		t.Error(err)
	}
	check(t, os.WriteFile(filepath.Join(layout, "index.json"), []byte("{"), 0o644))
	if _, err := puzzlefs.GC(ctx, layout, nil); !errors.Is(err, puzzlefs.ErrCorrupt) {
		t.Error(err)
	}
}

func TestDiff(t *testing.T) {
	rootfs := makeTree(t)
	first, _ := build(t, rootfs, nil)
	check(t, os.Chmod(filepath.Join(rootfs, "file"), 0o600))
	check(t, os.Remove(filepath.Join(rootfs, "nothing")))
	odd := "odd \xff"
	check(t, os.Symlink("x", filepath.Join(rootfs, odd)))
	check(t, os.Chtimes(rootfs, time.Time{}, time.Unix(5, 0)))
	second, _ := build(t, rootfs, nil)

	old, changed := must(puzzlefs.Open(first, nil)), must(puzzlefs.Open(second, nil))
	defer old.Close()
	changes := make(map[string]puzzlefs.Change)
	for change, err := range old.Diff(changed) {
		check(t, err)
		changes[change.Path] = change
		if (len(change.How) != 0) != (change.Kind == puzzlefs.Changed) {
			t.Errorf("%+v", change)
		}
	}
	for path, kind := range map[string]puzzlefs.ChangeKind{
		"/":        puzzlefs.Changed,
		"/file":    puzzlefs.Changed,
		"/nothing": puzzlefs.Removed,
		"/" + odd:  puzzlefs.Added,
		"/setuid":  "",
	} {
		if changes[path].Kind != kind {
			t.Errorf("%q is %q, and not %q", path, changes[path].Kind, kind)
		}
	}
	if !slices.Contains(changes["/file"].How, puzzlefs.AspectMode) {
		t.Errorf("%+v", changes["/file"])
	}
	if size := must(old.DiffSize(changed)); size.BytesMetadata == 0 {
		t.Errorf("the metadata is said to be the same: %+v", size)
	}
	for change, err := range old.Diff(old) {
		t.Errorf("an image differs from itself: %+v %v", change, err)
	}
	if size := must(old.DiffSize(old)); *size != (puzzlefs.DiffSize{}) {
		t.Errorf("an image adds to itself: %+v", size)
	}
	check(t, changed.Close())
	for _, pair := range [][2]*puzzlefs.Image{{old, changed}, {changed, old}} {
		if err := firstError(pair[0].Diff(pair[1])); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		if _, err := pair[0].DiffSize(pair[1]); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
	}
}

// firstError returns the first error that is told.
func firstError(changes iter.Seq2[puzzlefs.Change, error]) error {
	for _, err := range changes {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestDiffLeft leaves the loop in all ways, and closes the images in it.
func TestDiffLeft(t *testing.T) {
	const files = 5000
	first, _ := build(t, t.TempDir(), nil)
	rootfs := t.TempDir()
	for i := range files {
		check(t, os.WriteFile(filepath.Join(rootfs, fmt.Sprintf("%0100d", i)), nil, 0o644))
	}
	second, _ := build(t, rootfs, nil)
	enough := errors.New("enough")
	cases := []struct {
		name  string
		leave func() error
		seen  int
		ended any
	}{
		{"to the end", func() error { return nil }, 1 + files, nil},
		{"with an error", func() error { return enough }, 1, enough},
		{"with a panic", func() error { panic("no") }, 1, "no"},
		{"with the goroutine", func() error { runtime.Goexit(); return nil }, 1, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			old, changed := must(puzzlefs.Open(first, nil)), must(puzzlefs.Open(second, nil))
			var seen int
			var ended any
			var group sync.WaitGroup
			group.Add(1)
			go func() {
				defer group.Done()
				defer func() {
					if panicked := recover(); panicked != nil {
						ended = panicked
					}
				}()
				for _, err := range old.Diff(changed) {
					if err != nil {
						panic(err)
					}
					if seen == 0 && errors.Join(old.Close(), changed.Close()) != nil {
						panic("they do not close")
					}
					seen++
					if err := c.leave(); err != nil {
						ended = err
						return
					}
				}
			}()
			group.Wait()
			if seen != c.seen || ended != c.ended {
				t.Errorf("after %d it ended with %v", seen, ended)
			}
		})
	}
}
