package capi

// #include <stdlib.h>
// #include <puzzlefs.h>
//
// // The functions exported below, as cgo declares them.
// void puzzlefsGoLog(char *line, void *data);
// void puzzlefsGoEnded(void *data);
import "C"

import (
	"runtime/cgo"
	"unsafe"
)

// The values of puzzlefs_mount_flags.
const (
	MountAllowOther         uint64 = C.PUZZLEFS_MOUNT_ALLOW_OTHER
	MountOwnerOnly          uint64 = C.PUZZLEFS_MOUNT_OWNER_ONLY
	MountDefaultPermissions uint64 = C.PUZZLEFS_MOUNT_DEFAULT_PERMISSIONS
	MountNoSUID             uint64 = C.PUZZLEFS_MOUNT_NOSUID
	MountNoDev              uint64 = C.PUZZLEFS_MOUNT_NODEV
	MountNoExec             uint64 = C.PUZZLEFS_MOUNT_NOEXEC
	MountWritable           uint64 = C.PUZZLEFS_MOUNT_WRITABLE
)

// UnmountLazy is PUZZLEFS_UNMOUNT_LAZY.
const UnmountLazy uint64 = C.PUZZLEFS_UNMOUNT_LAZY

// Mount is puzzlefs_mount, with what leads to its functions.
type Mount struct {
	mount *C.puzzlefs_mount
	data  *mountData
}

// MountOptions is puzzlefs_mount_options. The functions are called from any thread, Log from
// several at once, until MountFree has returned, and must not panic.
type MountOptions struct {
	Flags   uint64
	Persist string
	UIDMap  string
	GIDMap  string
	Source  string
	Threads uint32
	Log     func(line string)
	Ended   func()
}

// mountData is memory of C that leads to the functions: a mount outlives the call that makes it.
type mountData C.uintptr_t

func newMountData(options *MountOptions) *mountData {
	data := (*mountData)(C.malloc(C.sizeof_uintptr_t))
	*data = mountData(cgo.NewHandle(options))
	return data
}

func (d *mountData) free() {
	cgo.Handle(*d).Delete()
	C.free(unsafe.Pointer(d))
}

func mountOptionsOf(data unsafe.Pointer) *MountOptions {
	return cgo.Handle(*(*mountData)(data)).Value().(*MountOptions)
}

//export puzzlefsGoLog
func puzzlefsGoLog(line *C.char, data unsafe.Pointer) {
	if log := mountOptionsOf(data).Log; log != nil {
		log(C.GoString(line))
	}
}

//export puzzlefsGoEnded
func puzzlefsGoEnded(data unsafe.Pointer) {
	if ended := mountOptionsOf(data).Ended; ended != nil {
		ended()
	}
}

// ImageMount is puzzlefs_image_mount.
func ImageMount(image *Image, point string, options *MountOptions) (*Mount, error) {
	var args arguments
	defer args.release()
	data := newMountData(options)
	cOptions := C.puzzlefs_mount_options{
		size:    C.sizeof_puzzlefs_mount_options,
		flags:   C.uint64_t(options.Flags),
		persist: args.optional(options.Persist),
		uid_map: args.optional(options.UIDMap),
		gid_map: args.optional(options.GIDMap),
		source:  args.optional(options.Source),
		threads: C.uint32_t(options.Threads),
		log:     C.puzzlefs_log_fn(C.puzzlefsGoLog),
		ended:   C.puzzlefs_ended_fn(C.puzzlefsGoEnded),
		data:    unsafe.Pointer(data),
	}
	cPoint := args.text(point)
	err := args.err
	var mounted *C.puzzlefs_mount
	if err == nil {
		var failure *C.puzzlefs_error
		status := C.puzzlefs_image_mount(image.c(), cPoint, &cOptions, &mounted, &failure)
		err = result(status, failure)
	}
	if err != nil {
		data.free()
		return nil, err
	}
	return &Mount{mount: mounted, data: data}, nil
}

// MountPoint is puzzlefs_mount_point.
func MountPoint(mount *Mount) string {
	return C.GoString(C.puzzlefs_mount_point(mount.mount))
}

// MountWait is puzzlefs_mount_wait.
func MountWait(mount *Mount, milliseconds int64) (bool, error) {
	var over C.int
	var failure *C.puzzlefs_error
	status := C.puzzlefs_mount_wait(mount.mount, C.int64_t(milliseconds), &over, &failure)
	return over != 0, result(status, failure)
}

// MountUnmount is puzzlefs_mount_unmount.
func MountUnmount(mount *Mount, flags uint64) error {
	var failure *C.puzzlefs_error
	status := C.puzzlefs_mount_unmount(mount.mount, C.uint64_t(flags), &failure)
	return result(status, failure)
}

// MountFree is puzzlefs_mount_free.
func MountFree(mount *Mount) {
	C.puzzlefs_mount_free(mount.mount)
	mount.data.free()
}

// Unmount is puzzlefs_unmount.
func Unmount(point string, flags uint64) error {
	var args arguments
	defer args.release()
	cPoint := args.text(point)
	if args.err != nil {
		return args.err
	}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_unmount(cPoint, C.uint64_t(flags), &failure)
	return result(status, failure)
}

// CheckOptions is puzzlefs_check_options.
type CheckOptions struct {
	Progress ProgressFunc
}

func (o *CheckOptions) c(args *arguments) C.puzzlefs_check_options {
	return C.puzzlefs_check_options{
		size:     C.sizeof_puzzlefs_check_options,
		progress: progressFn,
		data:     args.data(callbacks{progress: o.Progress}),
	}
}

// ImageCheck is puzzlefs_image_check.
func ImageCheck(image *Image, digest string, options *CheckOptions) error {
	var args arguments
	defer args.release()
	cOptions := options.c(&args)
	cDigest := args.text(digest)
	if args.err != nil {
		return args.err
	}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_check(image.c(), cDigest, &cOptions, &failure)
	return result(status, failure)
}

// ImageEnableVerity is puzzlefs_image_enable_verity.
func ImageEnableVerity(image *Image, digest string, options *CheckOptions) error {
	var args arguments
	defer args.release()
	cOptions := options.c(&args)
	cDigest := args.optional(digest)
	if args.err != nil {
		return args.err
	}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_enable_verity(image.c(), cDigest, &cOptions, &failure)
	return result(status, failure)
}
