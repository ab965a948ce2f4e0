package puzzlefs

import (
	"context"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// ExtractOptions says how an image is extracted. The zero value, and nil, are the defaults.
type ExtractOptions struct {
	// NoSameOwner makes everything the caller's own, instead of restoring owners and groups.
	NoSameOwner bool
	// Threads is how many threads write files; 0 for the number of cores, up to 16.
	Threads int
	// Progress is told how far the work is; see [BuildOptions].
	Progress func(Progress)
}

// ExtractResult says what was extracted.
type ExtractResult struct {
	// Inodes is the number of inodes written.
	Inodes int64
	// Bytes is the sum of the files' sizes.
	Bytes int64
	// Lost is what was not restored, one for each kind, in the order of their names: for want of
	// privileges, or since a program's owner is another one than in the image.
	Lost []Lost
}

// Lost is something that could not be restored.
type Lost struct {
	// What is "owner", "device", or the name of an extended attribute.
	What string
	// Count is how many inodes lost it.
	Count int64
	// First is the path in the image, from its root, of the first of them, by inode number.
	First string
}

// Extract writes the image to the directory dir, which must be empty or not there; its parent
// must be.
//
// Owners, device nodes and some extended attributes need privileges. Whoever lacks them gets the
// rest, and is told in the result what is missing. Nothing is written outside dir, whatever the
// image says. When it fails, or ctx ends before it is done, what was written is removed again.
func (i *Image) Extract(ctx context.Context, dir string, options *ExtractOptions) (*ExtractResult, error) {
	if options == nil {
		options = &ExtractOptions{}
	}
	var lost []Lost
	settings := &capi.ExtractOptions{
		Lost: func(l capi.Lost) {
			lost = append(lost, Lost{What: l.What, Count: int64(l.Count), First: l.First})
		},
	}
	if options.NoSameOwner {
		settings.Flags |= capi.ExtractNoSameOwner
	}
	if err := assign(&settings.Threads, int64(options.Threads), "the number of threads"); err != nil {
		return nil, err
	}
	extracted, err := supervise(ctx, options.Progress, func(progress capi.ProgressFunc) (*capi.ExtractResult, error) {
		settings.Progress = progress
		return with(i, func(image *capi.Image) (*capi.ExtractResult, error) {
			return capi.ImageExtract(image, dir, settings)
		})
	})
	if err != nil {
		return nil, err
	}
	return &ExtractResult{Inodes: int64(extracted.Inodes), Bytes: int64(extracted.Bytes), Lost: lost}, nil
}
