package puzzlefs

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// EntryKind is what an entry of a layout's index is.
type EntryKind string

const (
	// KindPuzzlefs is a puzzlefs image.
	KindPuzzlefs EntryKind = "puzzlefs"
	// KindImage is another image, or an artifact that is stored as one.
	KindImage EntryKind = "image"
	// KindIndex is an index of images.
	KindIndex EntryKind = "index"
	// KindOther is anything else.
	KindOther EntryKind = "other"
	// KindUnreadable is what cannot be read: something is missing or damaged.
	KindUnreadable EntryKind = "unreadable"
)

// TagEntry is an entry of a layout's index.
type TagEntry struct {
	// Tag is the tag; empty for an entry that has none.
	Tag string `json:"tag"`
	// Digest is the digest of what the entry refers to.
	Digest string `json:"digest"`
	// MediaType is the media type of what the entry refers to.
	MediaType string `json:"media_type"`
	// Size is the size of what the entry refers to, in bytes: of a manifest, say.
	Size int64 `json:"size"`
	// Kind is what the entry refers to.
	Kind EntryKind `json:"kind"`
	// Bytes is the size of all blobs that the entry needs; 0 if it cannot be read, or if counting
	// would take long: when what the entries before it share has been counted again and again, 67
	// million blobs in all.
	Bytes int64 `json:"bytes"`
}

// Tags lists what the index of a layout has, in its order: also without a tag, and what is no
// image of puzzlefs.
func Tags(layout string) ([]TagEntry, error) {
	return decode[[]TagEntry](capi.Tags(layout))
}

// Tag makes a tag refer to what another one of the same layout refers to, of whatever kind it is.
// The image is LAYOUT:TAG or LAYOUT@sha256:HEX. If ctx ends while others lock the layout, nothing is
// changed.
func Tag(ctx context.Context, image, tag string) error {
	return change(ctx, func(progress capi.ProgressFunc) error {
		return capi.Tag(image, tag, progress)
	})
}

// Untag takes a tag, LAYOUT:TAG, away; or all that the index has of a digest, with tags and
// without, for LAYOUT@sha256:HEX. The blobs stay until [GC] finds that nothing refers to them. If ctx
// ends while others lock the layout, nothing is changed.
func Untag(ctx context.Context, image string) error {
	return change(ctx, func(progress capi.ProgressFunc) error {
		return capi.Untag(image, progress)
	})
}

// change runs work until ctx ends.
func change(ctx context.Context, work func(capi.ProgressFunc) error) error {
	_, err := supervise(ctx, nil, func(progress capi.ProgressFunc) (struct{}, error) {
		return struct{}{}, work(progress)
	})
	return err
}

// NoGrace is a [GCOptions.Grace] of no time at all.
const NoGrace time.Duration = -1

// GCOptions says what is deleted. The zero value, and nil, are the defaults.
type GCOptions struct {
	// Grace is how old a blob must be, in whole seconds; 0 for an hour, [NoGrace] for none. Other
	// tools put blobs into a layout before they refer to them.
	Grace time.Duration
	// DryRun deletes nothing, but tells what would be deleted.
	DryRun bool
	// Progress is told how far the work is; see [BuildOptions].
	Progress func(Progress)
}

// GCReport says what was deleted.
type GCReport struct {
	// Removed are the digests of the blobs that were deleted.
	Removed []string
	// Bytes is the size of these blobs.
	Bytes int64
	// Young is the number of blobs that nothing refers to, but too young to be deleted.
	Young int64
	// BytesYoung is the size of these blobs.
	BytesYoung int64
	// Leftovers is the number of files and folders that killed builders left behind, and that were
	// deleted.
	Leftovers int64
	// BytesLeftovers is the size of these.
	BytesLeftovers int64
}

// GC deletes the blobs of a layout that no entry of its index refers to, directly or not, and what
// builders left behind that were killed.
//
// It waits until no builder is at work in the layout. It deletes nothing if a document cannot be
// read that may refer to blobs. If ctx ends before it is done, what is deleted by then stays so.
func GC(ctx context.Context, layout string, options *GCOptions) (*GCReport, error) {
	if options == nil {
		options = &GCOptions{}
	}
	settings := options.settings()
	document, err := supervise(ctx, options.Progress, func(progress capi.ProgressFunc) ([]byte, error) {
		settings.Progress = progress
		return capi.GC(layout, settings)
	})
	type count struct{ Blobs, Count, Bytes int64 }
	report, err := decode[struct {
		Removed          []string
		Bytes            int64
		Young, Leftovers count
	}](document, err)
	if err != nil {
		return nil, err
	}
	return &GCReport{
		Removed:        report.Removed,
		Bytes:          report.Bytes,
		Young:          report.Young.Blobs,
		BytesYoung:     report.Young.Bytes,
		Leftovers:      report.Leftovers.Count,
		BytesLeftovers: report.Leftovers.Bytes,
	}, nil
}

// settings is the options as the library wants them.
func (o *GCOptions) settings() *capi.GCOptions {
	settings := &capi.GCOptions{}
	if o.Grace != 0 {
		settings.Flags |= capi.GCHasGrace
	}
	if o.Grace > 0 {
		// Rather a second too long.
		settings.Grace = uint64((o.Grace-1)/time.Second) + 1
	}
	if o.DryRun {
		settings.Flags |= capi.GCDryRun
	}
	return settings
}

// decode is what a document of the library holds.
func decode[T any](document []byte, err error) (T, error) {
	var value T
	if err != nil {
		return value, wrapError(err)
	}
	if err := json.Unmarshal(document, &value); err != nil {
		return value, &Error{Kind: ErrInternal, Message: fmt.Sprintf("what the library told: %v", err)}
	}
	return value, nil
}
