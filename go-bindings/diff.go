package puzzlefs

import (
	"encoding/hex"

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

// Diff says what distinguishes another image.
type Diff struct {
	// Changes are in the order of a walk that is depth first and by name.
	Changes []Change
	// Blobs is the number of data blobs that only the other image has.
	Blobs int64
	// BytesData is the size of these blobs.
	BytesData int64
	// BytesMetadata is the size of the other image's metadata, unless the image has the same.
	BytesMetadata int64
}

// Diff tells what distinguishes another image, which may be in another layout, from their metadata
// alone.
func (i *Image) Diff(other *Image) (*Diff, error) {
	found, err := decode[struct {
		Changes []struct {
			Path    string
			PathHex string `json:"path_hex"`
			Change  ChangeKind
			How     []Aspect
		}
		Added struct{ Blobs, Data, Metadata int64 }
	}](with(i, func(image *capi.Image) ([]byte, error) {
		return with(other, func(other *capi.Image) ([]byte, error) {
			return capi.ImageDiff(image, other)
		})
	}))
	if err != nil {
		return nil, err
	}
	diff := &Diff{
		Blobs:         found.Added.Blobs,
		BytesData:     found.Added.Data,
		BytesMetadata: found.Added.Metadata,
	}
	for _, change := range found.Changes {
		path := change.Path
		if bytes, err := hex.DecodeString(change.PathHex); err == nil && len(bytes) != 0 {
			path = string(bytes)
		}
		diff.Changes = append(diff.Changes, Change{Path: path, Kind: change.Change, How: change.How})
	}
	return diff, nil
}
