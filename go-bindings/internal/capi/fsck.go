package capi

// #include <puzzlefs.h>
import "C"

import "unsafe"

// The values of puzzlefs_severity.
const (
	SeverityError    = C.PUZZLEFS_SEVERITY_ERROR
	SeverityWarning  = C.PUZZLEFS_SEVERITY_WARNING
	SeverityRepaired = C.PUZZLEFS_SEVERITY_REPAIRED
)

// FsckOptions is puzzlefs_fsck_options.
type FsckOptions struct {
	Flags      uint64
	Progress   ProgressFunc
	RepairFrom []string
}

// FsckReport is puzzlefs_fsck_report.
type FsckReport C.puzzlefs_fsck_report

func (r *FsckReport) c() *C.puzzlefs_fsck_report {
	return (*C.puzzlefs_fsck_report)(r)
}

// FsckSummary is puzzlefs_fsck_summary.
type FsckSummary struct {
	Findings     uint64
	Errors       uint64
	Images       uint64
	Blobs        uint64
	Bytes        uint64
	Unreferenced uint64
}

// Finding is puzzlefs_finding.
type Finding struct {
	Severity uint32
	Message  string
	Tags     TagList
}

// TagList is the list of tags of a puzzlefs_finding. Lists that are equal are one and the same, and
// so are tags.
type TagList struct {
	first **C.char
	count C.size_t
}

// TagCopies are copies of a report's tags, each made once.
type TagCopies map[*C.char]string

// List copies the tags of a list. They go with the report.
func (t TagCopies) List(list TagList) []string {
	var tags []string
	if list.count > 0 {
		tags = make([]string, 0, list.count)
	}
	for _, tag := range unsafe.Slice(list.first, list.count) {
		text, known := t[tag]
		if !known {
			text = C.GoString(tag)
			t[tag] = text
		}
		tags = append(tags, text)
	}
	return tags
}

// Fsck is puzzlefs_fsck.
func Fsck(target string, options *FsckOptions) (*FsckReport, error) {
	var args arguments
	defer args.release()
	cOptions := C.puzzlefs_fsck_options{
		size:        C.sizeof_puzzlefs_fsck_options,
		flags:       C.uint64_t(options.Flags),
		progress:    progressFn,
		data:        args.data(callbacks{progress: options.Progress}),
		repair_from: args.list(options.RepairFrom),
	}
	cTarget := args.text(target)
	if args.err != nil {
		return nil, args.err
	}
	var report *C.puzzlefs_fsck_report
	var failure *C.puzzlefs_error
	status := C.puzzlefs_fsck(cTarget, &cOptions, &report, &failure)
	return (*FsckReport)(report), result(status, failure)
}

// FsckReportSummary is puzzlefs_fsck_report_summary.
func FsckReportSummary(report *FsckReport) (FsckSummary, error) {
	summary := C.puzzlefs_fsck_summary{size: C.sizeof_puzzlefs_fsck_summary}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_fsck_report_summary(report.c(), &summary, &failure)
	if err := result(status, failure); err != nil {
		return FsckSummary{}, err
	}
	return FsckSummary{
		Findings:     uint64(summary.findings),
		Errors:       uint64(summary.errors),
		Images:       uint64(summary.images),
		Blobs:        uint64(summary.blobs),
		Bytes:        uint64(summary.bytes),
		Unreferenced: uint64(summary.unreferenced),
	}, nil
}

// FsckReportFinding is puzzlefs_fsck_report_finding.
func FsckReportFinding(report *FsckReport, index uint64) (Finding, error) {
	finding := C.puzzlefs_finding{size: C.sizeof_puzzlefs_finding}
	var failure *C.puzzlefs_error
	status := C.puzzlefs_fsck_report_finding(report.c(), C.uint64_t(index), &finding, &failure)
	if err := result(status, failure); err != nil {
		return Finding{}, err
	}
	return Finding{
		Severity: uint32(finding.severity),
		Message:  C.GoString(finding.message),
		Tags:     TagList{finding.tags, finding.tag_count},
	}, nil
}

// FsckReportFree is puzzlefs_fsck_report_free.
func FsckReportFree(report *FsckReport) {
	C.puzzlefs_fsck_report_free(report.c())
}
