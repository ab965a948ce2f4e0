package capi

// #include <puzzlefs.h>
import "C"

// Bits of puzzlefs_gc_flags.
const (
	GCHasGrace uint64 = C.PUZZLEFS_GC_HAS_GRACE
	GCDryRun   uint64 = C.PUZZLEFS_GC_DRY_RUN
)

// GCOptions is puzzlefs_gc_options.
type GCOptions struct {
	Flags    uint64
	Grace    uint64
	Progress ProgressFunc
}

// tagOptions is puzzlefs_tag_options.
func (a *arguments) tagOptions(progress ProgressFunc) C.puzzlefs_tag_options {
	return C.puzzlefs_tag_options{
		size:     C.sizeof_puzzlefs_tag_options,
		progress: progressFn,
		data:     a.data(callbacks{progress: progress}),
	}
}

// Tag is puzzlefs_tag.
func Tag(image, tag string, progress ProgressFunc) error {
	var args arguments
	defer args.release()
	cImage, cTag := args.text(image), args.text(tag)
	cOptions := args.tagOptions(progress)
	if args.err != nil {
		return args.err
	}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_tag(cImage, cTag, &cOptions, &failure)
	return result(status, failure)
}

// Untag is puzzlefs_untag.
func Untag(image string, progress ProgressFunc) error {
	var args arguments
	defer args.release()
	cImage := args.text(image)
	cOptions := args.tagOptions(progress)
	if args.err != nil {
		return args.err
	}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_untag(cImage, &cOptions, &failure)
	return result(status, failure)
}

// Tags is puzzlefs_tags.
func Tags(layout string) ([]byte, error) {
	var args arguments
	defer args.release()
	cLayout := args.text(layout)
	if args.err != nil {
		return nil, args.err
	}
	var json *C.char
	var failure *C.puzzlefs_error
	status := C.puzzlefs_tags(cLayout, &json, &failure)
	return document(status, json, failure)
}

// GC is puzzlefs_gc.
func GC(layout string, options *GCOptions) ([]byte, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_gc_options{
		size:     C.sizeof_puzzlefs_gc_options,
		flags:    C.uint64_t(options.Flags),
		grace:    C.uint64_t(options.Grace),
		progress: progressFn,
		data:     args.data(callbacks{progress: options.Progress}),
	}
	cLayout := args.text(layout)
	if args.err != nil {
		return nil, args.err
	}
	var json *C.char
	var failure *C.puzzlefs_error
	status := C.puzzlefs_gc(cLayout, &cOptions, &json, &failure)
	return document(status, json, failure)
}

// document is the result of a call that returned status and gave a document.
func document(status C.puzzlefs_status, json *C.char, failure *C.puzzlefs_error) ([]byte, error) {
	if err := result(status, failure); err != nil {
		return nil, err
	}
	defer C.puzzlefs_string_free(json)
	return []byte(C.GoString(json)), nil
}
