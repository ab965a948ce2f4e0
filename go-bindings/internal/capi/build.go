package capi

// #include <puzzlefs.h>
import "C"

// Bits of puzzlefs_build_flags.
const (
	BuildHasCompressionLevel uint64 = C.PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL
	BuildHasOwner            uint64 = C.PUZZLEFS_BUILD_HAS_OWNER
	BuildHasClampMtime       uint64 = C.PUZZLEFS_BUILD_HAS_CLAMP_MTIME
	BuildHasCreated          uint64 = C.PUZZLEFS_BUILD_HAS_CREATED
	BuildOneFileSystem       uint64 = C.PUZZLEFS_BUILD_ONE_FILE_SYSTEM
	BuildSELinux             uint64 = C.PUZZLEFS_BUILD_SELINUX
	BuildTrustMtime          uint64 = C.PUZZLEFS_BUILD_TRUST_MTIME
	BuildVerifyBase          uint64 = C.PUZZLEFS_BUILD_VERIFY_BASE
	BuildSquash              uint64 = C.PUZZLEFS_BUILD_SQUASH
)

// The values of puzzlefs_compression.
const (
	CompressionZstd = C.PUZZLEFS_COMPRESSION_ZSTD
	CompressionNone = C.PUZZLEFS_COMPRESSION_NONE
)

// The values of puzzlefs_data_layout.
const (
	DataLayoutPacks        = C.PUZZLEFS_DATA_LAYOUT_PACKS
	DataLayoutBlobPerChunk = C.PUZZLEFS_DATA_LAYOUT_BLOB_PER_CHUNK
)

// The values of puzzlefs_marks.
const (
	MarksAuto    = C.PUZZLEFS_MARKS_AUTO
	MarksTrusted = C.PUZZLEFS_MARKS_TRUSTED
	MarksUser    = C.PUZZLEFS_MARKS_USER
)

// BuildOptions is puzzlefs_build_options.
type BuildOptions struct {
	Flags   uint64
	Exclude []string
	// A key, its value, the next key, and so on.
	Annotations      []string
	Config           []byte
	Base             string
	Platform         string
	Architecture     string
	OS               string
	Author           string
	CreatedBy        string
	Comment          string
	Created          int64
	ClampMtime       int64
	UID              uint32
	GID              uint32
	PackSize         uint64
	MemoryLimit      uint64
	Compression      uint32
	CompressionLevel int32
	DataLayout       uint32
	Marks            uint32
	Threads          uint32
	Progress         ProgressFunc
}

// BuildResult is puzzlefs_build_result.
type BuildResult struct {
	Digest        string
	Verity        string
	ManifestSize  uint64
	Inodes        uint64
	Files         uint64
	Layers        uint64
	Chunks        uint64
	NewChunks     uint64
	BytesTree     uint64
	BytesRead     uint64
	BytesNew      uint64
	Unchanged     uint64
	BytesMoved    uint64
	BytesCopied   uint64
	BytesStored   uint64
	BytesShared   uint64
	BytesMetadata uint64
}

// Build is puzzlefs_build.
func Build(rootfs, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(buildFn, rootfs, image, options)
}

// Delta is puzzlefs_delta.
func Delta(upperdir, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(deltaFn, upperdir, image, options)
}

// Canonicalize is puzzlefs_canonicalize.
func Canonicalize(from, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(canonicalizeFn, from, image, options)
}

// Convert is puzzlefs_convert.
func Convert(from, image string, options *BuildOptions) (*BuildResult, error) {
	return makeImage(convertFn, from, image, options)
}

// makeFn is one of the functions that make an image, which all take the same.
type makeFn int

const (
	buildFn makeFn = iota
	deltaFn
	canonicalizeFn
	convertFn
)

func (f makeFn) call(
	source, image *C.char, options *C.puzzlefs_build_options, result *C.puzzlefs_build_result,
	failure **C.puzzlefs_error,
) C.puzzlefs_status {
	switch f {
	case deltaFn:
		return C.puzzlefs_delta(source, image, options, result, failure)
	case canonicalizeFn:
		return C.puzzlefs_canonicalize(source, image, options, result, failure)
	case convertFn:
		return C.puzzlefs_convert(source, image, options, result, failure)
	default:
		return C.puzzlefs_build(source, image, options, result, failure)
	}
}

func makeImage(function makeFn, source, image string, options *BuildOptions) (*BuildResult, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_build_options{
		size:              C.sizeof_puzzlefs_build_options,
		flags:             C.uint64_t(options.Flags),
		exclude:           args.list(options.Exclude),
		annotations:       args.list(options.Annotations),
		config:            args.bytes(options.Config),
		config_length:     C.size_t(len(options.Config)),
		base:              args.optional(options.Base),
		platform:          args.optional(options.Platform),
		architecture:      args.optional(options.Architecture),
		os:                args.optional(options.OS),
		author:            args.optional(options.Author),
		created_by:        args.optional(options.CreatedBy),
		comment:           args.optional(options.Comment),
		created:           C.int64_t(options.Created),
		clamp_mtime:       C.int64_t(options.ClampMtime),
		uid:               C.uint32_t(options.UID),
		gid:               C.uint32_t(options.GID),
		pack_size:         C.uint64_t(options.PackSize),
		memory_limit:      C.uint64_t(options.MemoryLimit),
		compression:       C.uint32_t(options.Compression),
		compression_level: C.int32_t(options.CompressionLevel),
		data_layout:       C.uint32_t(options.DataLayout),
		marks:             C.uint32_t(options.Marks),
		threads:           C.uint32_t(options.Threads),
		progress:          progressFn,
		data:              args.data(callbacks{progress: options.Progress}),
	}
	cSource, cImage := args.text(source), args.text(image)
	if args.err != nil {
		return nil, args.err
	}
	built := C.puzzlefs_build_result{size: C.sizeof_puzzlefs_build_result}
	var failure *C.puzzlefs_error
	status := function.call(cSource, cImage, &cOptions, &built, &failure)
	if err := result(status, failure); err != nil {
		return nil, err
	}
	return &BuildResult{
		Digest:        C.GoString(&built.digest[0]),
		Verity:        C.GoString(&built.verity[0]),
		ManifestSize:  uint64(built.manifest_size),
		Inodes:        uint64(built.inodes),
		Files:         uint64(built.files),
		Layers:        uint64(built.layers),
		Chunks:        uint64(built.chunks),
		NewChunks:     uint64(built.new_chunks),
		BytesTree:     uint64(built.bytes_tree),
		BytesRead:     uint64(built.bytes_read),
		BytesNew:      uint64(built.bytes_new),
		Unchanged:     uint64(built.unchanged_files),
		BytesMoved:    uint64(built.bytes_moved),
		BytesCopied:   uint64(built.bytes_copied),
		BytesStored:   uint64(built.bytes_stored),
		BytesShared:   uint64(built.bytes_shared),
		BytesMetadata: uint64(built.bytes_metadata),
	}, nil
}
