package capi

// #include <puzzlefs.h>
import "C"

import "unsafe"

// Image is puzzlefs_image.
type Image C.puzzlefs_image

func (i *Image) c() *C.puzzlefs_image {
	return (*C.puzzlefs_image)(i)
}

// OpenNoVerify is PUZZLEFS_OPEN_NO_VERIFY.
const OpenNoVerify uint64 = C.PUZZLEFS_OPEN_NO_VERIFY

// OpenOptions is puzzlefs_open_options.
type OpenOptions struct {
	Flags    uint64
	Platform string
}

// LookupNofollow is PUZZLEFS_LOOKUP_NOFOLLOW.
const LookupNofollow uint64 = C.PUZZLEFS_LOOKUP_NOFOLLOW

// Stat is puzzlefs_stat.
type Stat struct {
	Ino              uint64
	Nlink            uint64
	FileSize         uint64
	MtimeSeconds     int64
	MtimeNanoseconds uint32
	Mode             uint32
	UID              uint32
	GID              uint32
	RdevMajor        uint32
	RdevMinor        uint32
}

// Dirent is puzzlefs_dirent.
type Dirent struct {
	Ino  uint64
	Mode uint32
	Name string
}

// Xattr is puzzlefs_xattr.
type Xattr struct {
	Name  string
	Value []byte
}

// ImageOpen is puzzlefs_image_open.
func ImageOpen(image string, options *OpenOptions) (*Image, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_open_options{
		size:     C.sizeof_puzzlefs_open_options,
		flags:    C.uint64_t(options.Flags),
		platform: args.optional(options.Platform),
	}
	cImage := args.text(image)
	if args.err != nil {
		return nil, args.err
	}
	var opened *C.puzzlefs_image
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_open(cImage, &cOptions, &opened, &failure)
	return (*Image)(opened), result(status, failure)
}

// ImageFree is puzzlefs_image_free.
func ImageFree(image *Image) {
	C.puzzlefs_image_free(image.c())
}

// ImageDigest is puzzlefs_image_digest.
func ImageDigest(image *Image) (string, error) {
	var digest *C.char
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_digest(image.c(), &digest, &failure)
	if err := result(status, failure); err != nil {
		return "", err
	}
	return C.GoString(digest), nil
}

// ImageLookup is puzzlefs_image_lookup.
func ImageLookup(image *Image, path string, flags uint64) (uint64, error) {
	var args arguments
	defer args.release()
	cPath := args.text(path)
	if args.err != nil {
		return 0, args.err
	}
	var ino C.uint64_t
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_lookup(image.c(), cPath, C.uint64_t(flags), &ino, &failure)
	return uint64(ino), result(status, failure)
}

// ImageStat is puzzlefs_image_stat.
func ImageStat(image *Image, ino uint64) (Stat, error) {
	stat := C.puzzlefs_stat{size: C.sizeof_puzzlefs_stat}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_stat(image.c(), C.uint64_t(ino), &stat, &failure)
	if err := result(status, failure); err != nil {
		return Stat{}, err
	}
	return Stat{
		Ino:              uint64(stat.ino),
		Nlink:            uint64(stat.nlink),
		FileSize:         uint64(stat.file_size),
		MtimeSeconds:     int64(stat.mtime_seconds),
		MtimeNanoseconds: uint32(stat.mtime_nanoseconds),
		Mode:             uint32(stat.mode),
		UID:              uint32(stat.uid),
		GID:              uint32(stat.gid),
		RdevMajor:        uint32(stat.rdev_major),
		RdevMinor:        uint32(stat.rdev_minor),
	}, nil
}

// ImageRead is puzzlefs_image_read.
func ImageRead(image *Image, ino uint64, buffer []byte, offset uint64) (int, error) {
	var done C.size_t
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_read(
		image.c(),
		C.uint64_t(ino),
		unsafe.Pointer(unsafe.SliceData(buffer)),
		C.size_t(len(buffer)),
		C.uint64_t(offset),
		&done,
		&failure,
	)
	return int(done), result(status, failure)
}

// ImageReadlink is puzzlefs_image_readlink.
func ImageReadlink(image *Image, ino uint64) (string, error) {
	var target *C.char
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_readlink(image.c(), C.uint64_t(ino), &target, &failure)
	if err := result(status, failure); err != nil {
		return "", err
	}
	defer C.puzzlefs_string_free(target)
	return C.GoString(target), nil
}

// ImageReaddir is puzzlefs_image_readdir; an Ino of 0 is behind the last entry.
func ImageReaddir(image *Image, ino, index uint64) (Dirent, error) {
	entry := C.puzzlefs_dirent{size: C.sizeof_puzzlefs_dirent}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_readdir(image.c(), C.uint64_t(ino), C.uint64_t(index), &entry, &failure)
	if err := result(status, failure); err != nil {
		return Dirent{}, err
	}
	return Dirent{
		Ino:  uint64(entry.ino),
		Mode: uint32(entry.mode),
		Name: C.GoStringN(&entry.name[0], C.int(entry.name_length)),
	}, nil
}

// ImageXattr is puzzlefs_image_xattr; an empty Name is behind the last attribute.
func ImageXattr(image *Image, ino, index uint64) (Xattr, error) {
	xattr := C.puzzlefs_xattr{size: C.sizeof_puzzlefs_xattr}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_xattr(image.c(), C.uint64_t(ino), C.uint64_t(index), &xattr, &failure)
	if err := result(status, failure); err != nil {
		return Xattr{}, err
	}
	value := make([]byte, xattr.value_length)
	if len(value) != 0 {
		copy(value, unsafe.Slice((*byte)(xattr.value), len(value)))
	}
	return Xattr{Name: C.GoStringN(&xattr.name[0], C.int(xattr.name_length)), Value: value}, nil
}

// ImageInspect is puzzlefs_image_inspect.
func ImageInspect(image *Image) ([]byte, error) {
	var json *C.char
	var failure *C.puzzlefs_error
	status := C.puzzlefs_image_inspect(image.c(), &json, &failure)
	if err := result(status, failure); err != nil {
		return nil, err
	}
	defer C.puzzlefs_string_free(json)
	return []byte(C.GoString(json)), nil
}
