package capi

// #include <puzzlefs.h>
import "C"

// ExtractNoSameOwner is PUZZLEFS_EXTRACT_NO_SAME_OWNER.
const ExtractNoSameOwner uint64 = C.PUZZLEFS_EXTRACT_NO_SAME_OWNER

// ExtractOptions is puzzlefs_extract_options.
type ExtractOptions struct {
	Flags    uint64
	Threads  uint32
	Progress ProgressFunc
	Lost     func(Lost)
}

// Lost is puzzlefs_lost.
type Lost struct {
	What  string
	First string
	Count uint64
}

// ExtractResult is puzzlefs_extract_result.
type ExtractResult struct {
	Inodes uint64
	Bytes  uint64
	Lost   uint64
}

// ImageExtract is puzzlefs_image_extract.
func ImageExtract(image *Image, target string, options *ExtractOptions) (*ExtractResult, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_extract_options{
		size:     C.sizeof_puzzlefs_extract_options,
		flags:    C.uint64_t(options.Flags),
		threads:  C.uint32_t(options.Threads),
		progress: progressFn,
		lost:     lostFn,
		data:     args.data(callbacks{progress: options.Progress, lost: options.Lost}),
	}
	cTarget := args.text(target)
	if args.err != nil {
		return nil, args.err
	}
	extracted := C.puzzlefs_extract_result{size: C.sizeof_puzzlefs_extract_result}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_extract(image.c(), cTarget, &cOptions, &extracted, &failure)
	if err := result(status, failure); err != nil {
		return nil, err
	}
	return &ExtractResult{
		Inodes: uint64(extracted.inodes),
		Bytes:  uint64(extracted.bytes),
		Lost:   uint64(extracted.lost),
	}, nil
}
