package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// must returns what a call returned that cannot fail.
func must[T any](result T, err error) T {
	if err != nil {
		panic(err)
	}
	return result
}

// folder makes a folder with a file of steps, and something to be copied.
func folder(t *testing.T, steps string) (file string) {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	err := errors.Join(
		os.MkdirAll(at("app/lib"), 0o755),
		os.WriteFile(at("steps"), []byte(steps), 0o644),
		os.WriteFile(at("app/.hidden"), []byte("hidden\n"), 0o600),
		os.WriteFile(at("app/lib/greet"), []byte("#!/bin/sh\necho $GREETING from $PWD\n"), 0o755),
		os.Symlink("lib/greet", at("app/greet")),
		syscall.Mkfifo(at("fifo"), 0o600),
		os.Chtimes(at("app/lib/greet"), time.Time{}, time.Unix(1000000000, 0)),
	)
	if err != nil {
		t.Fatal(err)
	}
	return at("steps")
}

// debian builds an image of a Debian root file system, under the tag base of a new layout.
func debian(t *testing.T) (layout string) {
	t.Helper()
	rootfs := os.Getenv("PUZZLEFS_ROOT")
	if rootfs == "" {
		t.Fatal("PUZZLEFS_ROOT is not set: run `make test-go`, or make a tree with tools/rootfs")
	}
	layout = filepath.Join(t.TempDir(), "images")
	must(puzzlefs.Build(context.Background(), must(filepath.EvalSymlinks(rootfs)), layout+":base", nil))
	return layout
}

func TestBuild(t *testing.T) {
	layout := debian(t)
	file := folder(t, `# An image with an application.
FROM `+layout+`:base

ENV GREETING=hello LANG=C
EXPOSE 80/tcp
WORKDIR /srv/data
COPY app /srv/app
COPY app/.hidden /etc/hidden
RUN /srv/app/greet >greeting && \
    rm /etc/issue; sleep 1000 &
ENTRYPOINT ["/srv/app/greet", "a b"]
CMD x y
USER daemon
`)
	var log strings.Builder
	digest, err := build(context.Background(), file, layout+":new", &log)
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	if !strings.HasPrefix(log.String(), "step 1 of 10: FROM "+layout+":base\nstep 2 of 10: ENV ") {
		t.Errorf("it said %s", &log)
	}

	base, image := must(puzzlefs.Open(layout+":base", nil)), must(puzzlefs.Open(layout+":new", nil))
	defer base.Close()
	defer image.Close()
	if image.Digest() != digest {
		t.Errorf("it printed %s, and made %s", digest, image.Digest())
	}
	kinds := make(map[string]puzzlefs.ChangeKind)
	for change, err := range base.Diff(image) {
		if err != nil {
			t.Fatal(err)
		}
		kinds[change.Path] = change.Kind
	}
	want := map[string]puzzlefs.ChangeKind{
		"/etc":               puzzlefs.Changed,
		"/etc/hidden":        puzzlefs.Added,
		"/etc/issue":         puzzlefs.Removed,
		"/srv":               puzzlefs.Changed,
		"/srv/app":           puzzlefs.Added,
		"/srv/app/.hidden":   puzzlefs.Added,
		"/srv/app/greet":     puzzlefs.Added,
		"/srv/app/lib":       puzzlefs.Added,
		"/srv/app/lib/greet": puzzlefs.Added,
		"/srv/data":          puzzlefs.Added,
		"/srv/data/greeting": puzzlefs.Added,
	}
	if !reflect.DeepEqual(kinds, want) {
		t.Errorf("the changes are %v, not %v", kinds, want)
	}
	if got := string(must(image.ReadFile("srv/data/greeting"))); got != "hello from /srv/data\n" {
		t.Errorf("the command wrote %q", got)
	}
	copied := must(image.Stat("srv/app/greet"))
	if copied.Mode() != 0o755 || copied.ModTime().Unix() != 1000000000 {
		t.Errorf("what was copied is %v", copied)
	}
	checkConfig(t, image)
	checkTags(t, layout, "base", "new")
}

// checkConfig looks at the configuration and the history of what TestBuild makes.
func checkConfig(t *testing.T, image *puzzlefs.Image) {
	t.Helper()
	type config struct {
		Env, Entrypoint, Cmd []string
		WorkingDir, User     string
		ExposedPorts         map[string]struct{}
	}
	var inspected struct {
		Config struct {
			Config  config
			History []struct {
				CreatedBy string `json:"created_by"`
			}
		}
	}
	if err := json.Unmarshal(must(image.Inspect()), &inspected); err != nil {
		t.Fatal(err)
	}
	want := config{
		Env:          []string{"GREETING=hello", "LANG=C"},
		Entrypoint:   []string{"/srv/app/greet", "a b"},
		Cmd:          []string{"x", "y"},
		WorkingDir:   "/srv/data",
		User:         "daemon",
		ExposedPorts: map[string]struct{}{"80/tcp": {}},
	}
	if got := inspected.Config.Config; !reflect.DeepEqual(got, want) {
		t.Errorf("the configuration is %+v, not %+v", got, want)
	}
	var instructions []string
	for _, entry := range inspected.Config.History {
		instruction, _, _ := strings.Cut(entry.CreatedBy, " ")
		instructions = append(instructions, instruction)
	}
	steps := []string{"puzzlefs", "FROM", "ENV", "EXPOSE", "WORKDIR", "COPY", "COPY", "RUN", "ENTRYPOINT", "CMD", "USER"}
	if !slices.Equal(instructions, steps) {
		t.Errorf("the history has %q, not %q", instructions, steps)
	}
}

func checkTags(t *testing.T, layout string, want ...string) {
	t.Helper()
	var tags []string
	for _, entry := range must(puzzlefs.Tags(layout)) {
		tags = append(tags, entry.Tag)
	}
	if !slices.Equal(tags, want) {
		t.Errorf("the layout has the tags %q, not %q", tags, want)
	}
}

// TestFrom starts from nothing, and from an image whose layers are tar archives.
func TestFrom(t *testing.T) {
	dir := t.TempDir()
	ordinary, bundle := filepath.Join(dir, "ordinary"), filepath.Join(dir, "bundle")
	umoci(t, "init", "--layout", ordinary)
	umoci(t, "new", "--image", ordinary+":v1")
	umoci(t, "unpack", "--image", ordinary+":v1", bundle)
	if err := os.WriteFile(filepath.Join(bundle, "rootfs/hostname"), []byte("box\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	umoci(t, "repack", "--image", ordinary+":v1", bundle)
	for from, want := range map[string][]string{
		"scratch":        {".hidden", "greet", "lib"},
		ordinary + ":v1": {".hidden", "greet", "hostname", "lib"},
	} {
		layout := filepath.Join(t.TempDir(), "images")
		file := folder(t, "FROM "+from+"\nCOPY app /\n")
		must(build(context.Background(), file, layout+":new", io.Discard))
		image := must(puzzlefs.Open(layout+":new", nil))
		defer image.Close()
		var names []string
		for _, entry := range must(image.ReadDir(".")) {
			names = append(names, entry.Name())
		}
		if !slices.Equal(names, want) {
			t.Errorf("from %s: there is %q, not %q", from, names, want)
		}
		if mode := must(image.Stat(".")).Mode(); mode != fs.ModeDir|0o755 {
			t.Errorf("from %s: the root is %v", from, mode)
		}
		checkTags(t, layout, "new")
	}
}

func umoci(t *testing.T, args ...string) {
	t.Helper()
	if output, err := exec.Command("umoci", args...).CombinedOutput(); err != nil {
		t.Fatalf("umoci %v: %v\n%s", args, err, output)
	}
}

// TestErrors has steps that fail: the image stays what it was, and nothing is left.
func TestErrors(t *testing.T) {
	layout := debian(t)
	from := "FROM " + layout + ":base\n"
	cases := []struct{ name, steps, err string }{
		{"no steps", "# nothing\n\n", "the first step must be FROM"},
		{"no FROM", "RUN true\n", "the first step must be FROM"},
		{"an unknown instruction", from + "ADD x y\n", "ADD x y: there is no such instruction"},
		{"an unknown image", "FROM " + layout + ":none\n", "none"},
		{"a command that fails", from + "RUN exit 3\n", "RUN exit 3: exit status 3"},
		{"no command", from + "RUN none\n", "RUN none: exit status 127"},
		{"no source", from + "COPY none /\n", "COPY none /: "},
		{"a source elsewhere", from + "COPY ../x /\n", "COPY ../x /: "},
		{"a device", from + "COPY app/../fifo /\n", "fifo is no file, folder or link"},
		{"a target elsewhere", from + "RUN ln -s /tmp /srv/out\nCOPY app /srv/out/app\n", "path escapes"},
		{"no JSON", from + "CMD [sh]\n", "CMD [sh]: "},
		{"no words", from + "ENV\n", "there is nothing to set"},
		{"no variable", from + "ENV A\n", "ENV A: "},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			file := folder(t, c.steps)
			t.Setenv("TMPDIR", t.TempDir())
			digest, err := build(context.Background(), file, layout+":new", io.Discard)
			if err == nil || !strings.Contains(err.Error(), c.err) || digest != "" {
				t.Errorf("it returned %q and %v", digest, err)
			}
			checkTags(t, layout, "base")
			if left := must(os.ReadDir(os.TempDir())); len(left) != 0 {
				t.Errorf("it left %v", left)
			}
		})
	}
}

// TestInterrupt ends a step that does not end by itself.
func TestInterrupt(t *testing.T) {
	layout := debian(t)
	file := folder(t, "FROM "+layout+":base\nRUN echo running; sleep 1000\n")
	ctx, cancel := context.WithCancel(context.Background())
	reader, writer := io.Pipe()
	go func() {
		text := new(strings.Builder)
		buffer := make([]byte, 1024)
		for !strings.Contains(text.String(), "\nrunning\n") {
			count, err := reader.Read(buffer)
			text.Write(buffer[:count])
			if err != nil {
				return
			}
		}
		cancel()
		_, _ = io.Copy(io.Discard, reader)
	}()
	_, err := build(ctx, file, layout+":new", writer)
	writer.Close()
	if err == nil || ctx.Err() == nil {
		t.Errorf("it ended with %v", err)
	}
	checkTags(t, layout, "base")
}
