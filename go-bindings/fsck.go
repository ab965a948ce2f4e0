package puzzlefs

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"github.com/project-machine/libpuzzlefs/go-bindings/internal/capi"
)

// FsckOptions says how a layout is checked. The zero value, and nil, are the defaults.
type FsckOptions struct {
	// RepairFrom is the layouts from which good copies of missing and damaged blobs are taken, the
	// first that has one. Nothing is repaired if there are none.
	RepairFrom []string
	// Progress is told how far the work is; see [BuildOptions].
	Progress func(Progress)
}

// FsckReport says what a check found.
type FsckReport struct {
	// Findings is what is wrong, the errors first.
	Findings []Finding
	// Images is the number of images checked.
	Images int64
	// Blobs is the number of blobs checked.
	Blobs int64
	// Bytes is the size of these blobs.
	Bytes int64
	// Unreferenced is the number of the layout's blobs that no image refers to. One that is damaged
	// is a warning: a build may find it and rely on it.
	Unreferenced int64
}

// Clean returns whether there are no errors; there may be warnings, and what was repaired.
func (r *FsckReport) Clean() bool {
	for _, finding := range r.Findings {
		if finding.Severity == SeverityError {
			return false
		}
	}
	return true
}

// Finding is something that is wrong, or was.
type Finding struct {
	Severity Severity
	// Message says what is wrong, in one line.
	Message string
	// Tags are those of the images that it hurts; an image without a tag, or with one of more than
	// 128 bytes, is named by its digest.
	// Findings that hurt the same images share one slice: what it holds is not to be changed.
	Tags []string
}

// String is one line, which names at most 100 tags and says how many more there are. What a terminal
// would take for a command is escaped, and a list of more than 8 KiB is cut.
func (f Finding) String() string {
	const shown = 100
	text := fmt.Sprintf("%s: %s", f.Severity, f.Message)
	if len(f.Tags) == 0 {
		return text
	}
	hurts, more := "hurts", ""
	if f.Severity == SeverityRepaired {
		hurts = "hurt"
	}
	if len(f.Tags) > shown {
		more = fmt.Sprintf(" and %d more", len(f.Tags)-shown)
	}
	tags := oneLine(strings.Join(f.Tags[:min(shown, len(f.Tags))], ", "))
	return fmt.Sprintf("%s (%s: %s%s)", text, hurts, tags, more)
}

// oneLine is the text as the library's own messages have it: one line, of a sensible length.
func oneLine(text string) string {
	const longest = 8 * 1024
	var line strings.Builder
	for at, char := range text {
		if at >= longest {
			line.WriteString("…")
			break
		}
		switch {
		case char == '\t':
			line.WriteString(`\t`)
		case char == '\n':
			line.WriteString(`\n`)
		case char == '\r':
			line.WriteString(`\r`)
		case unicode.IsControl(char):
			fmt.Fprintf(&line, `\u{%x}`, char)
		default:
			line.WriteRune(char)
		}
	}
	return line.String()
}

// Severity is how bad a finding is.
type Severity int

const (
	// SeverityError: something is lost or cannot be trusted.
	SeverityError Severity = capi.SeverityError
	// SeverityWarning: something is not as it should be, but everything can be read.
	SeverityWarning Severity = capi.SeverityWarning
	// SeverityRepaired: something was lost or damaged, and has been repaired.
	SeverityRepaired Severity = capi.SeverityRepaired
)

func (s Severity) String() string {
	switch s {
	case SeverityWarning:
		return "warning"
	case SeverityRepaired:
		return "repaired"
	}
	return "error"
}

// Fsck checks a layout, or one image of it: each digest, each structure, and that nothing is
// missing; and repairs it if the options say from what. The target is LAYOUT, LAYOUT:TAG or
// LAYOUT@sha256:HEX; what is a folder is a layout.
//
// A blob that is taken from another layout has the digest that it must have, and replaces the
// broken one at once and for good; who has that open goes on reading it. The index is not repaired:
// it says what only this layout knows, which tags there are.
//
// What is wrong is in the report, also what could not be repaired. An error says that the check
// could not be made: there is no layout, its index cannot be read, there is no such image, or ctx
// ended; what is repaired by then stays so. Or so many blobs are broken, to which so many images
// refer in so many ways, that the lists of what each hurts would be 16 million long: an image can be
// checked by its name then.
func Fsck(ctx context.Context, target string, options *FsckOptions) (*FsckReport, error) {
	if options == nil {
		options = &FsckOptions{}
	}
	return supervise(ctx, options.Progress, func(progress capi.ProgressFunc) (*FsckReport, error) {
		report, err := capi.Fsck(target, &capi.FsckOptions{Progress: progress, RepairFrom: options.RepairFrom})
		if err != nil {
			return nil, err
		}
		defer capi.FsckReportFree(report)
		return newFsckReport(report)
	})
}

func newFsckReport(from *capi.FsckReport) (*FsckReport, error) {
	summary, err := capi.FsckReportSummary(from)
	if err != nil {
		return nil, err
	}
	report := &FsckReport{
		Images:       int64(summary.Images),
		Blobs:        int64(summary.Blobs),
		Bytes:        int64(summary.Bytes),
		Unreferenced: int64(summary.Unreferenced),
	}
	if summary.Findings != 0 {
		report.Findings = make([]Finding, 0, summary.Findings)
	}
	lists, copies := map[capi.TagList][]string{}, capi.TagCopies{}
	for index := range summary.Findings {
		found, err := capi.FsckReportFinding(from, index)
		if err != nil {
			return nil, err
		}
		tags, known := lists[found.Tags]
		if !known {
			tags = copies.List(found.Tags)
			lists[found.Tags] = tags
		}
		finding := Finding{Severity: Severity(found.Severity), Message: found.Message, Tags: tags}
		report.Findings = append(report.Findings, finding)
	}
	return report, nil
}
