package puzzlefs_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func TestErrors(t *testing.T) {
	rootfs := makeTree(t)
	name, layout := build(t, rootfs, nil)
	image := must(puzzlefs.Open(name, nil))
	defer image.Close()
	missing := filepath.Join(t.TempDir(), "missing")
	_, damaged := build(t, rootfs, nil)
	check(t, os.WriteFile(damaged+"/index.json", []byte("{"), 0o644))
	_, newer := build(t, rootfs, nil)
	check(t, os.WriteFile(newer+"/oci-layout", []byte(`{"imageLayoutVersion": "2.0.0"}`), 0o644))
	digest := "@sha256:" + strings.Repeat("0", 64)
	readOnly := mount(t, image, nil).Point()
	full := t.TempDir()
	// Its root takes the one inode that it may have.
	mountSystem(t, "tmpfs", full, "tmpfs", 0, "nr_inodes=1")
	// A file of sysfs is shorter than its size says.
	changing := t.TempDir()
	check(t, os.WriteFile(changing+"/file", nil, 0o644))
	mountSystem(t, "/sys/kernel/uevent_seqnum", changing+"/file", "", syscall.MS_BIND, "")

	build := func(rootfs, image string) error {
		_, err := puzzlefs.Build(context.Background(), rootfs, image, nil)
		return err
	}
	open := func(image, platform string) error {
		_, err := puzzlefs.Open(image, &puzzlefs.OpenOptions{Platform: platform})
		return err
	}
	extract := func(dir string) error {
		_, err := image.Extract(context.Background(), dir, nil)
		return err
	}
	sub := func(dir string) error {
		_, err := image.Sub(dir)
		return err
	}
	fsck := func(target string) error {
		_, err := puzzlefs.Fsck(context.Background(), target, nil)
		return err
	}
	cases := []struct {
		name string
		err  error
		// What it is, and the path that it is about.
		is   []error
		path string
	}{
		{"build nothing", build(missing, name), []error{fs.ErrNotExist, syscall.ENOENT}, missing},
		{"build a file", build(rootfs+"/file", name), []error{puzzlefs.ErrIO, syscall.ENOTDIR}, rootfs + "/file"},
		{"build into a file", build(rootfs, rootfs+"/file:v1"), []error{fs.ErrInvalid}, rootfs + "/file"},
		{"build into itself", build(rootfs, rootfs+"/layout:v1"), []error{fs.ErrInvalid}, rootfs + "/layout"},
		{"build what changes", build(changing, name), []error{puzzlefs.ErrChanged}, changing + "/file"},
		{"a full disk", build(rootfs, full+"/layout:v1"), []error{puzzlefs.ErrNoSpace, syscall.ENOSPC}, full + "/layout"},
		{"a read-only disk", build(rootfs, readOnly+"/x:v1"), []error{puzzlefs.ErrIO, syscall.EROFS}, readOnly + "/x"},
		// Nobody, not even root, may make a folder in sysfs.
		{"build where nobody may", build(rootfs, "/sys/x:v1"), []error{fs.ErrPermission, syscall.EPERM}, "/sys/x"},
		{"no tag", build(rootfs, layout), []error{fs.ErrInvalid}, ""},
		{"a bad tag", build(rootfs, layout+":a b"), []error{fs.ErrInvalid}, ""},
		{"a digest as tag", build(rootfs, layout+digest), []error{fs.ErrInvalid}, ""},
		{"no layout", open(missing+":v1", ""), []error{fs.ErrNotExist}, missing},
		{"no such tag", open(layout+":v2", ""), []error{fs.ErrNotExist}, layout},
		{"no such digest", open(layout+digest, ""), []error{fs.ErrNotExist}, layout},
		{"a damaged index", open(damaged+":v1", ""), []error{puzzlefs.ErrCorrupt}, damaged + "/index.json"},
		{"a newer layout", open(newer+":v1", ""), []error{errors.ErrUnsupported}, newer + "/oci-layout"},
		{"a bad platform", open(name, "x"), []error{fs.ErrInvalid}, ""},
		{"no part", sub("nowhere"), []error{fs.ErrNotExist}, "nowhere"},
		{"extract to a full directory", extract(rootfs), []error{fs.ErrExist}, rootfs},
		{"extract to nowhere", extract(missing + "/dir"), []error{fs.ErrNotExist, syscall.ENOENT}, missing + "/dir"},
		{"check nothing", fsck(missing), []error{fs.ErrNotExist}, missing},
		// A NUL would end a path in C: what is before it exists.
		{"NUL in a rootfs", build(rootfs+"\x00", name), []error{fs.ErrInvalid}, rootfs + "\x00"},
		{"NUL in a new image", build(rootfs, name+"\x00"), []error{fs.ErrInvalid}, name + "\x00"},
		{"NUL in an image", open(name+"\x00", ""), []error{fs.ErrInvalid}, name + "\x00"},
		{"NUL in a platform", open(name, "linux\x00"), []error{fs.ErrInvalid}, "linux\x00"},
		{"NUL in a directory", extract(missing + "\x00"), []error{fs.ErrInvalid}, missing + "\x00"},
		{"NUL in a target", fsck(layout + "\x00"), []error{fs.ErrInvalid}, layout + "\x00"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var err *puzzlefs.Error
			if !errors.As(c.err, &err) {
				t.Fatalf("it is a %T: %v", c.err, c.err)
			}
			for _, want := range c.is {
				if !errors.Is(err, want) {
					t.Errorf("%v: it is not %v", err, want)
				}
			}
			if err.Path != c.path {
				t.Errorf("%v: the path is %q, not %q", err, err.Path, c.path)
			}
			if strings.ContainsAny(err.Message, "\x00\n") {
				t.Errorf("the message is %q", err.Message)
			}
		})
	}
}

// TestEnded calls everything that takes a context with one that has ended: nothing is done.
func TestEnded(t *testing.T) {
	rootfs := makeTree(t)
	name, layout := build(t, rootfs, nil)
	image := must(puzzlefs.Open(name, nil))
	defer image.Close()
	mounted := mount(t, image, nil)
	dir := filepath.Join(t.TempDir(), "dir")
	var written bytes.Buffer
	base := &puzzlefs.BuildOptions{Base: name}
	calls := map[string]func(context.Context) (any, error){
		"Build":        func(ctx context.Context) (any, error) { return puzzlefs.Build(ctx, rootfs, layout+":v2", nil) },
		"Delta":        func(ctx context.Context) (any, error) { return puzzlefs.Delta(ctx, rootfs, layout+":v2", base) },
		"Canonicalize": func(ctx context.Context) (any, error) { return puzzlefs.Canonicalize(ctx, name, layout+":v2", nil) },
		"Convert":      func(ctx context.Context) (any, error) { return puzzlefs.Convert(ctx, name, layout+":v2", nil) },
		"Fsck":         func(ctx context.Context) (any, error) { return puzzlefs.Fsck(ctx, layout, nil) },
		"GC":           func(ctx context.Context) (any, error) { return puzzlefs.GC(ctx, layout, nil) },
		"Extract":      func(ctx context.Context) (any, error) { return image.Extract(ctx, dir, nil) },
		"Export":       func(ctx context.Context) (any, error) { return image.Export(ctx, &written, nil) },
		"Check":        func(ctx context.Context) (any, error) { return (*struct{})(nil), image.Check(ctx, image.Digest(), nil) },
		"EnableVerity": func(ctx context.Context) (any, error) { return (*struct{})(nil), image.EnableVerity(ctx, "", nil) },
		"Mount":        func(ctx context.Context) (any, error) { return image.Mount(ctx, rootfs, nil) },
		"Mount.Wait":   func(ctx context.Context) (any, error) { return (*struct{})(nil), mounted.Wait(ctx) },
	}
	reason := errors.New("the user left")
	cancelled, cancel := context.WithCancelCause(context.Background())
	cancel(reason)
	late, stop := context.WithDeadlineCause(context.Background(), time.Unix(0, 0), reason)
	defer stop()
	before := list(t, layout)
	for ctx, kind := range map[context.Context]error{
		cancelled: context.Canceled,
		late:      context.DeadlineExceeded,
	} {
		for name, call := range calls {
			result, err := call(ctx)
			var failure *puzzlefs.Error
			if !errors.As(err, &failure) || !errors.Is(err, kind) || !errors.Is(err, reason) {
				t.Errorf("%s: %v, which is not %v", name, err, kind)
			}
			if !reflect.ValueOf(result).IsNil() {
				t.Errorf("%s returned %+v", name, result)
			}
		}
	}
	if after := list(t, layout); !reflect.DeepEqual(after, before) {
		t.Errorf("the layout has %v, had %v", after, before)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) || written.Len() != 0 || isMounted(t, rootfs) {
		t.Errorf("something was done: %v, %d bytes", err, written.Len())
	}
}

// TestBadOptions builds with options that make no sense: nothing is made.
func TestBadOptions(t *testing.T) {
	rootfs, layout := t.TempDir(), filepath.Join(t.TempDir(), "layout")
	cases := []struct {
		name    string
		options puzzlefs.BuildOptions
		is      error
	}{
		{"unknown compression", puzzlefs.BuildOptions{Compression: 9}, errors.ErrUnsupported},
		{"negative compression", puzzlefs.BuildOptions{Compression: -1}, fs.ErrInvalid},
		{"unknown data layout", puzzlefs.BuildOptions{DataLayout: 9}, errors.ErrUnsupported},
		{"high level", puzzlefs.BuildOptions{Level: 23}, fs.ErrInvalid},
		{"level of 33 bits", puzzlefs.BuildOptions{Level: 1<<32 + 1}, fs.ErrInvalid},
		{"odd pack size", puzzlefs.BuildOptions{PackSize: 3}, fs.ErrInvalid},
		{"negative pack size", puzzlefs.BuildOptions{PackSize: -1 << 63}, fs.ErrInvalid},
		{"many threads", puzzlefs.BuildOptions{Threads: 257}, fs.ErrInvalid},
		{"negative threads", puzzlefs.BuildOptions{Threads: -1}, fs.ErrInvalid},
		{"threads of 33 bits", puzzlefs.BuildOptions{Threads: 1<<32 + 1}, fs.ErrInvalid},
		{"nobody", puzzlefs.BuildOptions{Owner: &puzzlefs.Owner{UID: 1<<32 - 1}}, fs.ErrInvalid},
		{"no JSON", puzzlefs.BuildOptions{Config: []byte("{")}, fs.ErrInvalid},
		{"no UTF-8", puzzlefs.BuildOptions{Comment: "\xff"}, fs.ErrInvalid},
		{"bad pattern", puzzlefs.BuildOptions{Exclude: []string{"["}}, fs.ErrInvalid},
		{"NUL in a pattern", puzzlefs.BuildOptions{Exclude: []string{"a", "b\x00"}}, fs.ErrInvalid},
		{"NUL in a key", puzzlefs.BuildOptions{Annotations: map[string]string{"a\x00": "b"}}, fs.ErrInvalid},
		{"NUL in a value", puzzlefs.BuildOptions{Annotations: map[string]string{"a": "b\x00"}}, fs.ErrInvalid},
		{"NUL in a text", puzzlefs.BuildOptions{Author: "a\x00"}, fs.ErrInvalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			built, err := puzzlefs.Build(context.Background(), rootfs, layout+":v1", &c.options)
			var failure *puzzlefs.Error
			if built != nil || !errors.As(err, &failure) || !errors.Is(err, c.is) {
				t.Errorf("it returned %+v and %v", built, err)
			}
			if _, err := os.Lstat(layout); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("there is a layout: %v", err)
			}
		})
	}
}
