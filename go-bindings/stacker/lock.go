package stacker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// pause is how long to wait before a lock is tried again.
const pause = 10 * time.Millisecond

// Lock is for a stacker that builds in a layout into which others write at the same time. It is made
// of libpuzzlefs's own locks, which are flock(2) on folders of the layout: nothing is added to it.
//
// Its methods must not be called by several goroutines at once.
type Lock struct {
	ociDir string
	// blobs is locked, shared, as long as blobs are relied on to which no tag refers.
	blobs *os.File
}

// LockLayout keeps others from deleting blobs of a layout to which no tag refers yet, until it is
// closed: [puzzlefs.GC], and all who collect garbage with a lock of their own. It waits while they
// do.
func LockLayout(ctx context.Context, ociDir string) (*Lock, error) {
	blobs, err := lockFolder(ctx, filepath.Join(ociDir, "blobs", "sha256"), syscall.LOCK_SH)
	if err != nil {
		return nil, fmt.Errorf("lock the layout %s: %w", ociDir, err)
	}
	return &Lock{ociDir: ociDir, blobs: blobs}, nil
}

// Collect calls a function that deletes the blobs to which no tag refers, such as GC of umoci's
// engine, if nobody else holds a lock, and tells whether it did. Else the blobs stay for whoever is
// the last to collect. The caller relies on none of them any more.
func (l *Lock) Collect(ctx context.Context, collect func(context.Context) error) (collected bool, err error) {
	alone, err := tryLock(l.blobs, syscall.LOCK_EX)
	if err != nil {
		return false, fmt.Errorf("lock the layout %s alone: %w", l.ociDir, err)
	}
	if alone {
		err = collect(ctx)
	}
	// Whether the attempt went well or not, what was held before it is given up.
	return alone, errors.Join(err, lock(ctx, l.blobs, syscall.LOCK_SH))
}

// Close gives the lock up.
func (l *Lock) Close() error {
	return l.blobs.Close()
}

// UpdateIndex calls a function that changes the index.json of a layout, such as one that sets a tag,
// while nobody else changes it. The function must not call any of this package or of libpuzzlefs that
// does so: they wait for the same lock.
func UpdateIndex(ctx context.Context, ociDir string, change func() error) (err error) {
	layout, err := lockFolder(ctx, ociDir, syscall.LOCK_EX)
	if err != nil {
		return fmt.Errorf("lock the index of %s: %w", ociDir, err)
	}
	defer func() { err = errors.Join(err, layout.Close()) }()
	return change()
}

// lockFolder locks a folder until the file is closed.
func lockFolder(ctx context.Context, path string, how int) (*os.File, error) {
	folder, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := lock(ctx, folder, how); err != nil {
		return nil, errors.Join(err, folder.Close())
	}
	return folder, nil
}

// lock locks a file as soon as others let it.
func lock(ctx context.Context, file *os.File, how int) error {
	for {
		if locked, err := tryLock(file, how); locked || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return &os.PathError{Op: "lock", Path: file.Name(), Err: context.Cause(ctx)}
		case <-time.After(pause):
		}
	}
}

// tryLock tells whether it could lock a file at once.
func tryLock(file *os.File, how int) (bool, error) {
	switch err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB); err {
	case nil:
		return true, nil
	case syscall.EWOULDBLOCK, syscall.EINTR:
		return false, nil
	default:
		return false, &os.PathError{Op: "lock", Path: file.Name(), Err: err}
	}
}
