package stacker_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/opencontainers/umoci"
	"golang.org/x/sys/unix"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
	"github.com/project-machine/libpuzzlefs/go-bindings/stacker"
)

// base is a base image in a cache.
type base struct {
	cache string
	layer ispec.Descriptor
	tree  []string
}

func makeBase(t *testing.T) base {
	t.Helper()
	cache, tree := filepath.Join(t.TempDir(), "cache"), makeTree(t)
	must(puzzlefs.Build(context.Background(), tree, cache+":base", nil))
	oci := must(umoci.OpenLayout(cache))
	defer oci.Close()
	manifest := must(stacker.Lookup(context.Background(), oci, "base"))
	return base{cache, manifest.Layers[0], describe(t, tree)}
}

// unpack unpacks the base.
func (b base) unpack(u *stacker.Unpacker, dir string) error {
	return u.Unpack(context.Background(), b.cache, b.layer, dir)
}

// TestUnpack fills folders, in which there may be what an earlier attempt left.
func TestUnpack(t *testing.T) {
	b := makeBase(t)
	cases := []struct {
		name    string
		prepare func(t *testing.T, dir string)
	}{
		{"nothing", func(*testing.T, string) {}},
		{"an empty directory", func(t *testing.T, dir string) {
			check(t, os.MkdirAll(dir, 0o755))
		}},
		{"half of it", func(t *testing.T, dir string) {
			write(t, filepath.Join(filepath.Dir(dir), ".partial-123", "etc/motd"), []byte("welc"))
		}},
		{"a mount that nobody serves", func(t *testing.T, dir string) {
			check(t, os.MkdirAll(dir, 0o755))
			leaveMount(t, b.cache+":base", dir)
		}},
	}
	for _, c := range cases {
		for _, mount := range []bool{false, true} {
			name := "extract over " + c.name
			if mount {
				name = "mount over " + c.name
			}
			t.Run(name, func(t *testing.T) {
				dir := filepath.Join(t.TempDir(), "layer/overlay")
				c.prepare(t, dir)
				u := stacker.Unpacker{Mount: mount}
				check(t, b.unpack(&u, dir))
				compare(t, "the folder", describe(t, dir), b.tree)
				if entries := must(os.ReadDir(filepath.Dir(dir))); len(entries) != 1 {
					t.Errorf("the folder has %v", entries)
				}
				// The next one does nothing.
				before := inode(t, dir)
				check(t, b.unpack(&u, dir))
				if after := inode(t, dir); after != before {
					t.Errorf("it was inode %v, and is %v", before, after)
				}
				check(t, u.Close())
				if entries := must(os.ReadDir(dir)); mount != (len(entries) == 0) {
					t.Errorf("closed, the folder has %v", entries)
				}
			})
		}
	}
}

// leaveMount mounts an image by a process that is killed.
func leaveMount(t *testing.T, image, dir string) {
	t.Helper()
	pipe := filepath.Join(t.TempDir(), "pipe")
	check(t, syscall.Mkfifo(pipe, 0o600))
	cmd := exec.Command("puzzlefs", "mount", "--foreground", "--init-pipe", pipe, image, dir)
	cmd.Stderr = os.Stderr
	check(t, cmd.Start())
	told := must(os.ReadFile(pipe))
	check(t, cmd.Process.Kill())
	_ = cmd.Wait()
	if string(told) != "s" {
		t.Fatalf("it told %q", told)
	}
	if _, err := os.Stat(dir); !errors.Is(err, syscall.ENOTCONN) {
		t.Fatalf("the mount is not dead: %v", err)
	}
}

// inode tells a file apart from all others.
func inode(t *testing.T, path string) [2]uint64 {
	t.Helper()
	var stat unix.Stat_t
	check(t, unix.Stat(path, &stat))
	return [2]uint64{stat.Dev, stat.Ino}
}

// TestUnpackAtOnce has several that fill the same folder.
func TestUnpackAtOnce(t *testing.T) {
	b := makeBase(t)
	dir := filepath.Join(t.TempDir(), "layer/overlay")
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			// Each is a stacker of its own.
			if err := b.unpack(&stacker.Unpacker{}, dir); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	compare(t, "the folder", describe(t, dir), b.tree)
}

func TestUnpackErrors(t *testing.T) {
	b := makeBase(t)
	step := b.layer
	step.Annotations = nil
	missing := b.layer
	missing.Annotations = map[string]string{}
	for key := range b.layer.Annotations {
		missing.Annotations[key] = "sha256:" + strings.Repeat("0", 64)
	}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	cases := []struct {
		name  string
		ctx   context.Context
		layer ispec.Descriptor
		is    error
	}{
		{"a step whose folder is gone", context.Background(), step, fs.ErrNotExist},
		{"an image that is not there", context.Background(), missing, fs.ErrNotExist},
		{"cancelled", cancelled, b.layer, context.Canceled},
	}
	for _, c := range cases {
		for _, mount := range []bool{false, true} {
			dir := filepath.Join(t.TempDir(), "layer/overlay")
			err := (&stacker.Unpacker{Mount: mount}).Unpack(c.ctx, b.cache, c.layer, dir)
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%s: %v", c.name, err)
			}
			if entries, err := os.ReadDir(dir); len(entries) > 0 {
				t.Errorf("%s: there is %v, %v", c.name, entries, err)
			}
		}
	}
}
