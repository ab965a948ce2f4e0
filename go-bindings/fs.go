package puzzlefs

import (
	"io/fs"
	"path"
	"strings"
	"syscall"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// XattrFS is a file system whose files have extended attributes. An [Image] is one, and so is what
// [fs.Sub] makes of it.
type XattrFS interface {
	fs.FS

	// Xattrs returns the extended attributes of a file. A symbolic link is not followed.
	Xattrs(name string) (map[string][]byte, error)
}

// files is what an [Image] and each part of it are as a file system.
type files interface {
	fs.ReadDirFS
	fs.StatFS
	fs.ReadFileFS
	fs.ReadLinkFS
	fs.SubFS
	XattrFS
}

var (
	_ files = (*Image)(nil)
	_ files = (*subtree)(nil)
)

// Open opens a file, as [fs.FS] has it. A symbolic link is followed.
//
// What is no directory is an [io.ReaderAt] and an [io.Seeker] too. Only regular files can be
// read: devices, pipes and sockets have nothing to be read in an image.
func (i *Image) Open(name string) (fs.File, error) {
	return i.root().Open(name)
}

// Stat describes a file, as [fs.StatFS] has it. A symbolic link is followed.
func (i *Image) Stat(name string) (fs.FileInfo, error) {
	return i.root().Stat(name)
}

// Lstat describes a file, as [fs.ReadLinkFS] has it. A symbolic link is not followed.
func (i *Image) Lstat(name string) (fs.FileInfo, error) {
	return i.root().Lstat(name)
}

// ReadLink returns the target of a symbolic link, as [fs.ReadLinkFS] has it.
func (i *Image) ReadLink(name string) (string, error) {
	return i.root().ReadLink(name)
}

// ReadDir reads a directory, as [fs.ReadDirFS] has it.
func (i *Image) ReadDir(name string) ([]fs.DirEntry, error) {
	return i.root().ReadDir(name)
}

// ReadFile reads a whole file, as [fs.ReadFileFS] has it.
func (i *Image) ReadFile(name string) ([]byte, error) {
	return i.root().ReadFile(name)
}

// Xattrs returns the extended attributes of a file, as [XattrFS] has it. A symbolic link is not
// followed.
func (i *Image) Xattrs(name string) (map[string][]byte, error) {
	return i.root().Xattrs(name)
}

// Sub returns the part of the image below a directory, as [fs.SubFS] has it. It is all that the
// image is as a file system, an [XattrFS] too, and fails with [fs.ErrClosed] once the image is
// closed.
//
// It is another view of the image, not an image of its own: symbolic links are followed as
// everywhere, from the root of the image, and may lead out of the directory. So all links of a
// part are good that are good in the image.
func (i *Image) Sub(dir string) (fs.FS, error) {
	return i.root().Sub(dir)
}

func (i *Image) root() *subtree {
	return &subtree{image: i, dir: "."}
}

// subtree is what is below a directory of an image.
type subtree struct {
	image *Image
	// The directory's name in the image.
	dir string
}

func (s *subtree) Open(name string) (fs.File, error) {
	return at(s, "open", name, follow, func(image *capi.Image, ino uint64) (fs.File, error) {
		info, err := stat(image, ino, path.Base(name))
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return &directory{node: node{image: s.image, name: name, info: info}}, nil
		}
		return &file{node: node{image: s.image, name: name, info: info}}, nil
	})
}

func (s *subtree) Stat(name string) (fs.FileInfo, error) {
	return s.stat("stat", name, follow)
}

func (s *subtree) Lstat(name string) (fs.FileInfo, error) {
	return s.stat("lstat", name, noFollow)
}

func (s *subtree) stat(op, name string, links uint64) (fs.FileInfo, error) {
	return at(s, op, name, links, func(image *capi.Image, ino uint64) (fs.FileInfo, error) {
		return stat(image, ino, path.Base(name))
	})
}

func (s *subtree) ReadLink(name string) (string, error) {
	return at(s, "readlink", name, noFollow, capi.ImageReadlink)
}

func (s *subtree) ReadDir(name string) ([]fs.DirEntry, error) {
	return at(s, "readdir", name, follow, func(image *capi.Image, ino uint64) ([]fs.DirEntry, error) {
		return s.image.entries(image, ino, name)
	})
}

func (s *subtree) ReadFile(name string) ([]byte, error) {
	return at(s, "read", name, follow, func(image *capi.Image, ino uint64) ([]byte, error) {
		return readFile(image, ino)
	})
}

func (s *subtree) Xattrs(name string) (map[string][]byte, error) {
	return at(s, "listxattr", name, noFollow, func(image *capi.Image, ino uint64) (map[string][]byte, error) {
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

func (s *subtree) Sub(dir string) (fs.FS, error) {
	return at(s, "sub", dir, follow, func(image *capi.Image, ino uint64) (fs.FS, error) {
		info, err := stat(image, ino, dir)
		if err != nil {
			return nil, err
		}
		if !info.IsDir() {
			return nil, syscall.ENOTDIR
		}
		return &subtree{image: s.image, dir: path.Join(s.dir, dir)}, nil
	})
}

// What becomes of a symbolic link at the end of a name.
const (
	follow   uint64 = 0
	noFollow uint64 = capi.LookupNofollow
)

// at calls f with the inode that name names. Its error says that op failed on name.
func at[T any](
	s *subtree,
	op, name string,
	links uint64,
	f func(image *capi.Image, ino uint64) (T, error),
) (T, error) {
	if name == "." {
		// The directory that a subtree is of may itself be behind a link.
		links = follow
	}
	result, err := with(s.image, func(image *capi.Image) (result T, err error) {
		if !validPath(name) {
			return result, fs.ErrInvalid
		}
		ino, err := capi.ImageLookup(image, path.Join(s.dir, name), links)
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
