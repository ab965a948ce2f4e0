// Package capi is libpuzzlefs' C functions for Go: nothing but cgo, one Go function a C function,
// named after it. What the functions do is documented in puzzlefs.h.
//
// Nothing of C leaves the package: what the library gives is copied, and freed at once where it
// is to be freed. What it is given, it uses during the call only; so it gets Go memory, pinned.
package capi

// #include <puzzlefs.h>
import "C"

import (
	"fmt"
	"runtime"
	"runtime/cgo"
	"slices"
	"strings"
	"unsafe"
)

// Version is puzzlefs_version.
func Version() string {
	return C.GoString(C.puzzlefs_version())
}

// arguments makes what the arguments of a call point to, and keeps it in its place until it is
// released.
type arguments struct {
	pinner  runtime.Pinner
	handles []cgo.Handle
	// The first error.
	err error
}

func (a *arguments) release() {
	for _, handle := range a.handles {
		handle.Delete()
	}
	a.pinner.Unpin()
}

// text is a string as C has it. A NUL byte in it is an error: C would take it for the end.
func (a *arguments) text(text string) *C.char {
	if strings.IndexByte(text, 0) >= 0 {
		if a.err == nil {
			message := fmt.Sprintf("there is a NUL byte in %q", text)
			a.err = &Error{Status: ErrInvalidInput, Path: text, Message: message}
		}
		return nil
	}
	first := unsafe.SliceData(append([]byte(text), 0))
	a.pinner.Pin(first)
	return (*C.char)(unsafe.Pointer(first))
}

// optional is NULL for an empty string, else the string.
func (a *arguments) optional(text string) *C.char {
	if text == "" {
		return nil
	}
	return a.text(text)
}

// list is an array of strings with NULL behind the last.
func (a *arguments) list(texts []string) **C.char {
	pointers := make([]*C.char, len(texts)+1)
	for i, text := range texts {
		pointers[i] = a.text(text)
	}
	array := unsafe.SliceData(pointers)
	a.pinner.Pin(array)
	return array
}

// optionalList is NULL for nil, else the list.
func (a *arguments) optionalList(texts []string) **C.char {
	if texts == nil {
		return nil
	}
	return a.list(texts)
}

// bytes is a copy of the bytes; NULL if there are none.
func (a *arguments) bytes(bytes []byte) *C.uint8_t {
	if len(bytes) == 0 {
		return nil
	}
	first := unsafe.SliceData(slices.Clone(bytes))
	a.pinner.Pin(first)
	return (*C.uint8_t)(first)
}
