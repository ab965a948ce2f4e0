// Serve shows what is in an image to browsers.
//
//	go run . IMAGE [ADDRESS]
//
// It prints where it listens: on ADDRESS, or on any free port of this machine. Nothing is unpacked:
// what a browser asks for is read from the image. Ctrl-C stops it, once all requests are answered.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func main() {
	address := "localhost:0"
	switch len(os.Args) {
	case 2:
	case 3:
		address = os.Args[2]
	default:
		fmt.Fprintln(os.Stderr, "usage: serve IMAGE [ADDRESS]")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, os.Args[1], address, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

// serve serves the image until ctx ends, and prints its URL.
func serve(ctx context.Context, name, address string, output io.Writer) error {
	image, err := puzzlefs.Open(name, nil)
	if err != nil {
		return err
	}
	defer image.Close()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler(image)}
	// Serve comes back when Shutdown begins, that one when all is answered.
	stopped := make(chan error, 1)
	context.AfterFunc(ctx, func() { stopped <- server.Shutdown(context.Background()) })
	fmt.Fprintf(output, "http://%s/\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

// handler serves the image's files. An image never changes, so its digest is the tag of all of them,
// by which browsers know that what they have is still right.
func handler(image *puzzlefs.Image) http.Handler {
	files := http.FileServerFS(image)
	return http.HandlerFunc(func(writer http.ResponseWriter, request *http.Request) {
		writer.Header().Set("ETag", `"`+image.Digest()+`"`)
		files.ServeHTTP(writer, request)
	})
}
