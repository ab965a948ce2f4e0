package puzzlefs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// ErrUnmounted is what [Mount.Err] returns when somebody else unmounted it.
var ErrUnmounted = errors.New("somebody else unmounted it")

// MountOptions says how an image is mounted. The zero value, and nil, are the defaults.
type MountOptions struct {
	// AllowOther lets other users look into the mount, as is the default if root mounts. An
	// ordinary user may say so only where /etc/fuse.conf allows it.
	AllowOther bool
	// OwnerOnly lets nobody else look into the mount, also if root mounts.
	OwnerOnly bool
	// DefaultPermissions has the kernel check permissions as everywhere. Else whoever may look
	// into the mount may read everything in it. It is always so where others may look into it.
	DefaultPermissions bool
	// NoSUID makes set-user-ID and set-group-ID bits and capabilities have no effect. It is always
	// so where an ordinary user mounts.
	NoSUID bool
	// NoDev keeps devices from being opened. It is always so where an ordinary user mounts.
	NoDev bool
	// NoExec keeps programs from being executed.
	NoExec bool
	// Writable makes a mount that can be written to, by overlayfs over the image: into memory, or
	// where Persist says. It is for root, or in a user namespace.
	Writable bool
	// Persist is the directory that keeps what is written, in its subdirectory "upper", which the
	// next mount finds again; it is made if it is not there. With it, the mount is writable.
	Persist string
	// UIDMap and GIDMap say how owners and groups are shown; those in no range belong to nobody,
	// 65534. Empty for as they are.
	UIDMap, GIDMap []IDRange
	// Source is what is shown as mounted; empty for the layout and the digest.
	Source string
	// Threads is how many threads answer the kernel; 0 for the number of cores, up to 4. As many
	// again read ahead.
	Threads int
	// Log is told, in one line, what goes wrong while it is mounted, such as a file that cannot be
	// read since a data blob is damaged. It may be called by several goroutines at once. Who
	// reads the mount waits for it, so it must not read there itself.
	Log func(line string)
}

// IDRange shows Count numbers from Inside on as those from Outside on.
type IDRange struct {
	Inside, Outside, Count uint32
}

// Mount is a mounted image. It is served by threads of this process until it is unmounted, by
// this process or another one: a process that ends before leaves a mount which [Unmount] clears.
//
// All of its methods may be called by any number of goroutines at once.
type Mount struct {
	point string
	done  chan struct{}
	// Whether somebody else unmounted it; final once done is closed.
	byOthers atomic.Bool

	mu sync.RWMutex
	// nil once it is over.
	mount *capi.Mount
}

// Mount mounts the image on the directory dir. When it returns, the mount is there, and answers.
// The image may be closed meanwhile.
//
// Root mounts by itself, an ordinary user through the program fusermount3. If ctx ends before it
// is mounted, it is not; afterwards, ctx has no effect.
func (i *Image) Mount(ctx context.Context, dir string, options *MountOptions) (*Mount, error) {
	if options == nil {
		options = &MountOptions{}
	}
	result := &Mount{done: make(chan struct{})}
	settings := &capi.MountOptions{
		Persist: options.Persist,
		UIDMap:  idMap(options.UIDMap),
		GIDMap:  idMap(options.GIDMap),
		Source:  options.Source,
		Log:     options.Log,
		Ended:   func() { result.byOthers.Store(true) },
	}
	for _, flag := range []struct {
		set  bool
		flag uint64
	}{
		{options.AllowOther, capi.MountAllowOther},
		{options.OwnerOnly, capi.MountOwnerOnly},
		{options.DefaultPermissions, capi.MountDefaultPermissions},
		{options.NoSUID, capi.MountNoSUID},
		{options.NoDev, capi.MountNoDev},
		{options.NoExec, capi.MountNoExec},
		{options.Writable || options.Persist != "", capi.MountWritable},
	} {
		if flag.set {
			settings.Flags |= flag.flag
		}
	}
	if err := assign(&settings.Threads, int64(options.Threads), "the number of threads"); err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, contextError(ctx)
	}
	mounted, err := with(i, func(image *capi.Image) (*capi.Mount, error) {
		return capi.ImageMount(image, dir, settings)
	})
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		capi.MountFree(mounted)
		return nil, contextError(ctx)
	}
	result.mount = mounted
	result.point = capi.MountPoint(mounted)
	go result.watch(mounted)
	return result, nil
}

func idMap(ranges []IDRange) string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = fmt.Sprintf("%d:%d:%d", r.Inside, r.Outside, r.Count)
	}
	return strings.Join(texts, "+")
}

// watch waits until the mount is over, and frees it.
func (m *Mount) watch(mounted *capi.Mount) {
	defer close(m.done)
	// It fails only for a handle that is none.
	if _, err := capi.MountWait(mounted, -1); err != nil {
		panic(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	capi.MountFree(mounted)
	m.mount = nil
}

// Point returns where the image is mounted: an absolute path without links.
func (m *Mount) Point() string {
	return m.point
}

// Done returns a channel that is closed when the mount is over.
func (m *Mount) Done() <-chan struct{} {
	return m.done
}

// Err returns [ErrUnmounted] if the mount is over and this process did not ask for that, else nil.
func (m *Mount) Err() error {
	select {
	case <-m.done:
		if m.byOthers.Load() {
			return ErrUnmounted
		}
	default:
	}
	return nil
}

// Wait waits until the mount is over, and returns what [Mount.Err] does; or until ctx ends, and
// returns why.
func (m *Mount) Wait(ctx context.Context) error {
	select {
	case <-m.done:
		return m.Err()
	case <-ctx.Done():
		return contextError(ctx)
	}
}

// Unmount unmounts the image. It fails with [syscall.EBUSY] if somebody has something open in it.
// It does nothing if it is unmounted already.
func (m *Mount) Unmount() error {
	return m.unmount(0)
}

// Detach unmounts the image though it is in use: it is gone at once for all who have nothing open
// in it, and over when the last one has closed it.
func (m *Mount) Detach() error {
	return m.unmount(capi.UnmountLazy)
}

func (m *Mount) unmount(flags uint64) error {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if m.mount == nil {
		return nil
	}
	return wrapError(capi.MountUnmount(m.mount, flags))
}

// Unmount unmounts the image that is mounted on dir, whichever process serves it; also one whose
// process is gone. It fails with [syscall.EBUSY] if somebody has something open in it, unless lazy:
// then it is as with [Mount.Detach].
func Unmount(dir string, lazy bool) error {
	var flags uint64
	if lazy {
		flags = capi.UnmountLazy
	}
	return wrapError(capi.Unmount(dir, flags))
}

// CheckOptions says how an image is checked. The zero value, and nil, are the defaults.
type CheckOptions struct {
	// Progress is told how far the work is; see [BuildOptions].
	Progress func(Progress)
}

// Check checks that the image is the expected one, by its manifest's digest, "sha256:…", or by
// its manifest's fs-verity digest, 64 digits of 0-9a-f. By the latter, metadata and data blobs must
// have those that the image lists, too: the kernel's where it has them, else they are computed,
// for which all is read.
func (i *Image) Check(ctx context.Context, digest string, options *CheckOptions) error {
	return i.supervise(ctx, options, func(image *capi.Image, settings *capi.CheckOptions) error {
		return capi.ImageCheck(image, digest, settings)
	})
}

// EnableVerity has the kernel protect all blobs of the image by fs-verity: they can then be
// removed, but not changed. The digest is the fs-verity digest that the manifest must have; empty
// for any. It fails with [errors.ErrUnsupported] if the file system has no fs-verity.
func (i *Image) EnableVerity(ctx context.Context, digest string, options *CheckOptions) error {
	return i.supervise(ctx, options, func(image *capi.Image, settings *capi.CheckOptions) error {
		return capi.ImageEnableVerity(image, digest, settings)
	})
}

// supervise calls f with the image, and stops it when ctx ends.
func (i *Image) supervise(
	ctx context.Context, options *CheckOptions, f func(*capi.Image, *capi.CheckOptions) error,
) error {
	if options == nil {
		options = &CheckOptions{}
	}
	_, err := supervise(ctx, options.Progress, func(progress capi.ProgressFunc) (struct{}, error) {
		return with(i, func(image *capi.Image) (struct{}, error) {
			return struct{}{}, f(image, &capi.CheckOptions{Progress: progress})
		})
	})
	return err
}
