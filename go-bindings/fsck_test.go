package puzzlefs_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

func TestFsck(t *testing.T) {
	rootfs, other := t.TempDir(), t.TempDir()
	content := noise(1 << 16)
	check(t, os.WriteFile(filepath.Join(rootfs, "noise"), content, 0o644))
	check(t, os.WriteFile(filepath.Join(other, "file"), []byte("other"), 0o644))
	name, layout := build(t, rootfs, nil)
	must(puzzlefs.Build(context.Background(), other, layout+":other", nil))
	must(puzzlefs.Build(context.Background(), rootfs, layout+":again", nil))

	compare := func(target string, clean bool) {
		t.Helper()
		var stage puzzlefs.Stage
		options := &puzzlefs.FsckOptions{Progress: func(p puzzlefs.Progress) { stage = p.Stage }}
		got := must(puzzlefs.Fsck(context.Background(), target, options))
		if want := printedReport(t, target); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: it found\n%+v, the command\n%+v", target, got, want)
		}
		if got.Clean() != clean {
			t.Errorf("%s: %v", target, got.Findings)
		}
		if stage != puzzlefs.StageCheck {
			t.Errorf("%s: the stage was %s", target, stage)
		}
	}
	for _, target := range []string{layout, name} {
		compare(target, true)
	}
	damage(t, layout, content[:16])
	compare(layout, false)
	compare(name, false)
	compare(layout+":other", true)

	report := must(puzzlefs.Fsck(context.Background(), layout, nil))
	finding, hurt := report.Findings[0], []string{"again", "v1"}
	if finding.Severity != puzzlefs.SeverityError || !reflect.DeepEqual(finding.Tags, hurt) {
		t.Errorf("it found %v, which should hurt %v", finding, hurt)
	}

	_, good := build(t, rootfs, nil)
	repair := &puzzlefs.FsckOptions{RepairFrom: []string{layout, good}}
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := puzzlefs.Fsck(cancelled, layout, repair); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	report = must(puzzlefs.Fsck(context.Background(), layout, repair))
	if len(report.Findings) != 1 || !report.Clean() {
		t.Fatalf("it repaired %v", report.Findings)
	}
	finding = report.Findings[0]
	if finding.Severity != puzzlefs.SeverityRepaired || !reflect.DeepEqual(finding.Tags, hurt) {
		t.Errorf("it repaired %v, which hurt %v", finding, hurt)
	}
	if text := finding.String(); !strings.HasPrefix(text, "repaired: ") || !strings.HasSuffix(text, " (hurt: again, v1)") {
		t.Errorf("it says %q", text)
	}
	compare(layout, true)
}

func TestFindingNamesSomeTags(t *testing.T) {
	var tags []string
	for number := range 102 {
		tags = append(tags, fmt.Sprint("t", number))
	}
	for count, end := range map[int]string{0: "bad", 1: "bad (hurts: t0)", 100: ", t99)", 102: ", t99 and 2 more)"} {
		finding := puzzlefs.Finding{Severity: puzzlefs.SeverityError, Message: "bad", Tags: tags[:count]}
		if text := finding.String(); !strings.HasSuffix(text, end) {
			t.Errorf("%d: it says %q", count, text)
		}
	}
}

// A tag that other tools have written may hold anything: what is printed of it is what the command
// prints.
func TestFindingIsOneLine(t *testing.T) {
	rootfs := t.TempDir()
	content := noise(1 << 16)
	check(t, os.WriteFile(filepath.Join(rootfs, "noise"), content, 0o644))
	_, layout := build(t, rootfs, nil)
	damage(t, layout, content[:16])
	index := filepath.Join(layout, "index.json")
	document := must(os.ReadFile(index))
	for _, tag := range []string{
		"a\nerror: b\r\tc\x1b[2J\u0085\u2028\"\\é",
		"...",
		strings.Repeat("\x1b", 128),
	} {
		changed := strings.Replace(string(document), `"v1"`, string(must(json.Marshal(tag))), 1)
		check(t, os.WriteFile(index, []byte(changed), 0o644))
		finding := must(puzzlefs.Fsck(context.Background(), layout, nil)).Findings[0]
		if !reflect.DeepEqual(finding.Tags, []string{tag}) {
			t.Fatalf("%q: it hurts %q", tag, finding.Tags)
		}
		output, err := exec.Command("puzzlefs", "fsck", "--quiet", layout).Output()
		if want, _, _ := strings.Cut(string(output), "\n"); finding.String() != want {
			t.Errorf("%q: it says\n%s, the command\n%s (%v)", tag, finding, want, err)
		}
	}
	long := puzzlefs.Finding{Tags: []string{strings.Repeat("é", 5000), "never told"}}
	if text := long.String(); !strings.HasSuffix(text, ": "+strings.Repeat("é", 4096)+"…)") {
		t.Errorf("it says %q", text)
	}
}

// printedReport is what `puzzlefs fsck` says of target.
func printedReport(t *testing.T, target string) *puzzlefs.FsckReport {
	t.Helper()
	cmd := exec.Command("puzzlefs", "fsck", "--quiet", "--json", target)
	output, err := cmd.Output()
	// It fails where it finds an error.
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || len(exit.Stderr) != 0) {
		t.Fatalf("%s: %v", cmd, err)
	}
	var printed struct {
		Findings []struct {
			Severity, Message string
			Tags              []string
		}
		Images, Blobs, Bytes, Unreferenced int64
	}
	check(t, json.Unmarshal(output, &printed))
	report := &puzzlefs.FsckReport{
		Images:       printed.Images,
		Blobs:        printed.Blobs,
		Bytes:        printed.Bytes,
		Unreferenced: printed.Unreferenced,
	}
	severities := map[string]puzzlefs.Severity{
		puzzlefs.SeverityError.String():   puzzlefs.SeverityError,
		puzzlefs.SeverityWarning.String(): puzzlefs.SeverityWarning,
	}
	for _, finding := range printed.Findings {
		report.Findings = append(report.Findings, puzzlefs.Finding{
			Severity: severities[finding.Severity],
			Message:  finding.Message,
			Tags:     finding.Tags,
		})
	}
	return report
}
