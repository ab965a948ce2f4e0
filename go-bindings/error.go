package puzzlefs

import (
	"context"
	"errors"
	"io/fs"
	"syscall"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// Kinds of errors that the standard library has no error for. Test for them with [errors.Is].
var (
	// ErrCorrupt: data in a layout or an image is not what its format or its digest says.
	ErrCorrupt = errors.New("corrupt data")
	// ErrChanged: the source changed while it was read, or the target while it was written.
	ErrChanged = errors.New("changed meanwhile")
	// ErrNoSpace: the file system is full, or a quota is used up.
	ErrNoSpace = errors.New("no space left")
	// ErrIO: another failure of the system; [Error.Errno] tells which.
	ErrIO = errors.New("input/output error")
	// ErrInternal: a defect of the library.
	ErrInternal = errors.New("internal error")
)

// Error is what the functions of this package fail with; those that make an [Image] an [fs.FS]
// wrap it in an [fs.PathError].
//
// [errors.Is] finds its kind, the system's error number as a [syscall.Errno], and for work that
// ended with its context both ctx.Err() and context.Cause(ctx).
type Error struct {
	// Kind is what went wrong, for programs to decide by: [fs.ErrInvalid], [fs.ErrNotExist],
	// [fs.ErrExist], [fs.ErrPermission], [fs.ErrClosed], [errors.ErrUnsupported],
	// [context.Canceled], [context.DeadlineExceeded], or one of this package's own.
	Kind error
	// Errno is the system's error number; 0 if there is none.
	Errno syscall.Errno
	// Path is what the error is about, on disk or in the image; empty if it is about no path.
	Path string
	// Message is one line for people, which names the path.
	Message string

	cause error
}

func (e *Error) Error() string {
	return e.Message
}

// Unwrap returns all that the error is.
func (e *Error) Unwrap() []error {
	errs := []error{e.Kind}
	if e.Errno != 0 {
		errs = append(errs, e.Errno)
	}
	if e.cause != nil {
		errs = append(errs, e.cause)
	}
	return errs
}

// kinds has the kind of each status of the library.
var kinds = map[capi.Status]error{
	capi.ErrInvalidInput:     fs.ErrInvalid,
	capi.ErrNotFound:         fs.ErrNotExist,
	capi.ErrAlreadyExists:    fs.ErrExist,
	capi.ErrPermissionDenied: fs.ErrPermission,
	capi.ErrCorrupt:          ErrCorrupt,
	capi.ErrUnsupported:      errors.ErrUnsupported,
	capi.ErrChanged:          ErrChanged,
	capi.ErrNoSpace:          ErrNoSpace,
	capi.ErrCancelled:        context.Canceled,
	capi.ErrIO:               ErrIO,
	capi.ErrInternal:         ErrInternal,
}

// wrapError makes an [*Error] of what the library failed with.
func wrapError(err error) error {
	if err == nil {
		return nil
	}
	var failure *capi.Error
	if !errors.As(err, &failure) {
		return err
	}
	kind, known := kinds[failure.Status]
	if !known {
		// A newer library may know kinds that did not exist when this was written.
		kind = ErrInternal
	}
	return &Error{Kind: kind, Errno: syscall.Errno(failure.Errno), Path: failure.Path, Message: failure.Message}
}

// contextError is the error of work that ended because ctx did.
func contextError(ctx context.Context) error {
	cause := context.Cause(ctx)
	return &Error{Kind: ctx.Err(), Message: cause.Error(), cause: cause}
}

// invalid is the error of an argument that makes no sense.
func invalid(message string) error {
	return &Error{Kind: fs.ErrInvalid, Message: message}
}
