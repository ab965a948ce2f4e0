package stacker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	ispec "github.com/opencontainers/image-spec/specs-go/v1"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// partial is what the name of a directory begins with that is not complete.
const partial = ".partial-"

// Unpacker fills the folders of base images. The zero value does so by extracting them.
//
// All of its methods may be called by any number of goroutines at once.
type Unpacker struct {
	// Mount mounts images instead of extracting them. That takes no time and no space, but lasts
	// only until Close, or until the process ends.
	Mount bool
	// Lost is told what could not be extracted for want of privileges, such as devices in a user
	// namespace. Commands that are run on the image do not see it; what is built on it has it. It
	// may be called by several goroutines at once.
	Lost func(dir string, lost puzzlefs.Lost)

	mu     sync.Mutex
	mounts []*puzzlefs.Mount
}

// Unpack fills dir, the directory "overlay" in the folder of a layer that [Lookup] told of: with the
// whole tree of the image, which is in the layout cache. Another process may do the same at the same
// time, and what one left that was killed is removed. A directory in which there is something is
// left as it is.
//
// The folder of a step cannot be filled again. It is an error that is [fs.ErrNotExist].
func (u *Unpacker) Unpack(ctx context.Context, cache string, layer ispec.Descriptor, dir string) error {
	if err := u.unpack(ctx, cache, layer, dir); err != nil {
		return fmt.Errorf("unpack the layer %s into %s: %w", layer.Digest, dir, err)
	}
	return nil
}

// Close unmounts what was mounted.
func (u *Unpacker) Close() error {
	u.mu.Lock()
	defer u.mu.Unlock()
	var errs []error
	for _, mount := range u.mounts {
		errs = append(errs, mount.Detach())
	}
	u.mounts = nil
	return errors.Join(errs...)
}

func (u *Unpacker) unpack(ctx context.Context, cache string, layer ispec.Descriptor, dir string) (err error) {
	path := filepath.Dir(dir)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	folder, err := lockFolder(ctx, path, syscall.LOCK_EX)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	if err := clean(path, dir); err != nil {
		return err
	}
	// What is there came there at once.
	empty, err := isEmpty(dir)
	if err == nil && !empty {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	digest, isBase := layer.Annotations[annotationImage]
	if !isBase {
		return fmt.Errorf("the upperdir of a step is gone, which --no-cache builds again: %w", fs.ErrNotExist)
	}
	image, err := puzzlefs.Open(cache+"@"+digest, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	if u.Mount {
		return u.mount(ctx, image, dir)
	}
	return u.extract(ctx, image, dir)
}

// extract extracts an image into a directory that gets its name when it is complete.
func (u *Unpacker) extract(ctx context.Context, image *puzzlefs.Image, dir string) (err error) {
	temporary, err := os.MkdirTemp(filepath.Dir(dir), partial)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	result, err := image.Extract(ctx, temporary, nil)
	if err != nil {
		return err
	}
	// Not os.Rename: an empty directory is replaced.
	if err := syscall.Rename(temporary, dir); err != nil {
		return &os.LinkError{Op: "rename", Old: temporary, New: dir, Err: err}
	}
	for _, lost := range result.Lost {
		if u.Lost != nil {
			u.Lost(dir, lost)
		}
	}
	return nil
}

func (u *Unpacker) mount(ctx context.Context, image *puzzlefs.Image, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	mount, err := image.Mount(ctx, dir, nil)
	if err != nil {
		return err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.mounts = append(u.mounts, mount)
	return nil
}

// clean removes from a layer's folder what processes left that were killed: directories that are not
// complete, and a mount that nobody serves.
func clean(folder, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, syscall.ENOTCONN) {
		if err := puzzlefs.Unmount(dir, true); err != nil {
			return err
		}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), partial) {
			if err := os.RemoveAll(filepath.Join(folder, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
