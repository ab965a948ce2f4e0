//go:build puzzlefs_static

package puzzlefs_test

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// alone in the environment makes the test binary be the program that TestChroot runs; its value says
// whether to mount writable.
const alone = "PUZZLEFS_TEST_ALONE"

func TestMain(m *testing.M) {
	how, isProgram := os.LookupEnv(alone)
	if !isProgram {
		os.Exit(m.Run())
	}
	if err := work(how == "true"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// TestStatic looks at the program that it is in: nothing is loaded when it starts.
func TestStatic(t *testing.T) {
	program := must(elf.Open("/proc/self/exe"))
	defer program.Close()
	for _, segment := range program.Progs {
		if segment.Type == elf.PT_INTERP {
			t.Error("the program asks for a loader")
		}
	}
	if libraries := must(program.ImportedLibraries()); len(libraries) != 0 {
		t.Errorf("the program asks for %v", libraries)
	}
}

// TestChroot runs the program where there is nothing else: it builds, mounts and extracts.
func TestChroot(t *testing.T) {
	cases := []struct {
		name string
		// Whether the root is a mount, and whether the mount in it shall be writable.
		isMount, writable bool
		err               string
	}{
		{"read-only", false, false, ""},
		{"writable", true, true, ""},
		{"writable, but the root is no mount", false, true, "`mount --bind DIR DIR` before chroot(2)"},
	}
	tree := t.TempDir()
	check(t, os.WriteFile(filepath.Join(tree, "noise"), noise(1<<20), 0o644))
	image, _ := build(t, tree, nil)
	opened := must(puzzlefs.Open(image, nil))
	defer opened.Close()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			if c.isMount {
				mountSystem(t, root, root, "", syscall.MS_BIND, "")
			}
			furnish(t, root)
			must(opened.Extract(context.Background(), filepath.Join(root, "tree"), nil))
			var stdout, stderr strings.Builder
			program := exec.Cmd{
				Path:        "/program",
				Dir:         "/",
				Env:         []string{fmt.Sprintf("%s=%v", alone, c.writable)},
				Stdout:      &stdout,
				Stderr:      &stderr,
				SysProcAttr: &syscall.SysProcAttr{Chroot: root},
			}
			err := program.Run()
			if c.err != "" {
				if err == nil || !strings.Contains(stderr.String(), c.err) {
					t.Errorf("it ended with %v: %s", err, &stderr)
				}
				return
			}
			want := strings.Repeat(opened.Digest()+"\n", 3)
			if err != nil || stdout.String() != want {
				t.Errorf("it ended with %v: %s; it built\n%s, not\n%s", err, &stderr, &stdout, want)
			}
		})
	}
}

// furnish puts into root the program, and of all that a system has what a mount asks for.
func furnish(t *testing.T, root string) {
	t.Helper()
	at := func(name string) string { return filepath.Join(root, name) }
	check(t, os.WriteFile(at("program"), must(os.ReadFile("/proc/self/exe")), 0o755))
	for _, dir := range []string{"dev", "proc", "mnt"} {
		check(t, os.Mkdir(at(dir), 0o755))
	}
	check(t, syscall.Mknod(at("dev/fuse"), syscall.S_IFCHR|0o600, makedev(10, 229)))
	mountSystem(t, "proc", at("proc"), "proc", 0, "")
}

// work prints the digests of images of /tree, of what it mounts, and of what it extracts.
func work(writable bool) error {
	ctx := context.Background()
	if _, err := puzzlefs.Build(ctx, "/tree", "/images:v1", nil); err != nil {
		return err
	}
	image, err := puzzlefs.Open("/images:v1", nil)
	if err != nil {
		return err
	}
	defer image.Close()
	mount, err := image.Mount(ctx, "/mnt", &puzzlefs.MountOptions{Writable: writable})
	if err != nil {
		return err
	}
	if _, err := image.Extract(ctx, "/extracted", nil); err != nil {
		return err
	}
	for _, dir := range []string{"/tree", "/mnt", "/extracted"} {
		built, err := puzzlefs.Build(ctx, dir, "/images:again", nil)
		if err != nil {
			return err
		}
		fmt.Println(built.Digest)
	}
	return errors.Join(mount.Unmount(), mount.Wait(ctx))
}
