package capi

// #include <puzzlefs.h>
import "C"

// ExportResult is puzzlefs_export_result.
type ExportResult struct {
	Entries uint64
	Bytes   uint64
	Sockets uint64
}

// ImageExport is puzzlefs_image_export.
func ImageExport(image *Image, fd uintptr, progress ProgressFunc) (*ExportResult, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_export_options{
		size:     C.sizeof_puzzlefs_export_options,
		progress: progressFn,
		data:     args.data(callbacks{progress: progress}),
	}
	exported := C.puzzlefs_export_result{size: C.sizeof_puzzlefs_export_result}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_export(image.c(), C.int(fd), &cOptions, &exported, &failure)
	if err := result(status, failure); err != nil {
		return nil, err
	}
	return &ExportResult{
		Entries: uint64(exported.entries),
		Bytes:   uint64(exported.bytes),
		Sockets: uint64(exported.sockets),
	}, nil
}
