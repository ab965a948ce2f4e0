package capi

// #include <puzzlefs.h>
//
// // The functions exported below, as cgo declares them.
// int puzzlefsGoProgress(puzzlefs_progress *progress, void *data);
// void puzzlefsGoLost(puzzlefs_lost *lost, void *data);
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// The values of puzzlefs_stage.
const (
	StageScan    = C.PUZZLEFS_STAGE_SCAN
	StageStore   = C.PUZZLEFS_STAGE_STORE
	StageExtract = C.PUZZLEFS_STAGE_EXTRACT
	StageCheck   = C.PUZZLEFS_STAGE_CHECK
	StageCompare = C.PUZZLEFS_STAGE_COMPARE
	StageUnpack  = C.PUZZLEFS_STAGE_UNPACK
	StageDelete  = C.PUZZLEFS_STAGE_DELETE
)

// Progress is puzzlefs_progress.
type Progress struct {
	Stage uint32
	Done  uint64
	Total uint64
}

// ProgressFunc is puzzlefs_progress_fn with its data; it returns whether to go on. It is called
// from any thread, never from two at once, and must not panic.
type ProgressFunc func(Progress) bool

// The functions of Go that C is given.
var (
	progressFn = C.puzzlefs_progress_fn(C.puzzlefsGoProgress)
	lostFn     = C.puzzlefs_lost_fn(C.puzzlefsGoLost)
)

// callbacks is what the data of some options leads to.
type callbacks struct {
	progress ProgressFunc
	lost     func(Lost)
}

// data is the C pointer that leads to callbacks; see [cgo.Handle].
func (a *arguments) data(callbacks callbacks) unsafe.Pointer {
	handle := cgo.NewHandle(callbacks)
	a.handles = append(a.handles, handle)
	a.pinner.Pin(&handle)
	return unsafe.Pointer(&handle)
}

func callbacksOf(data unsafe.Pointer) callbacks {
	return (*cgo.Handle)(data).Value().(callbacks)
}

//export puzzlefsGoProgress
func puzzlefsGoProgress(progress *C.puzzlefs_progress, data unsafe.Pointer) C.int {
	goOn := callbacksOf(data).progress(Progress{
		Stage: uint32(progress.stage),
		Done:  uint64(progress.done),
		Total: uint64(progress.total),
	})
	if goOn {
		return 0
	}
	return 1
}

//export puzzlefsGoLost
func puzzlefsGoLost(lost *C.puzzlefs_lost, data unsafe.Pointer) {
	callbacksOf(data).lost(Lost{
		What:  C.GoString(lost.what),
		First: C.GoString(lost.first),
		Count: uint64(lost.count),
	})
}
