package capi

// #include <puzzlefs.h>
import "C"

// Status is puzzlefs_status.
type Status int32

// The values of puzzlefs_status.
const (
	ErrInvalidInput     Status = C.PUZZLEFS_ERR_INVALID_INPUT
	ErrNotFound         Status = C.PUZZLEFS_ERR_NOT_FOUND
	ErrAlreadyExists    Status = C.PUZZLEFS_ERR_ALREADY_EXISTS
	ErrPermissionDenied Status = C.PUZZLEFS_ERR_PERMISSION_DENIED
	ErrCorrupt          Status = C.PUZZLEFS_ERR_CORRUPT
	ErrUnsupported      Status = C.PUZZLEFS_ERR_UNSUPPORTED
	ErrChanged          Status = C.PUZZLEFS_ERR_CHANGED
	ErrNoSpace          Status = C.PUZZLEFS_ERR_NO_SPACE
	ErrCancelled        Status = C.PUZZLEFS_ERR_CANCELLED
	ErrIO               Status = C.PUZZLEFS_ERR_IO
	ErrInternal         Status = C.PUZZLEFS_ERR_INTERNAL
)

// Error is puzzlefs_error.
type Error struct {
	Status  Status
	Errno   int
	Path    string
	Message string
}

func (e *Error) Error() string {
	return e.Message
}

// result is the error of a call that returned status, and frees failure.
func result(status C.puzzlefs_status, failure *C.puzzlefs_error) error {
	if status == C.PUZZLEFS_OK {
		return nil
	}
	defer C.puzzlefs_error_free(failure)
	err := &Error{
		Status:  Status(status),
		Errno:   int(C.puzzlefs_error_errno(failure)),
		Message: C.GoString(C.puzzlefs_error_message(failure)),
	}
	if path := C.puzzlefs_error_path(failure); path != nil {
		err.Path = C.GoString(path)
	}
	return err
}
