package capi

// #include <puzzlefs.h>
import "C"

// ConfigHasCreated is PUZZLEFS_CONFIG_HAS_CREATED.
const ConfigHasCreated uint64 = C.PUZZLEFS_CONFIG_HAS_CREATED

// ConfigOptions is puzzlefs_config_options.
type ConfigOptions struct {
	Flags    uint64
	Tag      string
	Platform string
	Clear    []string
	// Nil leaves it as it is.
	Entrypoint []string
	// Nil leaves them as they are.
	Cmd []string
	Env []string
	// A key, its value, the next key, and so on.
	Labels       []string
	Volumes      []string
	ExposedPorts []string
	// As Labels.
	Annotations  []string
	User         string
	WorkingDir   string
	StopSignal   string
	Config       []byte
	Architecture string
	OS           string
	Author       string
	CreatedBy    string
	Comment      string
	Created      int64
	Progress     ProgressFunc
}

// ConfigResult is puzzlefs_config_result.
type ConfigResult struct {
	Digest       string
	Verity       string
	ManifestSize uint64
}

// Config is puzzlefs_config.
func Config(image string, options *ConfigOptions) (*ConfigResult, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_config_options{
		size:          C.sizeof_puzzlefs_config_options,
		flags:         C.uint64_t(options.Flags),
		tag:           args.optional(options.Tag),
		platform:      args.optional(options.Platform),
		clear:         args.list(options.Clear),
		entrypoint:    args.optionalList(options.Entrypoint),
		cmd:           args.optionalList(options.Cmd),
		env:           args.list(options.Env),
		labels:        args.list(options.Labels),
		volumes:       args.list(options.Volumes),
		exposed_ports: args.list(options.ExposedPorts),
		annotations:   args.list(options.Annotations),
		user:          args.optional(options.User),
		working_dir:   args.optional(options.WorkingDir),
		stop_signal:   args.optional(options.StopSignal),
		config:        args.bytes(options.Config),
		config_length: C.size_t(len(options.Config)),
		architecture:  args.optional(options.Architecture),
		os:            args.optional(options.OS),
		author:        args.optional(options.Author),
		created_by:    args.optional(options.CreatedBy),
		comment:       args.optional(options.Comment),
		created:       C.int64_t(options.Created),
		progress:      progressFn,
		data:          args.data(callbacks{progress: options.Progress}),
	}
	cImage := args.text(image)
	if args.err != nil {
		return nil, args.err
	}
	configured := C.puzzlefs_config_result{size: C.sizeof_puzzlefs_config_result}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_config(cImage, &cOptions, &configured, &failure)
	if err := result(status, failure); err != nil {
		return nil, err
	}
	return &ConfigResult{
		Digest:       C.GoString(&configured.digest[0]),
		Verity:       C.GoString(&configured.verity[0]),
		ManifestSize: uint64(configured.manifest_size),
	}, nil
}
