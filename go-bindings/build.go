package puzzlefs

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// Compression is how data is compressed.
type Compression int

const (
	// Zstd compresses with Zstandard, where that makes the data smaller. It is the default.
	Zstd Compression = capi.CompressionZstd
	// NoCompression stores the data as it is.
	NoCompression Compression = capi.CompressionNone
)

// DataLayout is how data is cut into blobs.
type DataLayout int

const (
	// Packs are many chunks a blob: few blobs, which registries and tools copy fast. They are
	// the default.
	Packs DataLayout = capi.DataLayoutPacks
	// BlobPerChunk is a blob a chunk, as the reference implementation of puzzlefs has it.
	BlobPerChunk DataLayout = capi.DataLayoutBlobPerChunk
)

// Owner is the owner and the group of a file.
type Owner struct {
	UID, GID uint32
}

// Marks says which extended attributes of an upperdir are the overlay's own.
type Marks int

const (
	// AutoMarks are those in the namespace that is met first; both in one upperdir are an error.
	AutoMarks Marks = capi.MarksAuto
	// TrustedMarks are trusted.overlay.*.
	TrustedMarks Marks = capi.MarksTrusted
	// UserMarks are user.overlay.*, as of an overlay mounted with userxattr.
	UserMarks Marks = capi.MarksUser
)

// BuildOptions says how an image is built. The zero value, and nil, are the defaults.
type BuildOptions struct {
	// Base is the image to start from, as LAYOUT:TAG or LAYOUT@sha256:HEX; it may be in another
	// layout. Its configuration, history and annotations are carried on. [Delta] needs one;
	// [Canonicalize] and [Convert] take none.
	Base string
	// Platform is which image is meant where the base, or the image that is canonicalized or
	// converted, is that of an index: OS/ARCHITECTURE[/VARIANT]. Empty for this machine's, or the
	// only one.
	Platform string
	// VerifyBase checks the digests of all of the base's data first.
	VerifyBase bool
	// TrustMtime takes a file for the base's unread if its path, type, size, mode, owner and mtime
	// are the same; for [Build] only, and refused where times mean nothing.
	TrustMtime bool
	// Marks says which attributes are the overlay's; for [Delta] only.
	Marks Marks
	// Squash makes one step of all layers; for [Convert] only.
	Squash bool

	// Exclude has patterns of what is left out. One without a slash matches a name at any depth,
	// one with a slash matches a path from the root of the tree; * does not match a slash, **
	// does. What is below a directory that is left out is left out too.
	Exclude []string
	// OneFileSystem leaves a directory empty on which another file system is mounted; for [Build]
	// and [Delta].
	OneFileSystem bool
	// SELinux keeps the extended attribute security.selinux, which belongs to the host.
	SELinux bool
	// Owner is the owner of everything; nil for the ones on disk.
	Owner *Owner
	// ClampMtime is the newest mtime: what is newer gets this one, in whole seconds. The zero
	// time for no such limit.
	ClampMtime time.Time

	// Compression is how the data is compressed.
	Compression Compression
	// Level is Zstandard's level, from -7 to 22; 0 for 3.
	Level int
	// DataLayout is how the data is cut into blobs.
	DataLayout DataLayout
	// PackSize is the mean size of packs in bytes, a power of two from 1 to 32 MiB; 0 for one
	// that fits the size of the tree.
	PackSize int64
	// MemoryLimit is how many bytes of memory the build may take, besides what the process has; 0
	// for no limit. With little of it fewer threads work, on less at once; the image is the same.
	// If it needs more in any case, that is an error, whose message tells how much.
	MemoryLimit int64

	// Config is an OCI image configuration to start from, as JSON: all of it is kept but its
	// layers and history.
	Config []byte
	// Architecture is the image's architecture, as in GOARCH; empty for the one of Config, else of
	// the image that it is made of, else this machine's.
	Architecture string
	// OS is the image's operating system, as in GOOS; empty for the one of Config, else of the
	// image that it is made of, else linux.
	OS string
	// Annotations are the manifest's.
	Annotations map[string]string
	// Created is when the image was created, in whole seconds; the zero time for the
	// environment's SOURCE_DATE_EPOCH, else what an ordinary image that is converted says, else
	// the newest mtime in the tree.
	Created time.Time
	// Author is who made the image; empty for the one of Config, else nobody.
	Author string
	// CreatedBy is what made the image, for its history; empty for "puzzlefs build".
	CreatedBy string
	// Comment is a remark for the image's history.
	Comment string

	// Threads is how many threads read and how many compress, up to 256; 0 for the number of
	// cores, up to 16. The image is the same with any number.
	Threads int
	// Progress is told how far the build is, on the goroutine that called Build. It may be slow:
	// then it is told less often, and the build does not wait for it.
	Progress func(Progress)
}

// BuildResult says what was built.
type BuildResult struct {
	// Digest is the digest of the image's manifest, such as "sha256:e3b0…". The manifest's media
	// type is application/vnd.oci.image.manifest.v1+json.
	Digest string
	// Size is the size of the image's manifest in bytes.
	Size int64
	// Verity is the fs-verity digest of the image's manifest in hexadecimal.
	Verity string

	// Inodes is the number of inodes in the image.
	Inodes int64
	// Files is the number of regular files among them.
	Files int64
	// Layers is the number of the manifest's layers: the rootfs and the data blobs.
	Layers int64
	// Chunks is the number of chunks that the files consist of.
	Chunks int64
	// NewChunks is the number of those among them that were seen for the first time.
	NewChunks int64

	// BytesTree is the sum of the files' sizes.
	BytesTree int64
	// BytesRead is how much was read of the files: less than their sizes where they have holes.
	BytesRead int64
	// BytesNew is the size of the new chunks.
	BytesNew int64
	// UnchangedFiles is the number of files that hold what the base's file of the same path holds.
	UnchangedFiles int64
	// BytesMoved is how much was stored anew of the base's packs, of which little was used, or which
	// were small and too many.
	BytesMoved int64
	// BytesCopied is the size of the base's blobs that were copied from its layout.
	BytesCopied int64
	// BytesStored is the size of the blobs that were written, copied ones among them.
	BytesStored int64
	// BytesShared is the size of the blobs that the layout had before.
	BytesShared int64
	// BytesMetadata is the size of the metadata.
	BytesMetadata int64
}

// Build builds an image of the directory rootfs and stores it as image, which is LAYOUT:TAG. The
// layout is made if it is not there.
//
// Nothing refers to the image before it is complete: when the build fails, or ctx ends before it
// is done, the layout is as it was.
func Build(ctx context.Context, rootfs, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(ctx, capi.Build, rootfs, image, options)
}

// Delta builds an image of the base image of the options and what the overlayfs upperdir changes of
// it, and stores it as image. It is the image that [Build] makes of the merged tree with the same
// base, at the cost of the change.
//
// What of overlayfs's marks an upperdir does not explain by itself (redirects, metacopies, the link
// counts of index=on) is an error.
func Delta(ctx context.Context, upperdir, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(ctx, capi.Delta, upperdir, image, options)
}

// Canonicalize stores the image from, LAYOUT:TAG or LAYOUT@sha256:HEX, as image without its history:
// with the metadata and data that [Build] of its tree with the same options would give.
func Canonicalize(ctx context.Context, from, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(ctx, capi.Canonicalize, from, image, options)
}

// Convert makes a puzzlefs image of the ordinary OCI image from, whose layers are tar archives, and
// stores it as image. Nothing is unpacked; configuration, annotations and history are carried on.
func Convert(ctx context.Context, from, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(ctx, capi.Convert, from, image, options)
}

func makeImage(
	ctx context.Context, function func(string, string, *capi.BuildOptions) (*capi.BuildResult, error),
	source, image string, options *BuildOptions,
) (*BuildResult, error) {
	if options == nil {
		options = &BuildOptions{}
	}
	settings, err := options.settings()
	if err != nil {
		return nil, err
	}
	built, err := supervise(ctx, options.Progress, func(progress capi.ProgressFunc) (*capi.BuildResult, error) {
		settings.Progress = progress
		return function(source, image, settings)
	})
	if err != nil {
		return nil, err
	}
	return &BuildResult{
		Digest:         built.Digest,
		Size:           int64(built.ManifestSize),
		Verity:         built.Verity,
		Inodes:         int64(built.Inodes),
		Files:          int64(built.Files),
		Layers:         int64(built.Layers),
		Chunks:         int64(built.Chunks),
		NewChunks:      int64(built.NewChunks),
		BytesTree:      int64(built.BytesTree),
		BytesRead:      int64(built.BytesRead),
		BytesNew:       int64(built.BytesNew),
		UnchangedFiles: int64(built.Unchanged),
		BytesMoved:     int64(built.BytesMoved),
		BytesCopied:    int64(built.BytesCopied),
		BytesStored:    int64(built.BytesStored),
		BytesShared:    int64(built.BytesShared),
		BytesMetadata:  int64(built.BytesMetadata),
	}, nil
}

// settings is the options as the library wants them.
func (o *BuildOptions) settings() (*capi.BuildOptions, error) {
	settings := &capi.BuildOptions{
		Exclude:      o.Exclude,
		Annotations:  pairs(o.Annotations),
		Config:       o.Config,
		Base:         o.Base,
		Platform:     o.Platform,
		Architecture: o.Architecture,
		OS:           o.OS,
		Author:       o.Author,
		CreatedBy:    o.CreatedBy,
		Comment:      o.Comment,
	}
	if o.OneFileSystem {
		settings.Flags |= capi.BuildOneFileSystem
	}
	if o.SELinux {
		settings.Flags |= capi.BuildSELinux
	}
	if o.TrustMtime {
		settings.Flags |= capi.BuildTrustMtime
	}
	if o.VerifyBase {
		settings.Flags |= capi.BuildVerifyBase
	}
	if o.Squash {
		settings.Flags |= capi.BuildSquash
	}
	if o.Owner != nil {
		settings.Flags |= capi.BuildHasOwner
		settings.UID, settings.GID = o.Owner.UID, o.Owner.GID
	}
	if !o.ClampMtime.IsZero() {
		settings.Flags |= capi.BuildHasClampMtime
		settings.ClampMtime = o.ClampMtime.Unix()
	}
	if !o.Created.IsZero() {
		settings.Flags |= capi.BuildHasCreated
		settings.Created = o.Created.Unix()
	}
	if o.Level != 0 {
		settings.Flags |= capi.BuildHasCompressionLevel
	}
	return settings, cmp.Or(
		assign(&settings.Compression, int64(o.Compression), "the compression"),
		assign(&settings.CompressionLevel, int64(o.Level), "the compression level"),
		assign(&settings.DataLayout, int64(o.DataLayout), "the data layout"),
		assign(&settings.Marks, int64(o.Marks), "the marks"),
		assign(&settings.PackSize, o.PackSize, "the pack size"),
		assign(&settings.MemoryLimit, o.MemoryLimit, "the memory limit"),
		assign(&settings.Threads, int64(o.Threads), "the number of threads"),
	)
}

// assign gives a field of the library's options a value of ours; one that the field cannot hold
// is an error. What else is wrong with a value, the library tells.
func assign[T int32 | uint32 | uint64](field *T, value int64, what string) error {
	*field = T(value)
	if int64(*field) != value || value < 0 && *field > 0 {
		return invalid(fmt.Sprintf("%s is %d", what, value))
	}
	return nil
}
