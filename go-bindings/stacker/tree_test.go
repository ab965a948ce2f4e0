package stacker_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apex/log"
	"golang.org/x/sys/unix"
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

// command runs a program and returns what it prints.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return string(output)
}

// noise returns bytes that do not compress, the same ones for the same seed.
func noise(seed byte, size int) []byte {
	data := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(data)
	return data
}

// capability is the attribute that gives a program CAP_NET_RAW: revision 2, effective, permitted.
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	check(t, os.MkdirAll(filepath.Dir(path), 0o755))
	check(t, os.WriteFile(path, content, 0o644))
}

func setxattr(t *testing.T, path, name string, value []byte) {
	t.Helper()
	if err := unix.Lsetxattr(path, name, value, 0); err != nil {
		t.Fatalf("set %s of %s: %v", name, path, err)
	}
}

// makeTree makes a directory with what a root file system has. Devices are for those who may.
func makeTree(t *testing.T) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "tree")
	at := func(name string) string { return filepath.Join(root, name) }
	write(t, at("etc/hostname"), []byte("box\n"))
	write(t, at("etc/motd"), []byte("welcome\n"))
	write(t, at("usr/lib/library.so"), noise(1, 3<<20))
	write(t, at("usr/lib/text"), bytes.Repeat([]byte("the same line again\n"), 1<<14))
	write(t, at("usr/bin/ping"), noise(2, 70_000))
	write(t, at("var/cache/one"), noise(3, 20_000))
	write(t, at("var/cache/deep/two"), []byte("two\n"))
	write(t, at("becomes-dir"), []byte("a file\n"))
	write(t, at("becomes-file/below"), []byte("below\n"))
	check(t, os.Symlink("hostname", at("etc/name")))
	check(t, os.Symlink("usr/lib", at("lib")))
	check(t, os.Link(at("usr/bin/ping"), at("usr/bin/ping4")))
	check(t, os.Mkdir(at("tmp"), 0o755))
	check(t, os.Chmod(at("tmp"), 0o777|os.ModeSticky))
	check(t, os.Lchown(at("etc/motd"), 1000, 1001))
	check(t, os.Chmod(at("usr/bin/ping"), 0o755|os.ModeSetuid))
	check(t, syscall.Mkfifo(at("fifo"), 0o600))
	if !inUserNamespace() {
		check(t, syscall.Mknod(at("null"), syscall.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
		setxattr(t, at("etc"), "trusted.note", []byte("of root"))
	}
	setxattr(t, at("etc/motd"), "user.note", []byte{0, 1, 0xff})
	setxattr(t, at("usr/bin/ping"), "security.capability", capability)
	setTimes(t, root, time.Unix(981173106, 0))
	return root
}

// setTimes gives everything below a directory the same time.
func setTimes(t *testing.T, root string, to time.Time) {
	t.Helper()
	stamp := must(unix.TimeToTimespec(to))
	check(t, filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{stamp, stamp}, unix.AT_SYMLINK_NOFOLLOW)
	}))
}

// describe has a line for each inode of a tree, with all that is to be the same in another one. Times
// are in whole seconds, since umoci's layers have no others.
func describe(t *testing.T, root string) []string {
	t.Helper()
	var lines []string
	first := map[uint64]string{}
	check(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := must(filepath.Rel(root, path))
		info := must(entry.Info())
		stat := info.Sys().(*syscall.Stat_t)
		line := fmt.Sprintf("%s %v %d:%d %v", name, info.Mode(), stat.Uid, stat.Gid, info.ModTime().Unix())
		switch {
		case info.Mode().IsRegular():
			line += fmt.Sprintf(" %x", sha256.Sum256(must(os.ReadFile(path))))
		case info.Mode()&fs.ModeSymlink != 0:
			line += " -> " + must(os.Readlink(path))
		case info.Mode()&fs.ModeDevice != 0:
			line += fmt.Sprintf(" %#x", stat.Rdev)
		}
		if stat.Nlink > 1 && !info.IsDir() {
			if other, ok := first[stat.Ino]; ok {
				line += " link of " + other
			} else {
				first[stat.Ino] = name
			}
		}
		for _, attribute := range attributes(t, path) {
			line += " " + attribute
		}
		lines = append(lines, line)
		return nil
	}))
	return lines
}

func attributes(t *testing.T, path string) []string {
	t.Helper()
	buffer := make([]byte, 64<<10)
	size, err := unix.Llistxattr(path, buffer)
	check(t, err)
	var list []string
	for name := range strings.FieldsFuncSeq(string(buffer[:size]), func(r rune) bool { return r == 0 }) {
		value := make([]byte, 64<<10)
		size, err := unix.Lgetxattr(path, name, value)
		check(t, err)
		list = append(list, fmt.Sprintf("%s=%x", name, value[:size]))
	}
	slices.Sort(list)
	return list
}

// compare tells which lines differ.
func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("%s has    %s", what, line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("%s has no %s", what, line)
		}
	}
}

// TestMain keeps umoci from telling what it does.
func TestMain(m *testing.M) {
	log.SetLevel(log.ErrorLevel)
	os.Exit(m.Run())
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
