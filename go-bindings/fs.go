package puzzlefs

import (
	"io/fs"
	"path"
	"strings"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// Open opens a file, as [fs.FS] has it. A symbolic link is followed.
//
// What is no directory is an [io.ReaderAt] and an [io.Seeker] too. Only regular files can be
// read: devices, pipes and sockets have nothing to be read in an image.
func (i *Image) Open(name string) (fs.File, error) {
	return at(i, "open", name, follow, func(image *capi.Image, ino uint64) (fs.File, error) {
		info, err := stat(image, ino, path.Base(name))
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return &directory{node: node{image: i, name: name, info: info}}, nil
		}
		return &file{node: node{image: i, name: name, info: info}}, nil
	})
}

// Stat describes a file, as [fs.StatFS] has it. A symbolic link is followed.
func (i *Image) Stat(name string) (fs.FileInfo, error) {
	return i.stat("stat", name, follow)
}

// Lstat describes a file, as [fs.ReadLinkFS] has it. A symbolic link is not followed.
func (i *Image) Lstat(name string) (fs.FileInfo, error) {
	return i.stat("lstat", name, noFollow)
}

func (i *Image) stat(op, name string, links uint64) (fs.FileInfo, error) {
	return at(i, op, name, links, func(image *capi.Image, ino uint64) (fs.FileInfo, error) {
		return stat(image, ino, path.Base(name))
	})
}

// ReadLink returns the target of a symbolic link, as [fs.ReadLinkFS] has it.
func (i *Image) ReadLink(name string) (string, error) {
	return at(i, "readlink", name, noFollow, capi.ImageReadlink)
}

// ReadDir reads a directory, as [fs.ReadDirFS] has it.
func (i *Image) ReadDir(name string) ([]fs.DirEntry, error) {
	return at(i, "readdir", name, follow, func(image *capi.Image, ino uint64) ([]fs.DirEntry, error) {
		return i.entries(image, ino, name)
	})
}

// ReadFile reads a whole file, as [fs.ReadFileFS] has it.
func (i *Image) ReadFile(name string) ([]byte, error) {
	return at(i, "read", name, follow, func(image *capi.Image, ino uint64) ([]byte, error) {
		return readFile(image, ino)
	})
}

// Xattrs returns the extended attributes of a file. A symbolic link is not followed.
func (i *Image) Xattrs(name string) (map[string][]byte, error) {
	return at(i, "listxattr", name, noFollow, func(image *capi.Image, ino uint64) (map[string][]byte, error) {
		xattrs := make(map[string][]byte)
		for index := uint64(0); ; index++ {
			xattr, err := capi.ImageXattr(image, ino, index)
			if err != nil {
				return nil, err
			}
			if xattr.Name == "" {
				return xattrs, nil
			}
			xattrs[xattr.Name] = xattr.Value
		}
	})
}

// What becomes of a symbolic link at the end of a name.
const (
	follow   uint64 = 0
	noFollow uint64 = capi.LookupNofollow
)

// at calls f with the inode that name names. Its error says that op failed on name.
func at[T any](
	i *Image,
	op, name string,
	links uint64,
	f func(image *capi.Image, ino uint64) (T, error),
) (T, error) {
	result, err := with(i, func(image *capi.Image) (result T, err error) {
		if !validPath(name) {
			return result, fs.ErrInvalid
		}
		ino, err := capi.ImageLookup(image, name, links)
		if err != nil {
			return result, err
		}
		return f(image, ino)
	})
	if err != nil {
		return result, &fs.PathError{Op: op, Path: name, Err: err}
	}
	return result, nil
}

// validPath is [fs.ValidPath] for names that need not be UTF-8.
func validPath(name string) bool {
	return fs.ValidPath(strings.ToValidUTF8(name, "?"))
}
