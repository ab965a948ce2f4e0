package puzzlefs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// stranger is the first program of somebody who has read no more than the package's overview.
const stranger = `package main

import (
	"context"
	"fmt"
	"io/fs"
	"log"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func main() {
	if _, err := puzzlefs.Build(context.Background(), "rootfs", "images:v1", nil); err != nil {
		log.Fatal(err)
	}
	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	content, err := fs.ReadFile(image, "file")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s %s", puzzlefs.Version(), content)
}
`

// TestStranger makes a module of its own that uses this one, builds it with nothing but what
// pkg-config says, and runs it.
func TestStranger(t *testing.T) {
	const name = "github.com/project-machine/libpuzzlefs/go-bindings"
	ours, dir := must(os.Getwd()), t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	check(t, os.WriteFile(at("main.go"), []byte(stranger), 0o644))
	check(t, os.Mkdir(at("rootfs"), 0o755))
	check(t, os.WriteFile(at("rootfs/file"), []byte("hello\n"), 0o644))
	var output []byte
	for _, command := range [][]string{
		{"go", "mod", "init", "example.org/stranger"},
		{"go", "mod", "edit", "-replace", name + "=" + ours},
		{"go", "get", name},
		{"go", "build", "-o", "stranger"},
		{"./stranger"},
	} {
		cmd := exec.Command(command[0], command[1:]...)
		cmd.Dir = dir
		// Of this module and what it needs, all is at hand.
		cmd.Env = append(os.Environ(), "GOPROXY=off", "GOEXPERIMENT=")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		var err error
		if output, err = cmd.Output(); err != nil {
			t.Fatalf("%q: %v\n%s", command, err, &stderr)
		}
	}
	if got, want := string(output), puzzlefs.Version()+" hello\n"; got != want {
		t.Errorf("it printed %q, not %q", got, want)
	}
}
