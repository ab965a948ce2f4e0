package puzzlefs_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func TestOpen(t *testing.T) {
	name, layout := build(t, makeTree(t), nil)
	image := must(puzzlefs.Open(name, nil))
	defer image.Close()

	var inspected, printed map[string]any
	check(t, json.Unmarshal(must(image.Inspect()), &inspected))
	check(t, json.Unmarshal(command(t, "inspect", "--json", name), &printed))
	if !reflect.DeepEqual(inspected, printed) {
		t.Errorf("it is %v, the command says %v", inspected, printed)
	}
	if digest := inspected["manifest"].(map[string]any)["digest"]; digest != image.Digest() {
		t.Errorf("the digest is %s, not %s", image.Digest(), digest)
	}

	same := must(puzzlefs.Open(layout+"@"+image.Digest(), &puzzlefs.OpenOptions{
		Platform: "linux/" + runtime.GOARCH,
		NoVerify: true,
	}))
	if same.Digest() != image.Digest() {
		t.Errorf("by its digest it is %s", same.Digest())
	}
	check(t, same.Close())
}

// TestVerify damages a data blob: only those who do not ask for it read it.
func TestVerify(t *testing.T) {
	rootfs := t.TempDir()
	content := noise(1 << 16)
	check(t, os.WriteFile(filepath.Join(rootfs, "noise"), content, 0o644))
	// Without compression there is no checksum in the data itself.
	name, layout := build(t, rootfs, &puzzlefs.BuildOptions{Compression: puzzlefs.NoCompression})
	damage(t, layout, content[:16])

	for _, noVerify := range []bool{false, true} {
		image := must(puzzlefs.Open(name, &puzzlefs.OpenOptions{NoVerify: noVerify}))
		_, err := image.ReadFile("noise")
		if noVerify && err != nil || !noVerify && !errors.Is(err, puzzlefs.ErrCorrupt) {
			t.Errorf("NoVerify %v: %v", noVerify, err)
		}
		check(t, image.Close())
	}
}

// damage changes a byte in the blob of the layout that begins with these bytes.
func damage(t *testing.T, layout string, begin []byte) {
	t.Helper()
	for _, path := range must(filepath.Glob(layout + "/blobs/sha256/*")) {
		blob := must(os.ReadFile(path))
		if bytes.HasPrefix(blob, begin) {
			blob[0] ^= 1
			check(t, os.WriteFile(path, blob, 0o644))
			return
		}
	}
	t.Fatalf("there is no blob in %s that begins with %q", layout, begin)
}

// TestClosed uses what is closed.
func TestClosed(t *testing.T) {
	name, _ := build(t, makeTree(t), nil)
	image := must(puzzlefs.Open(name, nil))
	type openFile interface {
		fs.File
		io.ReaderAt
		io.Seeker
	}
	type openDir = fs.ReadDirFile
	file, dir := must(image.Open("file")).(openFile), must(image.Open("dir")).(openDir)
	closedFile, closedDir := must(image.Open("file")).(openFile), must(image.Open("dir")).(openDir)
	check(t, closedFile.Close())
	check(t, closedDir.Close())
	entry := must(image.ReadDir("dir"))[0]
	sub := must(image.Sub("dir"))
	check(t, image.Close())

	buffer := make([]byte, 1)
	calls := map[string]func() error{
		"Image.Close":     image.Close,
		"Image.Diff":      func() error { return firstError(image.Diff(image)) },
		"Image.DiffSize":  func() error { _, err := image.DiffSize(image); return err },
		"Image.Extract":   func() error { _, err := image.Extract(context.Background(), t.TempDir(), nil); return err },
		"Image.Inspect":   func() error { _, err := image.Inspect(); return err },
		"Image.Open":      func() error { _, err := image.Open("file"); return err },
		"Image.Stat":      func() error { _, err := image.Stat("file"); return err },
		"Image.Lstat":     func() error { _, err := image.Lstat("link"); return err },
		"Image.ReadLink":  func() error { _, err := image.ReadLink("link"); return err },
		"Image.ReadDir":   func() error { _, err := image.ReadDir("dir"); return err },
		"Image.ReadFile":  func() error { _, err := image.ReadFile("file"); return err },
		"Image.Sub":       func() error { _, err := image.Sub("dir"); return err },
		"Image.Xattrs":    func() error { _, err := image.Xattrs("file"); return err },
		"sub.Open":        func() error { _, err := sub.Open("nested"); return err },
		"DirEntry.Info":   func() error { _, err := entry.Info(); return err },
		"file.Read":       func() error { _, err := file.Read(buffer); return err },
		"file.ReadAt":     func() error { _, err := file.ReadAt(buffer, 0); return err },
		"dir.ReadDir":     func() error { _, err := dir.ReadDir(-1); return err },
		"closed.Stat":     func() error { _, err := closedFile.Stat(); return err },
		"closed.Read":     func() error { _, err := closedFile.Read(buffer); return err },
		"closed.ReadAt":   func() error { _, err := closedFile.ReadAt(buffer, 0); return err },
		"closed.Seek":     func() error { _, err := closedFile.Seek(0, io.SeekStart); return err },
		"closed.Close":    closedFile.Close,
		"closed.ReadDir":  func() error { _, err := closedDir.ReadDir(-1); return err },
		"closedDir.Close": closedDir.Close,
	}
	for what, call := range calls {
		if err := call(); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, c := range []io.Closer{file, dir} {
		if err := c.Close(); err != nil {
			t.Errorf("a file that outlived its image does not close: %v", err)
		}
	}
}

// TestConcurrent reads by many goroutines; half way, the image is closed.
func TestConcurrent(t *testing.T) {
	const goroutines, reads = 64, 50
	rootfs := makeTree(t)
	want := make(map[string][]byte)
	for _, name := range []string{"noise", "text", "sparse", "file"} {
		want[name] = must(os.ReadFile(filepath.Join(rootfs, name)))
	}
	for _, closing := range []bool{false, true} {
		t.Run(fmt.Sprintf("closing %v", closing), func(t *testing.T) {
			image := open(t, rootfs)
			files := make(map[string]io.ReaderAt)
			for name := range want {
				files[name] = must(image.Open(name)).(io.ReaderAt)
			}
			var group sync.WaitGroup
			for number := range goroutines {
				group.Go(func() {
					for range reads {
						for name, file := range files {
							offset := rand.IntN(len(want[name]))
							buffer := make([]byte, min(1+rand.IntN(1<<17), len(want[name])-offset))
							_, err := file.ReadAt(buffer, int64(offset))
							if closing && errors.Is(err, fs.ErrClosed) {
								return
							}
							if err != nil || !bytes.Equal(buffer, want[name][offset:][:len(buffer)]) {
								t.Errorf("%s: %d bytes at %d: %v", name, len(buffer), offset, err)
							}
						}
					}
				})
				if closing && number == goroutines/2 {
					group.Go(func() { image.Close() })
				}
			}
			group.Wait()
		})
	}
}

// TestConcurrentUse has many goroutines ask for everything in one image at once.
func TestConcurrentUse(t *testing.T) {
	rootfs := makeTree(t)
	image, other := open(t, rootfs), open(t, filepath.Join(rootfs, "dir"))
	want := must(describe(image, other))
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			if got, err := describe(image, other); got != want || err != nil {
				t.Errorf("it says\n%s (%v), said\n%s", got, err, want)
			}
		})
	}
	group.Wait()
}

// describe returns all that an image says of its files, and how another one differs.
func describe(image, other *puzzlefs.Image) (string, error) {
	text := new(strings.Builder)
	size, err := image.DiffSize(other)
	if err != nil {
		return "", err
	}
	fmt.Fprintf(text, "%s %+v\n", image.Digest(), size)
	for change, err := range image.Diff(other) {
		if err != nil {
			return "", err
		}
		fmt.Fprintf(text, "%+v\n", change)
	}
	err = fs.WalkDir(image, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		xattrs, err := image.Xattrs(name)
		if err != nil {
			return err
		}
		fmt.Fprintf(text, "%q %+v %q\n", name, info.Sys(), xattrs)
		return describeContent(text, image, name, entry.Type())
	})
	return text.String(), err
}

func describeContent(text io.Writer, image *puzzlefs.Image, name string, kind fs.FileMode) error {
	switch kind {
	case fs.ModeSymlink:
		target, err := image.ReadLink(name)
		fmt.Fprintf(text, "-> %q\n", target)
		return err
	case 0:
		content, err := image.ReadFile(name)
		fmt.Fprintf(text, "%x\n", sha256.Sum256(content))
		return err
	default:
		return nil
	}
}

// TestForgotten opens a thousand images that nobody closes: the garbage collector does.
func TestForgotten(t *testing.T) {
	name, _ := build(t, makeTree(t), nil)
	const count = 1000
	var before, during, after resources
	// The first round brings what stays: threads, and arenas of the allocator.
	for range 2 {
		before = used(t)
		images := make([]*puzzlefs.Image, count)
		for i := range images {
			images[i] = must(puzzlefs.Open(name, nil))
			must(images[i].ReadFile("text"))
		}
		during = used(t)
		runtime.KeepAlive(images)
		for deadline := time.Now().Add(time.Minute); ; {
			runtime.GC()
			after = used(t)
			if after.files <= before.files {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v stays in use, was %+v", after, before)
			}
		}
	}
	if during.files < before.files+count {
		t.Errorf("the images had nothing open: %+v, before %+v", during, before)
	}
	// Go and the allocator come and go with a few of their own.
	const slack = count / 10
	if after.mappings > before.mappings+slack || after.threads > before.threads+slack {
		t.Errorf("%+v is in use, was %+v", after, before)
	}
}

// TestNotForgotten uses what belongs to images that nobody has any more: they stay open for it.
func TestNotForgotten(t *testing.T) {
	name, _ := build(t, makeTree(t), nil)
	open := func() *puzzlefs.Image { return must(puzzlefs.Open(name, nil)) }
	file, sub, entry := must(open().Open("file")), must(open().Sub("dir")), must(open().ReadDir("dir"))[0]
	runtime.GC()
	// Once what is forgotten later is cleaned up, so are the images, if they ever are.
	var cleaned atomic.Bool
	runtime.AddCleanup(new(resources), func(done *atomic.Bool) { done.Store(true) }, &cleaned)
	for !cleaned.Load() {
		runtime.GC()
	}
	if content, err := io.ReadAll(file); string(content) != "hello\n" {
		t.Errorf("a file holds %q (%v)", content, err)
	}
	if content, err := fs.ReadFile(sub, "up"); string(content) != "hello\n" {
		t.Errorf("a part holds %q (%v)", content, err)
	}
	if _, err := entry.Info(); err != nil {
		t.Error(err)
	}
}

// resources is how much of each the process has.
type resources struct {
	files, mappings, threads int
}

func used(t *testing.T) resources {
	t.Helper()
	return resources{
		files:    len(must(os.ReadDir("/proc/self/fd"))),
		mappings: bytes.Count(must(os.ReadFile("/proc/self/maps")), []byte("\n")),
		threads:  len(must(os.ReadDir("/proc/self/task"))),
	}
}
