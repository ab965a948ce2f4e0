package puzzlefs

import (
	"io/fs"
	"runtime"
	"sync"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// OpenOptions says how an image is opened. The zero value, and nil, are the defaults.
type OpenOptions struct {
	// Platform says which image of an index, as OS/ARCHITECTURE[/VARIANT]; empty for this
	// machine's, or the only one.
	Platform string
	// NoVerify leaves the digests of the data blobs unchecked. Else each is checked when it is
	// first read from.
	NoVerify bool
}

// Image is an open image.
//
// It is an [fs.FS] with all that [io/fs] has for one that is read, and an [XattrFS]. Its files are
// [io.ReaderAt] and [io.Seeker]; owner, inode number and the like are in a [Stat]. Names are as
// [fs.ValidPath] has them, but need not be UTF-8. Symbolic links are followed within the image: its
// root is theirs.
//
// All of its methods may be called by any number of goroutines at once.
type Image struct {
	handle *handle
	digest string
}

// Open opens an image, LAYOUT:TAG or LAYOUT@sha256:HEX. All of its metadata is read and checked;
// its data blobs are opened when they are needed.
//
// The caller closes it.
func Open(image string, options *OpenOptions) (*Image, error) {
	if options == nil {
		options = &OpenOptions{}
	}
	settings := &capi.OpenOptions{Platform: options.Platform}
	if options.NoVerify {
		settings.Flags |= capi.OpenNoVerify
	}
	opened, err := capi.ImageOpen(image, settings)
	if err != nil {
		return nil, wrapError(err)
	}
	digest, err := capi.ImageDigest(opened)
	if err != nil {
		capi.ImageFree(opened)
		return nil, wrapError(err)
	}
	result := &Image{handle: &handle{image: opened}, digest: digest}
	// A net for those who forget to close it.
	runtime.AddCleanup(result, func(handle *handle) { handle.close() }, result.handle)
	return result, nil
}

// Close closes the image. What other goroutines do with it meanwhile ends as if it were open;
// what is done with it, or its files, from now on fails with [fs.ErrClosed].
func (i *Image) Close() error {
	defer runtime.KeepAlive(i)
	if !i.handle.close() {
		return errClosed()
	}
	return nil
}

// Digest returns the digest of the image's manifest, such as "sha256:e3b0…".
func (i *Image) Digest() string {
	return i.digest
}

// Inspect describes the image as a JSON document: manifest, configuration, counts of inodes and
// bytes, data blobs, and what it shares with the other images of its layout.
func (i *Image) Inspect() ([]byte, error) {
	return with(i, capi.ImageInspect)
}

// with calls f with the image, which stays open until f has returned.
func with[T any](i *Image, f func(*capi.Image) (T, error)) (T, error) {
	// Else the image may be collected, and thus closed, before it is in use.
	defer runtime.KeepAlive(i)
	image, open := i.handle.acquire()
	if !open {
		var none T
		return none, errClosed()
	}
	defer i.handle.release()
	result, err := f(image)
	return result, wrapError(err)
}

func errClosed() error {
	return &Error{Kind: fs.ErrClosed, Message: "the image is closed"}
}

// handle is an image of the library. It is freed when it is closed and nobody uses it any more.
type handle struct {
	mu     sync.Mutex
	image  *capi.Image
	users  int
	closed bool
}

// acquire returns the image for use until release, and whether it is open.
func (h *handle) acquire() (*capi.Image, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, false
	}
	h.users++
	return h.image, true
}

func (h *handle) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.users--
	h.freeUnused()
}

// close returns whether the image was open.
func (h *handle) close() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.closed = true
	h.freeUnused()
	return true
}

func (h *handle) freeUnused() {
	if h.closed && h.users == 0 {
		capi.ImageFree(h.image)
	}
}
