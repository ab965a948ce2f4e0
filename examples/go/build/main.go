// Build builds a puzzlefs image of a directory.
//
//	go run . ROOTFS LAYOUT:TAG
//
// It prints the digest of the image's manifest. Progress goes to standard error; ctrl-C stops the
// build, and leaves the layout as it was.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: build ROOTFS LAYOUT:TAG")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	digest, err := build(ctx, os.Args[1], os.Args[2], os.Stderr)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
	fmt.Println(digest)
}

// build builds an image and returns its digest.
func build(ctx context.Context, rootfs, image string, progress io.Writer) (string, error) {
	options := &puzzlefs.BuildOptions{
		CreatedBy: "examples/go/build",
		Progress: func(p puzzlefs.Progress) {
			if p.Total == 0 {
				fmt.Fprintf(progress, "\r%s: %d\x1b[K", p.Stage, p.Done)
			} else {
				fmt.Fprintf(progress, "\r%s: %d of %d bytes\x1b[K", p.Stage, p.Done, p.Total)
			}
		},
	}
	result, err := puzzlefs.Build(ctx, rootfs, image, options)
	fmt.Fprintln(progress)
	if err != nil {
		return "", err
	}
	return result.Digest, nil
}
