package main

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// runMain in the environment makes the test binary be the program.
const runMain = "RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(runMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// start runs the program until it has mounted an image with a file that says "hello".
func start(t *testing.T, args ...string) (program *exec.Cmd, dir string) {
	t.Helper()
	rootfs, image := t.TempDir(), filepath.Join(t.TempDir(), "images:v1")
	if err := os.WriteFile(filepath.Join(rootfs, "file"), []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := puzzlefs.Build(context.Background(), rootfs, image, nil); err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	program = exec.Command("/proc/self/exe", append([]string{image, dir}, args...)...)
	program.Env = append(os.Environ(), runMain+"=1")
	program.Stderr = os.Stderr
	stdout, err := program.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := program.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// There is none, if all is well.
		if err := puzzlefs.Unmount(dir, true); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("something was left mounted: %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "mounted on "+dir+"\n" {
		t.Fatalf("it said %q (%v)", line, err)
	}
	return program, dir
}

func TestMount(t *testing.T) {
	interrupt := func(program *exec.Cmd, _ string) error { return program.Process.Signal(os.Interrupt) }
	terminate := func(program *exec.Cmd, _ string) error { return program.Process.Signal(syscall.SIGTERM) }
	umount := func(_ *exec.Cmd, dir string) error { return exec.Command("umount", dir).Run() }
	cases := []struct {
		name string
		end  func(*exec.Cmd, string) error
		// What is open while it ends.
		open bool
	}{
		{"ctrl-C", interrupt, false},
		{"ctrl-C in use", interrupt, true},
		{"SIGTERM", terminate, false},
		{"umount", umount, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			program, dir := start(t)
			file, err := os.Open(filepath.Join(dir, "file"))
			if err != nil {
				t.Fatal(err)
			}
			if !c.open {
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.end(program, dir); err != nil {
				t.Fatal(err)
			}
			if c.open {
				buffer := make([]byte, 6)
				if count, _ := file.Read(buffer); string(buffer[:count]) != "hello" {
					t.Errorf("what was open has %q", buffer[:count])
				}
				if err := file.Close(); err != nil {
					t.Fatal(err)
				}
			}
			if err := program.Wait(); err != nil {
				t.Errorf("it ended with %v", err)
			}
		})
	}
}

func TestKept(t *testing.T) {
	kept := filepath.Join(t.TempDir(), "kept")
	program, dir := start(t, kept)
	if err := os.WriteFile(filepath.Join(dir, "new"), []byte("new"), 0o644); err != nil {
		t.Error(err)
	}
	if err := program.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := program.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	if content, err := os.ReadFile(filepath.Join(kept, "upper/new")); string(content) != "new" {
		t.Errorf("it kept %q (%v)", content, err)
	}
}

func TestErrors(t *testing.T) {
	image := filepath.Join(t.TempDir(), "images:v1")
	if _, err := puzzlefs.Build(context.Background(), t.TempDir(), image, nil); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	for name, arguments := range map[string][2]string{
		"no image":     {image + "2", t.TempDir()},
		"no directory": {image, missing},
	} {
		var output strings.Builder
		err := serve(context.Background(), arguments[0], arguments[1], nil, &output)
		if !errors.Is(err, fs.ErrNotExist) || output.Len() != 0 {
			t.Errorf("%s: %v; it said %q", name, err, &output)
		}
	}
}
