// Step runs a command on an image, and makes the next image of what the command changed.
//
//	go run . BASE LAYOUT:TAG COMMAND [ARGUMENT...]
//
// The command finds the image's tree, writable, in its current folder: a mount, of which what is
// written becomes a delta. That takes root. It prints the digest of the new image.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: step BASE LAYOUT:TAG COMMAND [ARGUMENT...]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	digest, err := step(ctx, os.Args[1], os.Args[2], os.Args[3:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "step:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// step runs command on the image base, stores the result as image, and returns its digest.
func step(ctx context.Context, base, image string, command []string) (digest string, err error) {
	dir, err := os.MkdirTemp("", "step-")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	kept := filepath.Join(dir, "kept")
	if err := change(ctx, base, filepath.Join(dir, "root"), kept, command); err != nil {
		return "", err
	}
	result, err := puzzlefs.Delta(ctx, filepath.Join(kept, "upper"), image, &puzzlefs.BuildOptions{
		Base:      base,
		CreatedBy: strings.Join(command, " "),
	})
	if err != nil {
		return "", err
	}
	return result.Digest, nil
}

// change mounts the image base on root and runs command there; what it writes goes into kept.
func change(ctx context.Context, base, root, kept string, command []string) (err error) {
	if err := os.Mkdir(root, 0o755); err != nil {
		return err
	}
	image, err := puzzlefs.Open(base, nil)
	if err != nil {
		return err
	}
	mount, err := image.Mount(ctx, root, &puzzlefs.MountOptions{Persist: kept})
	// The mount goes on without it.
	if err := errors.Join(err, image.Close()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, mount.Unmount()) }()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = root, os.Stderr, os.Stderr
	return cmd.Run()
}
