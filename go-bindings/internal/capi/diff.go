package capi

// #include <puzzlefs.h>
import "C"

// The values of puzzlefs_change_kind.
const (
	ChangeAdded   uint32 = C.PUZZLEFS_CHANGE_ADDED
	ChangeRemoved uint32 = C.PUZZLEFS_CHANGE_REMOVED
	ChangeChanged uint32 = C.PUZZLEFS_CHANGE_CHANGED
)

// The values of puzzlefs_aspects.
const (
	AspectType    uint64 = C.PUZZLEFS_ASPECT_TYPE
	AspectContent uint64 = C.PUZZLEFS_ASPECT_CONTENT
	AspectTarget  uint64 = C.PUZZLEFS_ASPECT_TARGET
	AspectDevice  uint64 = C.PUZZLEFS_ASPECT_DEVICE
	AspectMode    uint64 = C.PUZZLEFS_ASPECT_MODE
	AspectOwner   uint64 = C.PUZZLEFS_ASPECT_OWNER
	AspectTime    uint64 = C.PUZZLEFS_ASPECT_TIME
	AspectXattr   uint64 = C.PUZZLEFS_ASPECT_XATTR
	AspectLinks   uint64 = C.PUZZLEFS_ASPECT_LINKS
)

// Change is puzzlefs_change.
type Change struct {
	Path    string
	Aspects uint64
	Kind    uint32
}

// ChangeFunc is puzzlefs_change_fn with its data; it returns whether to go on, and must not panic.
type ChangeFunc func(Change) bool

// DiffResult is puzzlefs_diff_result.
type DiffResult struct {
	Blobs         uint64
	BytesData     uint64
	BytesMetadata uint64
}

// ImageDiff is puzzlefs_image_diff; visit may be nil.
func ImageDiff(image, other *Image, visit ChangeFunc) (*DiffResult, error) {
	var args arguments
	defer args.release()
	var cVisit C.puzzlefs_change_fn
	if visit != nil {
		cVisit = changeFn
	}
	data := args.data(callbacks{change: visit})
	found := C.puzzlefs_diff_result{size: C.sizeof_puzzlefs_diff_result}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_diff(image.c(), other.c(), cVisit, data, &found, &failure)
	if err := result(status, failure); err != nil {
		return nil, err
	}
	return &DiffResult{
		Blobs:         uint64(found.blobs),
		BytesData:     uint64(found.bytes_data),
		BytesMetadata: uint64(found.bytes_metadata),
	}, nil
}
