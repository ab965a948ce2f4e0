package puzzlefs_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// must returns what a call returned that cannot fail.
func must[T any](result T, err error) T {
	if err != nil {
		panic(err)
	}
	return result
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noise returns bytes that do not compress, the same ones each time.
func noise(size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	return data
}

// makeTree makes a directory that has everything which a directory can have.
func makeTree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	at := func(name string) string { return filepath.Join(root, name) }

	for _, dir := range []string{"", "dir", "dir/nested", "empty", "tmp"} {
		check(t, os.Mkdir(at(dir), 0o755))
	}
	check(t, os.Chmod(at("tmp"), 0o777|os.ModeSticky|os.ModeSetgid))

	files := map[string][]byte{
		"file":                   []byte("hello\n"),
		"nothing":                nil,
		"noise":                  noise(1 << 20),
		"text":                   bytes.Repeat([]byte("the same line again\n"), 1<<15),
		"setuid":                 []byte("#!/bin/sh\n"),
		"old":                    []byte("from before 1970\n"),
		"dir/nested/file":        []byte("deep\n"),
		"\xff\xfe no UTF-8":      []byte("any bytes\n"),
		"line\nfeed":             []byte("any bytes\n"),
		strings.Repeat("n", 255): []byte("a long name\n"),
	}
	for name, content := range files {
		check(t, os.WriteFile(at(name), content, 0o644))
	}
	check(t, os.WriteFile(at("sparse"), []byte("begin"), 0o644))
	check(t, os.Truncate(at("sparse"), 10<<20))
	check(t, os.Link(at("file"), at("dir/hardlink")))

	links := map[string]string{
		"link":          "dir/nested/file",
		"dir/up":        "../file",
		"dir/absolute":  "/file",
		"dir/escape":    "../../../../file",
		"linked":        "dir",
		"dangling":      "nowhere",
		"loop":          "loop",
		"\xff no UTF-8": "\xff\xfe no UTF-8",
	}
	for name, target := range links {
		check(t, os.Symlink(target, at(name)))
	}

	nodes := map[string]struct {
		mode         uint32
		major, minor int
	}{
		"fifo":   {syscall.S_IFIFO | 0o600, 0, 0},
		"socket": {syscall.S_IFSOCK | 0o755, 0, 0},
		"null":   {syscall.S_IFCHR | 0o666, 1, 3},
		"disk":   {syscall.S_IFBLK | 0o660, 259, 1<<20 - 1},
	}
	for name, node := range nodes {
		check(t, syscall.Mknod(at(name), node.mode, makedev(node.major, node.minor)))
	}

	check(t, os.Lchown(at("file"), 1000, 1001))
	check(t, os.Lchown(at("link"), 1<<32-2, 1<<31))
	check(t, os.Chmod(at("setuid"), 0o755|os.ModeSetuid))
	check(t, syscall.Setxattr(at("file"), "user.text", []byte("text"), 0))
	check(t, syscall.Setxattr(at("file"), "user.bytes", []byte{0, 1, 0xff}, 0))
	check(t, syscall.Setxattr(at("file"), "user.empty", nil, 0))
	check(t, syscall.Setxattr(at("dir"), "trusted.of-root", []byte("secret"), 0))
	check(t, syscall.Setxattr(at("text"), "security.selinux", []byte("label"), 0))
	check(t, os.Chtimes(at("file"), time.Time{}, time.Unix(981173106, 789012345)))
	check(t, os.Chtimes(at("old"), time.Time{}, time.Unix(-2, 999999999)))
	return root
}

// makedev is makedev(3).
func makedev(major, minor int) int {
	return minor&0xff | major&0xfff<<8 | minor&^0xff<<12 | major&^0xfff<<32
}

// mountSystem is mount(2), until the test ends.
func mountSystem(t *testing.T, source, target, fstype string, flags uintptr, options string) {
	t.Helper()
	check(t, syscall.Mount(source, target, fstype, flags, options))
	t.Cleanup(func() { check(t, syscall.Unmount(target, syscall.MNT_DETACH)) })
}

// build builds an image of rootfs under the tag v1 of a new layout.
func build(t *testing.T, rootfs string, options *puzzlefs.BuildOptions) (image string, layout string) {
	t.Helper()
	layout = filepath.Join(t.TempDir(), "layout")
	image = layout + ":v1"
	must(puzzlefs.Build(context.Background(), rootfs, image, options))
	return image, layout
}

// open builds an image of rootfs and opens it.
func open(t *testing.T, rootfs string) *puzzlefs.Image {
	t.Helper()
	name, _ := build(t, rootfs, nil)
	image := must(puzzlefs.Open(name, nil))
	t.Cleanup(func() { image.Close() })
	return image
}

// command runs the puzzlefs command and returns what it prints.
func command(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("puzzlefs", args...)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return output
}
