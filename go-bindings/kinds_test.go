package puzzlefs

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"testing"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// TestKinds has errors that are hard to come by.
func TestKinds(t *testing.T) {
	// All that an error may be.
	all := []error{
		fs.ErrInvalid, fs.ErrNotExist, fs.ErrExist, fs.ErrPermission, fs.ErrClosed,
		errors.ErrUnsupported, context.Canceled, context.DeadlineExceeded,
		ErrCorrupt, ErrChanged, ErrNoSpace, ErrIO, ErrInternal,
		syscall.ENOSPC, syscall.EDQUOT, syscall.EIO, syscall.ENOTEMPTY,
	}
	cases := []struct {
		from capi.Error
		is   []error
	}{
		{capi.Error{Status: capi.ErrInvalidInput}, []error{fs.ErrInvalid}},
		{capi.Error{Status: capi.ErrNotFound}, []error{fs.ErrNotExist}},
		{capi.Error{Status: capi.ErrNotFound, Errno: int(syscall.ENOENT)}, []error{fs.ErrNotExist}},
		{
			capi.Error{Status: capi.ErrAlreadyExists, Errno: int(syscall.ENOTEMPTY)},
			[]error{fs.ErrExist, syscall.ENOTEMPTY},
		},
		{capi.Error{Status: capi.ErrPermissionDenied, Errno: int(syscall.EPERM)}, []error{fs.ErrPermission}},
		{capi.Error{Status: capi.ErrCorrupt}, []error{ErrCorrupt}},
		{capi.Error{Status: capi.ErrUnsupported}, []error{errors.ErrUnsupported}},
		{capi.Error{Status: capi.ErrChanged}, []error{ErrChanged}},
		{capi.Error{Status: capi.ErrNoSpace, Errno: int(syscall.ENOSPC)}, []error{ErrNoSpace, syscall.ENOSPC}},
		{capi.Error{Status: capi.ErrNoSpace, Errno: int(syscall.EDQUOT)}, []error{ErrNoSpace, syscall.EDQUOT}},
		{capi.Error{Status: capi.ErrCancelled}, []error{context.Canceled}},
		{capi.Error{Status: capi.ErrIO, Errno: int(syscall.EIO)}, []error{ErrIO, syscall.EIO}},
		{capi.Error{Status: capi.ErrInternal}, []error{ErrInternal}},
		{capi.Error{Status: -1000}, []error{ErrInternal}},
	}
	for _, c := range cases {
		err := wrapError(&c.from)
		for _, target := range all {
			if got, want := errors.Is(err, target), slices.Contains(c.is, target); got != want {
				t.Errorf("%+v: is it %v? %v", c.from, target, got)
			}
		}
	}
	if wrapError(nil) != nil || wrapError(os.ErrProcessDone) != os.ErrProcessDone {
		t.Error("what is not the library's stays as it is")
	}
}
