package puzzlefs

import (
	"context"
	"errors"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// Stage is what a long operation is doing.
type Stage int

const (
	// StageScan reads the directories of the source; counted in directories, without a total.
	StageScan Stage = Stage(capi.StageScan)
	// StageStore reads the files of the source and stores their content; counted in bytes.
	StageStore Stage = Stage(capi.StageStore)
	// StageCompare compares the files of the source with the base's; counted in bytes.
	StageCompare Stage = Stage(capi.StageCompare)
	// StageUnpack reads the layers of an ordinary image; counted in bytes as they are stored.
	StageUnpack Stage = Stage(capi.StageUnpack)
	// StageExtract writes files out; counted in bytes.
	StageExtract Stage = Stage(capi.StageExtract)
	// StageCheck checks digests; counted in bytes.
	StageCheck Stage = Stage(capi.StageCheck)
	// StageDelete deletes what nothing refers to; counted in blobs looked at.
	StageDelete Stage = Stage(capi.StageDelete)
	// StageWait waits for somebody else who locks the layout; nothing is counted.
	StageWait Stage = Stage(capi.StageWait)
)

func (s Stage) String() string {
	switch s {
	case StageScan:
		return "scanning"
	case StageStore:
		return "storing"
	case StageCompare:
		return "comparing"
	case StageUnpack:
		return "unpacking"
	case StageExtract:
		return "extracting"
	case StageCheck:
		return "checking"
	case StageDelete:
		return "deleting"
	case StageWait:
		return "waiting"
	default:
		return "working"
	}
}

// Progress tells how far a long operation is.
type Progress struct {
	Stage Stage
	// Done is how much of the stage is done, in its unit.
	Done int64
	// Total is how much there is in the stage; 0 if that is not known.
	Total int64
}

// supervise runs work, which asks again and again whether to go on, until ctx ends. If there is a
// report, it is called with the newest progress.
func supervise[T any](
	ctx context.Context,
	report func(Progress),
	work func(capi.ProgressFunc) (T, error),
) (result T, err error) {
	if ctx.Err() != nil {
		return result, contextError(ctx)
	}
	if report == nil {
		result, err = work(func(capi.Progress) bool { return ctx.Err() == nil })
	} else {
		result, err = watch(ctx, report, work)
	}
	err = wrapError(err)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = contextError(ctx)
	}
	return result, err
}

// watch runs work beside the caller's goroutine, and report on it: so report may be slow, and
// even panic.
func watch[T any](
	ctx context.Context,
	report func(Progress),
	work func(capi.ProgressFunc) (T, error),
) (result T, err error) {
	ctx, stop := context.WithCancel(ctx)
	latest := make(chan Progress, 1)
	// Whatever report does, the work does not outlive the call.
	defer func() {
		stop()
		for range latest {
		}
	}()
	go func() {
		defer close(latest)
		result, err = work(func(p capi.Progress) bool {
			// Only the newest counts. Nobody else sends, so there is room for it now.
			select {
			case <-latest:
			default:
			}
			latest <- Progress{Stage: Stage(p.Stage), Done: int64(p.Done), Total: int64(p.Total)}
			return ctx.Err() == nil
		})
	}()
	for progress := range latest {
		report(progress)
	}
	return result, err
}
