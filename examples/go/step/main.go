// Step runs a command on an image, and makes the next image of what the command changed.
//
//	go run . BASE LAYOUT:TAG COMMAND [ARGUMENT...]
//
// The command finds the image's tree, writable, in its current folder: an overlay on the extracted
// base, whose upperdir becomes a delta. That takes root. It prints the digest of the new image.
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
	lower, upper := filepath.Join(dir, "lower"), filepath.Join(dir, "upper")
	if err := extract(ctx, base, lower); err != nil {
		return "", err
	}
	if err := change(ctx, dir, lower, upper, command); err != nil {
		return "", err
	}
	result, err := puzzlefs.Delta(ctx, upper, image, &puzzlefs.BuildOptions{
		Base:      base,
		CreatedBy: strings.Join(command, " "),
	})
	if err != nil {
		return "", err
	}
	return result.Digest, nil
}

func extract(ctx context.Context, name, dir string) error {
	image, err := puzzlefs.Open(name, nil)
	if err != nil {
		return err
	}
	_, err = image.Extract(ctx, dir, nil)
	return errors.Join(err, image.Close())
}

// change runs command in an overlay on lower; what it changes is then in upper.
func change(ctx context.Context, dir, lower, upper string, command []string) (err error) {
	merged, work := filepath.Join(dir, "merged"), filepath.Join(dir, "work")
	for _, path := range []string{upper, merged, work} {
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
	}
	// An upperdir tells all only without these.
	const alone = "redirect_dir=off,metacopy=off,index=off"
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,%s", lower, upper, work, alone)
	if err := syscall.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("cannot mount an overlay: %w", err)
	}
	defer func() { err = errors.Join(err, syscall.Unmount(merged, 0)) }()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = merged, os.Stderr, os.Stderr
	return cmd.Run()
}
