package puzzlefs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// TestBuild builds each image twice, with the library and with the command: they are the same.
func TestBuild(t *testing.T) {
	rootfs := makeTree(t)
	config := []byte(`{"architecture": "arm64", "os": "linux", "config": {"Cmd": ["sh"]}}`)
	configFile := filepath.Join(t.TempDir(), "config.json")
	check(t, os.WriteFile(configFile, config, 0o644))
	created := time.Date(2024, 5, 31, 12, 0, 0, 0, time.FixedZone("", 3600))

	cases := []struct {
		name    string
		options *puzzlefs.BuildOptions
		args    []string
		// Whether the image is the same as without the options.
		plain bool
	}{
		{"nil", nil, nil, true},
		{"defaults", &puzzlefs.BuildOptions{}, nil, true},
		{
			"exclude",
			&puzzlefs.BuildOptions{Exclude: []string{"no*", "dir/nested"}},
			[]string{"--exclude=no*", "--exclude=dir/nested"},
			false,
		},
		{"one file system", &puzzlefs.BuildOptions{OneFileSystem: true}, []string{"--one-file-system"}, true},
		{"SELinux", &puzzlefs.BuildOptions{SELinux: true}, []string{"--selinux"}, false},
		{
			"owner",
			&puzzlefs.BuildOptions{Owner: &puzzlefs.Owner{UID: 7, GID: 1<<32 - 2}},
			[]string{"--owner=7:4294967294"},
			false,
		},
		{"root", &puzzlefs.BuildOptions{Owner: &puzzlefs.Owner{}}, []string{"--owner=0:0"}, false},
		{
			"clamp mtime",
			&puzzlefs.BuildOptions{ClampMtime: time.Unix(1000000000, 5)},
			[]string{"--clamp-mtime=1000000000"},
			false,
		},
		{"epoch", &puzzlefs.BuildOptions{ClampMtime: time.Unix(0, 0)}, []string{"--clamp-mtime=0"}, false},
		{
			"no compression",
			&puzzlefs.BuildOptions{Compression: puzzlefs.NoCompression},
			[]string{"--compression=none"},
			false,
		},
		{"level", &puzzlefs.BuildOptions{Level: -7}, []string{"--compression=zstd:-7"}, false},
		{
			"blob per chunk",
			&puzzlefs.BuildOptions{DataLayout: puzzlefs.BlobPerChunk},
			[]string{"--layout=blob-per-chunk"},
			false,
		},
		{"pack size", &puzzlefs.BuildOptions{PackSize: 2 << 20}, []string{"--pack-size=2M"}, false},
		{"config", &puzzlefs.BuildOptions{Config: config}, []string{"--config=" + configFile}, false},
		{
			"platform",
			&puzzlefs.BuildOptions{Architecture: "riscv64", OS: "plan9"},
			[]string{"--architecture=riscv64", "--os=plan9"},
			false,
		},
		{
			"annotations",
			&puzzlefs.BuildOptions{Annotations: map[string]string{"b": "", "a": "1=2", "ü": "ö"}},
			[]string{"--annotation=a=1=2", "--annotation=b=", "--annotation=ü=ö"},
			false,
		},
		{"created", &puzzlefs.BuildOptions{Created: created}, []string{"--created=2024-05-31T11:00:00Z"}, false},
		{
			"history",
			&puzzlefs.BuildOptions{Author: "A. Uthor", CreatedBy: "a test", Comment: "no\ncomment"},
			[]string{"--author=A. Uthor", "--created-by=a test", "--comment=no\ncomment"},
			false,
		},
		{"threads", &puzzlefs.BuildOptions{Threads: 1}, []string{"--threads=1"}, true},
	}
	var plain string
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			ours, theirs := filepath.Join(dir, "library:v1"), filepath.Join(dir, "command:v1")
			got := must(puzzlefs.Build(context.Background(), rootfs, ours, c.options))
			args := append([]string{"build", "--quiet", "--json", rootfs, theirs}, c.args...)
			want := buildResult(t, command(t, args...))
			if !reflect.DeepEqual(got, want) {
				t.Errorf("the library built\n%+v, the command\n%+v", got, want)
			}
			if plain == "" {
				plain = got.Digest
			}
			if (got.Digest == plain) != c.plain {
				t.Errorf("the image is %s, the one without options %s", got.Digest, plain)
			}
		})
	}
}

// buildResult reads what `puzzlefs build --json` prints.
func buildResult(t *testing.T, text []byte) *puzzlefs.BuildResult {
	t.Helper()
	var built struct {
		Descriptor struct {
			Digest string
			Size   int64
		}
		Verity                        string
		Inodes, Files, Layers, Chunks int64
		NewChunks                     int64 `json:"new_chunks"`
		UnchangedFiles                int64 `json:"unchanged_files"`
		Bytes                         struct{ Tree, Read, New, Moved, Stored, Copied, Shared, Metadata int64 }
	}
	check(t, json.Unmarshal(text, &built))
	return &puzzlefs.BuildResult{
		Digest:         built.Descriptor.Digest,
		Size:           built.Descriptor.Size,
		Verity:         built.Verity,
		Inodes:         built.Inodes,
		Files:          built.Files,
		Layers:         built.Layers,
		Chunks:         built.Chunks,
		NewChunks:      built.NewChunks,
		BytesTree:      built.Bytes.Tree,
		BytesRead:      built.Bytes.Read,
		BytesNew:       built.Bytes.New,
		UnchangedFiles: built.UnchangedFiles,
		BytesMoved:     built.Bytes.Moved,
		BytesCopied:    built.Bytes.Copied,
		BytesStored:    built.Bytes.Stored,
		BytesShared:    built.Bytes.Shared,
		BytesMetadata:  built.Bytes.Metadata,
	}
}

func TestBuildProgress(t *testing.T) {
	rootfs := makeTree(t)
	var seen []puzzlefs.Progress
	options := &puzzlefs.BuildOptions{Progress: func(p puzzlefs.Progress) { seen = append(seen, p) }}
	image := filepath.Join(t.TempDir(), "layout:v1")
	built := must(puzzlefs.Build(context.Background(), rootfs, image, options))

	last := seen[len(seen)-1]
	want := puzzlefs.Progress{Stage: puzzlefs.StageStore, Done: built.BytesTree, Total: built.BytesTree}
	if last != want {
		t.Errorf("the last progress was %v, not %v", last, want)
	}
	ordered := slices.IsSortedFunc(seen, func(a, b puzzlefs.Progress) int {
		if a.Stage != b.Stage {
			return int(a.Stage - b.Stage)
		}
		return int(a.Done - b.Done)
	})
	if !ordered {
		t.Errorf("progress went back: %v", seen)
	}
}

// TestBuildCancel stops builds at different times: the layout is as it was.
func TestBuildCancel(t *testing.T) {
	small, large := makeTree(t), t.TempDir()
	check(t, os.WriteFile(filepath.Join(large, "noise"), noise(64<<20), 0o644))
	reason := errors.New("the user left")

	cases := []struct {
		name    string
		before  bool
		timeout time.Duration
		// When to cancel; nil for a build whose progress nobody looks at.
		when func(puzzlefs.Progress) bool
		is   error
	}{
		{"before", true, 0, nil, context.Canceled},
		{"scan", false, 0, func(puzzlefs.Progress) bool { return true }, context.Canceled},
		{
			"store",
			false,
			0,
			func(p puzzlefs.Progress) bool { return p.Stage == puzzlefs.StageStore },
			context.Canceled,
		},
		{"timeout", false, 50 * time.Millisecond, nil, context.DeadlineExceeded},
		{
			"timeout with progress",
			false,
			50 * time.Millisecond,
			func(puzzlefs.Progress) bool { return false },
			context.DeadlineExceeded,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, layout := build(t, small, nil)
			before := list(t, layout)
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			if c.before {
				cancel(reason)
			}
			if c.timeout != 0 {
				var stop context.CancelFunc
				ctx, stop = context.WithTimeoutCause(ctx, c.timeout, reason)
				defer stop()
			}
			// The highest level takes so long that no machine is done before it is stopped.
			options := &puzzlefs.BuildOptions{Level: 22}
			if c.when != nil {
				options.Progress = func(p puzzlefs.Progress) {
					if c.when(p) {
						cancel(reason)
					}
				}
			}
			built, err := puzzlefs.Build(ctx, large, layout+":v2", options)
			if built != nil || !errors.Is(err, c.is) || !errors.Is(err, reason) {
				t.Errorf("it returned %+v and %v", built, err)
			}
			if after := list(t, layout); !reflect.DeepEqual(after, before) {
				t.Errorf("the layout has %v, had %v", after, before)
			}
		})
	}
}

// TestBuildPanic has a progress function that panics: so does the build, when it has stopped.
func TestBuildPanic(t *testing.T) {
	_, layout := build(t, makeTree(t), nil)
	before := list(t, layout)
	large := t.TempDir()
	check(t, os.WriteFile(filepath.Join(large, "noise"), noise(64<<20), 0o644))
	defer func() {
		if got := recover(); got != "no" {
			t.Errorf("it panicked with %v", got)
		}
		if after := list(t, layout); !reflect.DeepEqual(after, before) {
			t.Errorf("the layout has %v, had %v", after, before)
		}
	}()
	options := &puzzlefs.BuildOptions{Level: 22, Progress: func(puzzlefs.Progress) { panic("no") }}
	built, err := puzzlefs.Build(context.Background(), large, layout+":v2", options)
	t.Errorf("it returned %+v and %v", built, err)
}

// TestConcurrentBuilds has many goroutines build into one layout at once, some of them the same
// image, while others clean it up.
func TestConcurrentBuilds(t *testing.T) {
	const goroutines, trees = 64, 8
	ctx := context.Background()
	layout := filepath.Join(t.TempDir(), "layout")
	shared := noise(1 << 18)
	rootfs := make([]string, trees)
	for i := range rootfs {
		rootfs[i] = t.TempDir()
		check(t, os.WriteFile(filepath.Join(rootfs[i], "shared"), shared, 0o644))
		check(t, os.WriteFile(filepath.Join(rootfs[i], "own"), fmt.Append(nil, i), 0o644))
	}
	must(puzzlefs.Build(ctx, rootfs[0], layout+":0", nil))

	digests := make([]string, goroutines)
	var group sync.WaitGroup
	for i := range goroutines {
		group.Go(func() {
			image := fmt.Sprintf("%s:%d", layout, i)
			digests[i] = must(puzzlefs.Build(ctx, rootfs[i%trees], image, nil)).Digest
		})
	}
	for range 4 {
		group.Go(func() { must(puzzlefs.GC(ctx, layout, &puzzlefs.GCOptions{Grace: puzzlefs.NoGrace})) })
	}
	group.Wait()

	found := make([]string, goroutines)
	for _, entry := range must(puzzlefs.Tags(layout)) {
		found[must(strconv.Atoi(entry.Tag))] = entry.Digest
	}
	if !slices.Equal(found, digests) {
		t.Errorf("the layout has %q, built was %q", found, digests)
	}
	for i, digest := range digests {
		if digest != digests[i%trees] {
			t.Errorf("one tree became %s and %s", digest, digests[i%trees])
		}
	}
	report := must(puzzlefs.Fsck(ctx, layout, nil))
	if len(report.Findings) != 0 || report.Images != goroutines {
		t.Errorf("the layout has %+v", report)
	}
}

// list returns the paths below dir, and what is in index.json.
func list(t *testing.T, dir string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	check(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Name() == "index.json" {
			found[path] = string(must(os.ReadFile(path)))
			return nil
		}
		found[path] = ""
		return err
	}))
	return found
}
