package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// tool runs the puzzlefs command and returns what it prints.
func tool(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("puzzlefs", args...)
	cmd.Stderr = os.Stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return string(output)
}

func TestStep(t *testing.T) {
	layout := filepath.Join(t.TempDir(), "layout")
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "old"), []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	tool(t, "build", tree, layout+":v1")
	script := []string{"sh", "-c", "cat old >new && rm old"}
	digest, err := step(context.Background(), layout+":v1", layout+":v2", script)
	if err != nil {
		t.Fatal(err)
	}
	if tags := tool(t, "tags", layout); !strings.Contains(tags, digest) {
		t.Errorf("the tags are %s, without %s", tags, digest)
	}
	if got := tool(t, "ls", layout+":v2"); got != "new\n" {
		t.Errorf("the new image has %q", got)
	}
	if got := tool(t, "inspect", layout+":v2"); !strings.Contains(got, strings.Join(script, " ")) {
		t.Errorf("the history does not tell of the step: %s", got)
	}

	// A command that fails makes no image.
	if _, err := step(context.Background(), layout+":v1", layout+":v3", []string{"false"}); err == nil {
		t.Error("no error")
	}
	if tags := tool(t, "tags", layout); strings.Contains(tags, "v3") {
		t.Errorf("there is an image: %s", tags)
	}
}
