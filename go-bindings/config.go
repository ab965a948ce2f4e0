package puzzlefs

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// What [ConfigOptions] can clear.
const (
	ClearCmd          = "config.cmd"
	ClearEntrypoint   = "config.entrypoint"
	ClearEnv          = "config.env"
	ClearExposedPorts = "config.exposedports"
	ClearLabels       = "config.labels"
	ClearStopSignal   = "config.stopsignal"
	ClearUser         = "config.user"
	ClearVolumes      = "config.volume"
	ClearWorkingDir   = "config.workingdir"
	// ClearAnnotations clears the manifest's annotations, but for the one that is the library's
	// own.
	ClearAnnotations = "manifest.annotations"
)

// ConfigOptions says what of an image's configuration is changed. What is empty leaves things as
// they are.
type ConfigOptions struct {
	// Tag is the tag of the layout under which the result is stored; empty for the image's own.
	Tag string
	// Platform says which image of an index, as OS/ARCHITECTURE[/VARIANT]; empty for this
	// machine's, or the only one.
	Platform string

	// Clear is what is cleared before anything is set: [ClearEnv] and the like.
	Clear []string
	// Entrypoint is what is executed. One that is empty but not nil replaces the old one too.
	Entrypoint []string
	// Cmd is the arguments to Entrypoint; see there.
	Cmd []string
	// Env has variables to be set, each as NAME=VALUE.
	Env []string
	// Labels are to be set.
	Labels map[string]string
	// Volumes has paths to be added.
	Volumes []string
	// ExposedPorts has ports to be added, as PORT, PORT/tcp or PORT/udp.
	ExposedPorts []string
	// User is USER[:GROUP], by names or numbers.
	User string
	// WorkingDir is the working directory.
	WorkingDir string
	// StopSignal is the signal that stops a container.
	StopSignal string

	// Config is an OCI image configuration to start from instead of the image's, as JSON; the
	// history stays the image's.
	Config []byte
	// Architecture is the image's architecture, as in GOARCH.
	Architecture string
	// OS is the image's operating system, as in GOOS.
	OS string
	// Annotations of the manifest are to be set.
	Annotations map[string]string
	// Created is when the change was made, in whole seconds; the zero time for the environment's
	// SOURCE_DATE_EPOCH, else when the image was created.
	Created time.Time
	// Author is who made the image.
	Author string
	// CreatedBy is what made the change, for the history; empty for "puzzlefs config".
	CreatedBy string
	// Comment is a remark for the history.
	Comment string
}

// ConfigResult says what came out.
type ConfigResult struct {
	// Digest is the digest of the new manifest.
	Digest string
	// Size is the size of the new manifest in bytes.
	Size int64
	// Verity is the fs-verity digest of the new manifest in hexadecimal.
	Verity string
}

// Config changes the configuration of an image, LAYOUT:TAG, as a step of its history that adds no
// layer. The file system is the same, and everything in configuration, manifest and index that is
// not told to change stays. Nil options add to the history only. If ctx ends while others lock the
// layout, nothing is changed.
func Config(ctx context.Context, image string, options *ConfigOptions) (*ConfigResult, error) {
	if options == nil {
		options = &ConfigOptions{}
	}
	settings := options.settings()
	configured, err := supervise(ctx, nil, func(progress capi.ProgressFunc) (*capi.ConfigResult, error) {
		settings.Progress = progress
		return capi.Config(image, settings)
	})
	if err != nil {
		return nil, err
	}
	return &ConfigResult{
		Digest: configured.Digest,
		Size:   int64(configured.ManifestSize),
		Verity: configured.Verity,
	}, nil
}

// settings is the options as the library wants them.
func (o *ConfigOptions) settings() *capi.ConfigOptions {
	settings := &capi.ConfigOptions{
		Tag:          o.Tag,
		Platform:     o.Platform,
		Clear:        o.Clear,
		Entrypoint:   o.Entrypoint,
		Cmd:          o.Cmd,
		Env:          o.Env,
		Labels:       pairs(o.Labels),
		Volumes:      o.Volumes,
		ExposedPorts: o.ExposedPorts,
		Annotations:  pairs(o.Annotations),
		User:         o.User,
		WorkingDir:   o.WorkingDir,
		StopSignal:   o.StopSignal,
		Config:       o.Config,
		Architecture: o.Architecture,
		OS:           o.OS,
		Author:       o.Author,
		CreatedBy:    o.CreatedBy,
		Comment:      o.Comment,
	}
	if !o.Created.IsZero() {
		settings.Flags |= capi.ConfigHasCreated
		settings.Created = o.Created.Unix()
	}
	return settings
}

// pairs is the keys, each with its value behind it.
func pairs(texts map[string]string) []string {
	var list []string
	for _, key := range slices.Sorted(maps.Keys(texts)) {
		list = append(list, key, texts[key])
	}
	return list
}
