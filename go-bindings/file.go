package puzzlefs

import (
	"io"
	"io/fs"
	"path"
	"slices"
	"sync"
	"syscall"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// node is what open files and directories have in common.
type node struct {
	image *Image
	name  string
	info  fileInfo

	// mu guards what follows, and what files and directories add to it.
	mu     sync.Mutex
	closed bool
}

func (n *node) Stat() (fs.FileInfo, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, n.fail("stat", fs.ErrClosed)
	}
	return n.info, nil
}

func (n *node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return n.fail("close", fs.ErrClosed)
	}
	n.closed = true
	return nil
}

func (n *node) fail(op string, err error) error {
	return &fs.PathError{Op: op, Path: n.name, Err: err}
}

// file is an open file that is no directory.
type file struct {
	node
	offset int64
}

var (
	_ io.ReadSeeker = (*file)(nil)
	_ io.ReaderAt   = (*file)(nil)
)

func (f *file) Read(buffer []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, f.fail("read", fs.ErrClosed)
	}
	count, err := f.read(buffer, f.offset)
	f.offset += int64(count)
	if err == nil && count == 0 && len(buffer) != 0 {
		err = io.EOF
	}
	return count, err
}

// ReadAt may be called by several goroutines at once.
func (f *file) ReadAt(buffer []byte, offset int64) (int, error) {
	f.mu.Lock()
	closed := f.closed
	f.mu.Unlock()
	if closed {
		return 0, f.fail("read", fs.ErrClosed)
	}
	if offset < 0 {
		return 0, f.fail("read", fs.ErrInvalid)
	}
	count, err := f.read(buffer, offset)
	if err == nil && count < len(buffer) {
		err = io.EOF
	}
	return count, err
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, f.fail("seek", fs.ErrClosed)
	}
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.info.Size()
	default:
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	if offset < 0 {
		return 0, f.fail("seek", fs.ErrInvalid)
	}
	f.offset = offset
	return offset, nil
}

// read reads less than there is room for only at the end of the file.
func (f *file) read(buffer []byte, offset int64) (int, error) {
	count, err := with(f.image, func(image *capi.Image) (int, error) {
		return capi.ImageRead(image, f.info.stat.Ino, buffer, uint64(offset))
	})
	if err != nil {
		return 0, f.fail("read", err)
	}
	return count, nil
}

// directory is an open directory.
type directory struct {
	node
	// All of the directory, once it is read.
	entries []fs.DirEntry
	read    bool
}

var _ fs.ReadDirFile = (*directory)(nil)

func (d *directory) Read([]byte) (int, error) {
	return 0, d.fail("read", syscall.EISDIR)
}

func (d *directory) ReadDir(count int) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, d.fail("readdir", fs.ErrClosed)
	}
	if !d.read {
		entries, err := with(d.image, func(image *capi.Image) ([]fs.DirEntry, error) {
			return d.image.entries(image, d.info.stat.Ino, d.name)
		})
		if err != nil {
			return nil, d.fail("readdir", err)
		}
		d.entries, d.read = entries, true
	}
	if count <= 0 || count > len(d.entries) {
		if count > 0 && len(d.entries) == 0 {
			return nil, io.EOF
		}
		count = len(d.entries)
	}
	entries := d.entries[:count:count]
	d.entries = d.entries[count:]
	return entries, nil
}

// entry is what a directory says of a file.
type entry struct {
	image *Image
	dir   string
	name  string
	ino   uint64
	mode  fs.FileMode
}

func (e *entry) Name() string      { return e.name }
func (e *entry) IsDir() bool       { return e.mode.IsDir() }
func (e *entry) Type() fs.FileMode { return e.mode.Type() }
func (e *entry) String() string    { return fs.FormatDirEntry(e) }

func (e *entry) Info() (fs.FileInfo, error) {
	info, err := with(e.image, func(image *capi.Image) (fileInfo, error) {
		return stat(image, e.ino, e.name)
	})
	if err != nil {
		return nil, &fs.PathError{Op: "lstat", Path: path.Join(e.dir, e.name), Err: err}
	}
	return info, nil
}

// entries reads the directory ino, which is called dir.
func (i *Image) entries(image *capi.Image, ino uint64, dir string) ([]fs.DirEntry, error) {
	info, err := stat(image, ino, dir)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, syscall.ENOTDIR
	}
	entries := []fs.DirEntry{}
	for {
		found, err := capi.ImageReaddir(image, ino, uint64(len(entries)))
		if err != nil {
			return nil, err
		}
		if found.Ino == 0 {
			return entries, nil
		}
		mode := fileMode(found.Mode)
		entries = append(entries, &entry{image: i, dir: dir, name: found.Name, ino: found.Ino, mode: mode})
	}
}

// stat describes the inode ino, which is called name.
func stat(image *capi.Image, ino uint64, name string) (fileInfo, error) {
	found, err := capi.ImageStat(image, ino)
	return fileInfo{name: name, stat: newStat(found)}, err
}

// readFile reads all of the file ino.
func readFile(image *capi.Image, ino uint64) ([]byte, error) {
	info, err := stat(image, ino, "")
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, syscall.EISDIR
	}
	// An image may claim any size: room is made as bytes arrive.
	const window = 1 << 20
	data := make([]byte, 0, min(info.Size(), window))
	for {
		count, err := capi.ImageRead(image, ino, data[len(data):cap(data)], uint64(len(data)))
		if err != nil {
			return nil, err
		}
		data = data[:len(data)+count]
		missing := info.Size() - int64(len(data))
		if count == 0 || missing <= 0 {
			return data, nil
		}
		data = slices.Grow(data, int(min(missing, int64(len(data)))))
	}
}
