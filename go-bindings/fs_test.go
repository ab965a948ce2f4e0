package puzzlefs_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/iotest"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// TestFS lets the standard library judge trees that it understands: names without backslashes,
// no links that lead nowhere, nothing that cannot be read.
func TestFS(t *testing.T) {
	cases := []struct {
		name     string
		rootfs   string
		exclude  []string
		expected []string
	}{
		{
			"a root file system",
			shortened(t, rootFS(t)),
			// Devices, and a link into /proc.
			[]string{"dev/*", "etc/mtab"},
			[]string{"etc/os-release", "usr/bin/dpkg", "bin", "dev", "var/tmp"},
		},
		{
			"every type",
			makeTree(t),
			[]string{"dangling", "loop", "fifo", "socket", "null", "disk", "sparse", "noise", "text"},
			[]string{"file", "link", "linked", "dir/nested/file", "\xff no UTF-8", "line\nfeed"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			name, _ := build(t, c.rootfs, &puzzlefs.BuildOptions{Exclude: c.exclude})
			image := must(puzzlefs.Open(name, nil))
			defer image.Close()
			check(t, fstest.TestFS(image, c.expected...))
		})
	}
}

// rootFS returns the directory of a real root file system.
func rootFS(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("PUZZLEFS_ROOT")
	if dir == "" {
		t.Fatal("PUZZLEFS_ROOT is not set: run `make test-go`, or make a tree with tools/rootfs")
	}
	return must(filepath.EvalSymlinks(dir))
}

// shortened returns a copy of a tree whose files have only their first kilobyte: fstest reads every
// byte by itself, several times over, which takes minutes for 100 MB.
func shortened(t *testing.T, rootfs string) string {
	t.Helper()
	const kilobyte = 1024
	dir := mount(t, open(t, rootfs), &puzzlefs.MountOptions{Writable: true}).Point()
	check(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || must(entry.Info()).Size() <= kilobyte {
			return err
		}
		return os.Truncate(path, kilobyte)
	}))
	return dir
}

// TestSource compares everything in an image with what it was made from.
func TestSource(t *testing.T) {
	for name, rootfs := range map[string]string{
		"every type":         makeTree(t),
		"a root file system": rootFS(t),
	} {
		t.Run(name, func(t *testing.T) { compareSource(t, open(t, rootfs), rootfs) })
	}
}

func compareSource(t *testing.T, image *puzzlefs.Image, rootfs string) {
	t.Helper()
	numbers := make(map[uint64]uint64)
	count := 0
	check(t, fs.WalkDir(image, ".", func(name string, entry fs.DirEntry, err error) error {
		check(t, err)
		count++
		path := filepath.Join(rootfs, name)
		want := must(os.Lstat(path))
		got := must(image.Lstat(name))
		compareInfo(t, name, got, want)
		compareInfo(t, name, must(entry.Info()), want)
		// Hard links are names of one inode, and of no other.
		ino := want.Sys().(*syscall.Stat_t).Ino
		if number, known := numbers[ino]; known && number != got.Sys().(*puzzlefs.Stat).Ino {
			t.Errorf("%q: a hard link is lost", name)
		}
		numbers[ino] = got.Sys().(*puzzlefs.Stat).Ino
		switch want.Mode().Type() {
		case fs.ModeSymlink:
			if got, want := must(image.ReadLink(name)), must(os.Readlink(path)); got != want {
				t.Errorf("%q: the target is %q, was %q", name, got, want)
			}
			return nil
		case 0:
			if got, want := must(image.ReadFile(name)), must(os.ReadFile(path)); !bytes.Equal(got, want) {
				t.Errorf("%q: the %d bytes differ from the %d of the source", name, len(got), len(want))
			}
		}
		if got, want := must(image.Xattrs(name)), xattrs(t, path); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: the extended attributes are %q, were %q", name, got, want)
		}
		return nil
	}))
	if want := len(list(t, rootfs)); count != want {
		t.Errorf("there are %d files, were %d", count, want)
	}
}

func compareInfo(t *testing.T, name string, got, want fs.FileInfo) {
	t.Helper()
	type common struct {
		Mode    fs.FileMode
		ModTime int64
		Dir     bool
		Stat    puzzlefs.Stat
	}
	of := func(info fs.FileInfo, stat puzzlefs.Stat) common {
		// Numbers are anew in an image, and two times that are the same may be spelt in two ways.
		stat.Ino, stat.ModTime = 0, time.Time{}
		return common{info.Mode(), info.ModTime().UnixNano(), info.IsDir(), stat}
	}
	from := want.Sys().(*syscall.Stat_t)
	stat := puzzlefs.Stat{
		Mode:  from.Mode,
		Nlink: from.Nlink,
		UID:   from.Uid,
		GID:   from.Gid,
		Major: uint32(from.Rdev>>8&0xfff | from.Rdev>>32&^0xfff),
		Minor: uint32(from.Rdev&0xff | from.Rdev>>12&^0xff),
	}
	if want.Mode().IsRegular() || want.Mode().Type() == fs.ModeSymlink {
		stat.Size = want.Size()
	}
	if got, want := of(got, *got.Sys().(*puzzlefs.Stat)), of(want, stat); got != want {
		t.Errorf("%q: it is\n%+v, was\n%+v", name, got, want)
	}
	if got.Size() != stat.Size {
		t.Errorf("%q: the size is %d, was %d", name, got.Size(), stat.Size)
	}
}

// xattrs returns the extended attributes of a file on disk that belong into an image.
func xattrs(t *testing.T, path string) map[string][]byte {
	t.Helper()
	found := make(map[string][]byte)
	buffer := make([]byte, 1<<16)
	names := string(buffer[:must(syscall.Listxattr(path, buffer))])
	for name := range strings.SplitSeq(strings.TrimSuffix(names, "\x00"), "\x00") {
		if name == "" || name == "security.selinux" {
			continue
		}
		found[name] = bytes.Clone(buffer[:must(syscall.Getxattr(path, name, buffer))])
	}
	return found
}

func TestFollow(t *testing.T) {
	image := open(t, makeTree(t))
	cases := []struct {
		name    string
		content string
		err     error
	}{
		{"link", "deep\n", nil},
		{"linked/nested/file", "deep\n", nil},
		{"linked/up", "hello\n", nil},
		{"dir/absolute", "hello\n", nil},
		{"dir/escape", "hello\n", nil},
		{"\xff no UTF-8", "any bytes\n", nil},
		{"dangling", "", fs.ErrNotExist},
		{"loop", "", fs.ErrInvalid},
		{"file/below", "", fs.ErrNotExist},
	}
	for _, c := range cases {
		content, err := image.ReadFile(c.name)
		if string(content) != c.content || !errors.Is(err, c.err) {
			t.Errorf("%q holds %q (%v), not %q (%v)", c.name, content, err, c.content, c.err)
		}
	}
}

// TestSub looks at parts of an image, which are all that an image is as a file system.
func TestSub(t *testing.T) {
	rootfs := makeTree(t)
	image := open(t, rootfs)
	type files interface {
		fs.ReadDirFS
		fs.StatFS
		fs.ReadFileFS
		fs.ReadLinkFS
		fs.SubFS
		puzzlefs.XattrFS
	}
	sub := func(fsys fs.FS, dir string) files { return must(fs.Sub(fsys, dir)).(files) }
	nested := sub(sub(image, "dir"), "nested")
	if got := string(must(nested.ReadFile("file"))); got != "deep\n" {
		t.Errorf("a part of a part has %q", got)
	}
	// A part behind a link is that of the directory.
	for _, name := range []string{"dir", "linked"} {
		t.Run(name, func(t *testing.T) {
			dir := sub(image, name)
			check(t, fstest.TestFS(dir, "hardlink", "up", "nested/file"))
			if info := must(dir.Lstat(".")); !info.IsDir() {
				t.Errorf("its root is %v", info)
			}
			compareInfo(t, name, must(dir.Lstat("up")), must(os.Lstat(filepath.Join(rootfs, "dir/up"))))
			if got := must(dir.ReadLink("absolute")); got != "/file" {
				t.Errorf("a link leads to %q", got)
			}
			// Links that lead out of the part lead to the rest of the image.
			for _, link := range []string{"up", "absolute", "escape"} {
				if got := string(must(dir.ReadFile(link))); got != "hello\n" {
					t.Errorf("%s leads to %q", link, got)
				}
			}
			for file, want := range map[string]map[string][]byte{
				".":        {"trusted.of-root": []byte("secret")},
				"hardlink": must(image.Xattrs("file")),
				"nested":   {},
			} {
				if got := must(dir.Xattrs(file)); !reflect.DeepEqual(got, want) {
					t.Errorf("%s has the extended attributes %q, not %q", file, got, want)
				}
			}
		})
	}
	cases := []struct {
		fsys fs.SubFS
		dir  string
		is   error
	}{
		{image, "nowhere", fs.ErrNotExist},
		{image, "file", syscall.ENOTDIR},
		{image, "../dir", fs.ErrInvalid},
		{image, "", fs.ErrInvalid},
		{nested, "nested", fs.ErrNotExist},
		{nested, "file", syscall.ENOTDIR},
		{nested, "..", fs.ErrInvalid},
	}
	for _, c := range cases {
		_, err := c.fsys.Sub(c.dir)
		var path *fs.PathError
		if !errors.Is(err, c.is) || !errors.As(err, &path) || path.Path != c.dir {
			t.Errorf("the part %q: %v, not %v", c.dir, err, c.is)
		}
	}
	if _, err := nested.Open("../file"); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("above a part: %v", err)
	}
}

func TestReader(t *testing.T) {
	rootfs := makeTree(t)
	image := open(t, rootfs)
	for _, name := range []string{"file", "nothing"} {
		file := must(image.Open(name))
		check(t, iotest.TestReader(file, must(os.ReadFile(filepath.Join(rootfs, name)))))
		check(t, file.Close())
	}

	want := must(os.ReadFile(filepath.Join(rootfs, "noise")))
	file := must(image.Open("noise")).(interface {
		fs.File
		io.ReaderAt
		io.Seeker
	})
	defer file.Close()
	size := int64(len(want))
	reads := []struct {
		offset int64
		length int
		count  int
		err    error
	}{
		{0, 0, 0, nil},
		{0, 1, 1, nil},
		{0, len(want), len(want), nil},
		{0, len(want) + 1, len(want), io.EOF},
		{65535, 131074, 131074, nil},
		{size - 1, 1, 1, nil},
		{size - 1, 2, 1, io.EOF},
		{size, 1, 0, io.EOF},
		{1<<63 - 1, 1, 0, io.EOF},
		{-1, 1, 0, fs.ErrInvalid},
	}
	for _, r := range reads {
		buffer := make([]byte, r.length)
		count, err := file.ReadAt(buffer, r.offset)
		if count != r.count || !errors.Is(err, r.err) || err == nil && r.err != nil {
			t.Errorf("%d bytes at %d: %d (%v), not %d (%v)", r.length, r.offset, count, err, r.count, r.err)
		} else if count != 0 && !bytes.Equal(buffer[:count], want[r.offset:][:count]) {
			t.Errorf("%d bytes at %d: other content", r.length, r.offset)
		}
	}
	seeks := []struct {
		offset int64
		whence int
		result int64
		err    error
	}{
		{10, io.SeekStart, 10, nil},
		{-3, io.SeekCurrent, 7, nil},
		{-1, io.SeekEnd, size - 1, nil},
		{100, io.SeekCurrent, size + 99, nil},
		{-1, io.SeekStart, 0, fs.ErrInvalid},
		{0, 3, 0, fs.ErrInvalid},
		{0, io.SeekCurrent, size + 99, nil},
	}
	for _, s := range seeks {
		result, err := file.Seek(s.offset, s.whence)
		if result != s.result || !errors.Is(err, s.err) {
			t.Errorf("seek to %d from %d: %d (%v), not %d (%v)", s.offset, s.whence, result, err, s.result, s.err)
		}
	}
	if count, err := file.Read(make([]byte, 1)); count != 0 || err != io.EOF {
		t.Errorf("behind the end: %d bytes (%v)", count, err)
	}
}

func TestBadNames(t *testing.T) {
	image := open(t, makeTree(t))
	calls := map[string]func(string) error{
		"Open":     func(name string) error { _, err := image.Open(name); return err },
		"Stat":     func(name string) error { _, err := image.Stat(name); return err },
		"Lstat":    func(name string) error { _, err := image.Lstat(name); return err },
		"ReadLink": func(name string) error { _, err := image.ReadLink(name); return err },
		"ReadDir":  func(name string) error { _, err := image.ReadDir(name); return err },
		"ReadFile": func(name string) error { _, err := image.ReadFile(name); return err },
		"Sub":      func(name string) error { _, err := image.Sub(name); return err },
		"Xattrs":   func(name string) error { _, err := image.Xattrs(name); return err },
	}
	names := map[string]error{
		"":             fs.ErrInvalid,
		"/":            fs.ErrInvalid,
		"/file":        fs.ErrInvalid,
		"dir/":         fs.ErrInvalid,
		"dir/../file":  fs.ErrInvalid,
		"./file":       fs.ErrInvalid,
		"dir//nested":  fs.ErrInvalid,
		"file\x00":     fs.ErrInvalid,
		"nowhere":      fs.ErrNotExist,
		"nowhere/file": fs.ErrNotExist,
		"\xfe":         fs.ErrNotExist,
	}
	for name, want := range names {
		for method, call := range calls {
			err := call(name)
			var path *fs.PathError
			if !errors.Is(err, want) || !errors.As(err, &path) || path.Path != name {
				t.Errorf("%s of %q: %v", method, name, err)
			}
		}
	}
	wrong := []struct {
		method, name string
		err          error
	}{
		{"ReadLink", "file", fs.ErrInvalid},
		{"ReadLink", ".", fs.ErrInvalid},
		{"ReadDir", "file", syscall.ENOTDIR},
		{"ReadDir", "fifo", syscall.ENOTDIR},
		{"ReadFile", ".", syscall.EISDIR},
		{"ReadFile", "linked", syscall.EISDIR},
		{"ReadFile", "fifo", fs.ErrInvalid},
		{"ReadFile", "null", fs.ErrInvalid},
	}
	for _, w := range wrong {
		if err := calls[w.method](w.name); !errors.Is(err, w.err) {
			t.Errorf("%s of %q: %v, not %v", w.method, w.name, err, w.err)
		}
	}
}
