package puzzlefs

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// ExportOptions says how an image is exported. The zero value, and nil, are the defaults.
type ExportOptions struct {
	// Progress is told how far the work is; see [BuildOptions].
	Progress func(Progress)
}

// ExportResult says what was exported.
type ExportResult struct {
	// Entries is the number of entries in the archive.
	Entries int64
	// Bytes is the number of bytes of the files.
	Bytes int64
	// Sockets is how many sockets were left out: no archive can hold them.
	Sockets int64
}

// Export writes the image to w as a tar archive in the pax format: the same bytes for the same tree.
// When it fails, or ctx ends before it is done, w has got the begin of an archive.
func (i *Image) Export(ctx context.Context, w io.Writer, options *ExportOptions) (*ExportResult, error) {
	if options == nil {
		options = &ExportOptions{}
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	copied := make(chan error, 1)
	go func() {
		_, err := io.Copy(w, reader)
		// If w takes no more, the library's next write fails.
		copied <- errors.Join(err, reader.Close())
	}()
	exported, err := supervise(ctx, options.Progress, func(progress capi.ProgressFunc) (*capi.ExportResult, error) {
		return with(i, func(image *capi.Image) (*capi.ExportResult, error) {
			return capi.ImageExport(image, writer.Fd(), progress)
		})
	})
	closed := writer.Close()
	// What w says is the reason, where the library only saw that the pipe is gone.
	if failed := <-copied; failed != nil && ctx.Err() == nil {
		return nil, failed
	}
	if err := errors.Join(err, closed); err != nil {
		return nil, err
	}
	return &ExportResult{
		Entries: int64(exported.Entries),
		Bytes:   int64(exported.Bytes),
		Sockets: int64(exported.Sockets),
	}, nil
}
