// Mount mounts an image, and waits until somebody unmounts it.
//
//	go run . IMAGE DIRECTORY [KEPT]
//
// With KEPT, the mount can be written to: what is written is kept in the directory KEPT/upper, from
// which examples/go/step and `puzzlefs delta` make the next image. Ctrl-C unmounts, too; what
// somebody still has open can be read until it is closed.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func main() {
	options := &puzzlefs.MountOptions{Log: func(line string) { log.Print(line) }}
	switch len(os.Args) {
	case 3:
	case 4:
		options.Persist = os.Args[3]
	default:
		fmt.Fprintln(os.Stderr, "usage: mount IMAGE DIRECTORY [KEPT]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, os.Args[1], os.Args[2], options, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "mount:", err)
		os.Exit(1)
	}
}

// serve mounts the image on dir, says so, and serves it until somebody unmounts it or ctx ends.
func serve(ctx context.Context, name, dir string, options *puzzlefs.MountOptions, output io.Writer) error {
	image, err := puzzlefs.Open(name, nil)
	if err != nil {
		return err
	}
	mount, err := image.Mount(ctx, dir, options)
	// The mount goes on without the image.
	if err := errors.Join(err, image.Close()); err != nil {
		return err
	}
	fmt.Fprintln(output, "mounted on", mount.Point())
	err = mount.Wait(ctx)
	switch {
	case errors.Is(err, puzzlefs.ErrUnmounted):
		return nil
	case ctx.Err() == nil:
		return err
	}
	if err := mount.Detach(); err != nil {
		return err
	}
	return mount.Wait(context.Background())
}
