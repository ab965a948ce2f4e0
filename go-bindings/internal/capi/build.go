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

// BuildOptions is puzzlefs_build_options.
type BuildOptions struct {
	Flags   uint64
	Exclude []string
	// A key, its value, the next key, and so on.
	Annotations      []string
	Config           []byte
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
	Compression      uint32
	CompressionLevel int32
	DataLayout       uint32
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
	BytesStored   uint64
	BytesShared   uint64
	BytesMetadata uint64
}

// Build is puzzlefs_build.
func Build(rootfs, image string, options *BuildOptions) (*BuildResult, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_build_options{
		size:              C.sizeof_puzzlefs_build_options,
		flags:             C.uint64_t(options.Flags),
		exclude:           args.list(options.Exclude),
		annotations:       args.list(options.Annotations),
		config:            args.bytes(options.Config),
		config_length:     C.size_t(len(options.Config)),
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
		compression:       C.uint32_t(options.Compression),
		compression_level: C.int32_t(options.CompressionLevel),
		data_layout:       C.uint32_t(options.DataLayout),
		threads:           C.uint32_t(options.Threads),
		progress:          progressFn,
		data:              args.data(callbacks{progress: options.Progress}),
	}
	cRootfs, cImage := args.text(rootfs), args.text(image)
	if args.err != nil {
		return nil, args.err
	}
	built := C.puzzlefs_build_result{size: C.sizeof_puzzlefs_build_result}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_build(cRootfs, cImage, &cOptions, &built, &failure)
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
		BytesStored:   uint64(built.bytes_stored),
		BytesShared:   uint64(built.bytes_shared),
		BytesMetadata: uint64(built.bytes_metadata),
	}, nil
}
