package puzzlefs

import "github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"

// Version returns the version of the library that runs, such as "0.1.0".
func Version() string {
	return capi.Version()
}
