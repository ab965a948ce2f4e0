package puzzlefs

import (
	"iter"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// ChangeKind is how a path of two images is distinguished.
type ChangeKind string

const (
	// Added: only the other image has the path.
	Added ChangeKind = "added"
	// Removed: only the image has the path.
	Removed ChangeKind = "removed"
	// Changed: both have the path, with differences.
	Changed ChangeKind = "changed"
)

// Aspect is what of a path is another one.
type Aspect string

const (
	// AspectType is the type of the file.
	AspectType Aspect = "type"
	// AspectContent is a file's content: certainly if its size differs, else it stands elsewhere,
	// which it does seldom if it is the same.
	AspectContent Aspect = "content"
	// AspectTarget is a symbolic link's target.
	AspectTarget Aspect = "target"
	// AspectDevice is a device's numbers.
	AspectDevice Aspect = "device"
	// AspectMode is the permissions.
	AspectMode Aspect = "mode"
	// AspectOwner is the owner or the group.
	AspectOwner Aspect = "owner"
	// AspectTime is the mtime.
	AspectTime Aspect = "time"
	// AspectXattr is the extended attributes.
	AspectXattr Aspect = "xattr"
	// AspectLinks is which other paths are links to the same file.
	AspectLinks Aspect = "links"
)

// Change is a path that is distinguished.
type Change struct {
	// Path begins with a slash, and need not be UTF-8.
	Path string
	Kind ChangeKind
	// How says what differs, if Kind is [Changed].
	How []Aspect
}

// DiffSize says how much another image adds.
type DiffSize struct {
	// Blobs is the number of data blobs that only the other image has.
	Blobs int64
	// BytesData is the size of these blobs.
	BytesData int64
	// BytesMetadata is the size of the other image's metadata, unless the image has the same.
	BytesMetadata int64
}

// Diff tells what distinguishes another image, which may be in another layout, from their metadata
// alone: path by path, in the order of a walk that is depth first and by name.
//
// All paths together may be far larger than the images, if these come from elsewhere; of what is
// told, little is in memory at once. An error is the last that is told.
func (i *Image) Diff(other *Image) iter.Seq2[Change, error] {
	if other == nil {
		// Here, where the caller can recover.
		panic("puzzlefs: the difference to no image")
	}
	return func(yield func(Change, error) bool) {
		found := make(chan []Change)
		stop := make(chan struct{})
		// Whatever the loop does, the work does not outlive it.
		defer func() {
			close(stop)
			for range found {
			}
		}()
		var err error
		go func() {
			defer close(found)
			err = i.find(other, found, stop)
		}()
		for changes := range found {
			for _, change := range changes {
				if !yield(change, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(Change{}, err)
		}
	}
}

// find sends what distinguishes another image until it shall stop, many changes at once: to send is
// slow for a thread that C called from.
func (i *Image) find(other *Image, found chan<- []Change, stop <-chan struct{}) error {
	const (
		// Bytes that are enough to be sent.
		enough = 1 << 16
		// What a change takes beside its path.
		fixed = 64
	)
	var changes []Change
	bytes := 0
	send := func() bool {
		select {
		case found <- changes:
			changes, bytes = nil, 0
			return true
		case <-stop:
			return false
		}
	}
	_, err := i.diff(other, func(change capi.Change) bool {
		changes = append(changes, newChange(change))
		bytes += fixed + len(change.Path)
		return bytes < enough || send()
	})
	if err == nil {
		send()
	}
	return err
}

// DiffSize tells how much another image, which may be in another layout, adds.
func (i *Image) DiffSize(other *Image) (*DiffSize, error) {
	size, err := i.diff(other, nil)
	if err != nil {
		return nil, err
	}
	return &DiffSize{
		Blobs:         int64(size.Blobs),
		BytesData:     int64(size.BytesData),
		BytesMetadata: int64(size.BytesMetadata),
	}, nil
}

func (i *Image) diff(other *Image, visit capi.ChangeFunc) (*capi.DiffResult, error) {
	return with(i, func(image *capi.Image) (*capi.DiffResult, error) {
		return with(other, func(other *capi.Image) (*capi.DiffResult, error) {
			return capi.ImageDiff(image, other, visit)
		})
	})
}

var changeKinds = map[uint32]ChangeKind{
	capi.ChangeAdded:   Added,
	capi.ChangeRemoved: Removed,
	capi.ChangeChanged: Changed,
}

var aspects = []struct {
	bit    uint64
	aspect Aspect
}{
	{capi.AspectType, AspectType},
	{capi.AspectContent, AspectContent},
	{capi.AspectTarget, AspectTarget},
	{capi.AspectDevice, AspectDevice},
	{capi.AspectMode, AspectMode},
	{capi.AspectOwner, AspectOwner},
	{capi.AspectTime, AspectTime},
	{capi.AspectXattr, AspectXattr},
	{capi.AspectLinks, AspectLinks},
}

func newChange(change capi.Change) Change {
	var how []Aspect
	for _, known := range aspects {
		if change.Aspects&known.bit != 0 {
			how = append(how, known.aspect)
		}
	}
	return Change{Path: change.Path, Kind: changeKinds[change.Kind], How: how}
}
