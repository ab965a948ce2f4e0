package puzzlefs

import (
	"io/fs"
	"syscall"
	"time"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// Stat is what an image says of a file. [fs.FileInfo.Sys] of an [Image] returns a *Stat.
type Stat struct {
	// Ino is the inode number: 1 for the root directory; names with the same number are hard
	// links to one file.
	Ino uint64
	// Mode is type and permissions as st_mode has them.
	Mode uint32
	// Nlink is the number of names of a file; of a directory, two and the number of its
	// subdirectories.
	Nlink uint64
	// UID is the owner.
	UID uint32
	// GID is the group.
	GID uint32
	// Major and Minor are the numbers of a device; 0 for what is none.
	Major, Minor uint32
	// Size is the length of a regular file, or of a symbolic link's target; else 0.
	Size int64
	// ModTime is when the content changed last, to the nanosecond.
	ModTime time.Time
}

func newStat(from capi.Stat) *Stat {
	return &Stat{
		Ino:     from.Ino,
		Mode:    from.Mode,
		Nlink:   from.Nlink,
		UID:     from.UID,
		GID:     from.GID,
		Major:   from.RdevMajor,
		Minor:   from.RdevMinor,
		Size:    int64(from.FileSize),
		ModTime: time.Unix(from.MtimeSeconds, int64(from.MtimeNanoseconds)),
	}
}

// fileInfo is a [Stat] as an [fs.FileInfo].
type fileInfo struct {
	name string
	stat *Stat
}

func (i fileInfo) Name() string       { return i.name }
func (i fileInfo) Size() int64        { return i.stat.Size }
func (i fileInfo) Mode() fs.FileMode  { return fileMode(i.stat.Mode) }
func (i fileInfo) ModTime() time.Time { return i.stat.ModTime }
func (i fileInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i fileInfo) Sys() any           { return i.stat }
func (i fileInfo) String() string     { return fs.FormatFileInfo(i) }

// fileMode is st_mode as Go has it.
func fileMode(mode uint32) fs.FileMode {
	result := fs.FileMode(mode) & fs.ModePerm
	switch mode & syscall.S_IFMT {
	case syscall.S_IFDIR:
		result |= fs.ModeDir
	case syscall.S_IFLNK:
		result |= fs.ModeSymlink
	case syscall.S_IFIFO:
		result |= fs.ModeNamedPipe
	case syscall.S_IFSOCK:
		result |= fs.ModeSocket
	case syscall.S_IFCHR:
		result |= fs.ModeDevice | fs.ModeCharDevice
	case syscall.S_IFBLK:
		result |= fs.ModeDevice
	}
	if mode&syscall.S_ISUID != 0 {
		result |= fs.ModeSetuid
	}
	if mode&syscall.S_ISGID != 0 {
		result |= fs.ModeSetgid
	}
	if mode&syscall.S_ISVTX != 0 {
		result |= fs.ModeSticky
	}
	return result
}
