package main

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
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

func program(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), runMain+"=1")
	return cmd
}

// TestBuild builds the same image as the puzzlefs command.
func TestBuild(t *testing.T) {
	dir := t.TempDir()
	var progress bytes.Buffer
	ours := program(".", filepath.Join(dir, "example:v1"))
	ours.Stderr = &progress
	got, err := ours.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &progress)
	}
	if !strings.Contains(progress.String(), "\rstoring: ") {
		t.Errorf("the progress was %q", &progress)
	}
	theirs := exec.Command("puzzlefs", "build", "--created-by=examples/go/build", ".", filepath.Join(dir, "command:v1"))
	theirs.Stderr = os.Stderr
	want, err := theirs.Output()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("it built %s, the command %s", got, want)
	}
}

// TestInterrupt stops the program at work, as ctrl-C does: there is no image.
func TestInterrupt(t *testing.T) {
	rootfs, layout := t.TempDir(), filepath.Join(t.TempDir(), "layout")
	file, err := os.Create(filepath.Join(rootfs, "noise"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	// Enough for a second.
	if _, err := io.CopyN(file, rand.Reader, 256<<20); err != nil {
		t.Fatal(err)
	}
	build := program(rootfs, layout+":v1")
	output, err := build.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := build.Start(); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(output)
	if _, err := reader.ReadString(':'); err != nil {
		t.Error(err)
	}
	if err := build.Process.Signal(os.Interrupt); err != nil {
		t.Error(err)
	}
	rest, err := io.ReadAll(reader)
	if err != nil {
		t.Error(err)
	}
	if err := build.Wait(); build.ProcessState.ExitCode() != 1 {
		t.Errorf("it ended with %v", err)
	}
	if !strings.Contains(string(rest), "\nbuild: ") {
		t.Errorf("it said %q", rest)
	}
	index, err := os.ReadFile(filepath.Join(layout, "index.json"))
	if err != nil || bytes.Contains(index, []byte(`"v1"`)) {
		t.Errorf("there is an image: %s (%v)", index, err)
	}
}
