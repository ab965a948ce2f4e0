package capi

// #include <puzzlefs.h>
//
// // The functions exported below, as cgo declares them.
// int puzzlefsGoProgress(puzzlefs_progress *progress, void *data);
// void puzzlefsGoLost(puzzlefs_lost *lost, void *data);
// int puzzlefsGoChange(puzzlefs_change *change, void *data);
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
	StageWait    = C.PUZZLEFS_STAGE_WAIT
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
	changeFn   = C.puzzlefs_change_fn(C.puzzlefsGoChange)
)

// callbacks is what the data of C's functions leads to.
type callbacks struct {
	progress ProgressFunc
	lost     func(Lost)
	change   ChangeFunc
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
	return answer(callbacksOf(data).progress(Progress{
		Stage: uint32(progress.stage),
		Done:  uint64(progress.done),
		Total: uint64(progress.total),
	}))
}

//export puzzlefsGoLost
func puzzlefsGoLost(lost *C.puzzlefs_lost, data unsafe.Pointer) {
	callbacksOf(data).lost(Lost{
		What:  C.GoString(lost.what),
		First: C.GoString(lost.first),
		Count: uint64(lost.count),
	})
}

//export puzzlefsGoChange
func puzzlefsGoChange(change *C.puzzlefs_change, data unsafe.Pointer) C.int {
	path := unsafe.Slice((*byte)(unsafe.Pointer(change.path)), change.path_length)
	return answer(callbacksOf(data).change(Change{
		Path:    string(path),
		Aspects: uint64(change.aspects),
		Kind:    uint32(change.kind),
	}))
}

// answer says whether to go on, as C has it.
func answer(goOn bool) C.int {
	if goOn {
		return 0
	}
	return 1
}
