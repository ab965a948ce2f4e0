package puzzlefs_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// mount mounts the image until the test ends.
func mount(t *testing.T, image *puzzlefs.Image, options *puzzlefs.MountOptions) *puzzlefs.Mount {
	t.Helper()
	mounted := must(image.Mount(context.Background(), t.TempDir(), options))
	t.Cleanup(func() {
		check(t, mounted.Detach())
		<-mounted.Done()
	})
	return mounted
}

func isMounted(t *testing.T, dir string) bool {
	t.Helper()
	var here, above syscall.Stat_t
	check(t, syscall.Stat(dir, &here))
	check(t, syscall.Stat(filepath.Dir(dir), &above))
	return here.Dev != above.Dev
}

func TestMount(t *testing.T) {
	rootfs := makeTree(t)
	image := open(t, rootfs)
	want := must(os.ReadFile(filepath.Join(rootfs, "noise")))
	for name, options := range map[string]*puzzlefs.MountOptions{
		"nil":      nil,
		"defaults": {},
		"writable": {Writable: true},
		"persist":  {Persist: filepath.Join(t.TempDir(), "kept")},
		"flags":    {OwnerOnly: true, NoSUID: true, NoDev: true, NoExec: true, Threads: 1, Source: "a source"},
	} {
		t.Run(name, func(t *testing.T) {
			mounted := mount(t, image, options)
			if !isMounted(t, mounted.Point()) {
				t.Fatalf("nothing is mounted on %s", mounted.Point())
			}
			got := must(os.ReadFile(filepath.Join(mounted.Point(), "noise")))
			if !bytes.Equal(got, want) {
				t.Error("a file is not the same")
			}
			err := os.WriteFile(filepath.Join(mounted.Point(), "new"), []byte("new"), 0o644)
			writable := options != nil && (options.Writable || options.Persist != "")
			if writable && err != nil || !writable && !errors.Is(err, syscall.EROFS) {
				t.Errorf("writing a file: %v", err)
			}
			check(t, mounted.Unmount())
			check(t, mounted.Wait(context.Background()))
			if isMounted(t, mounted.Point()) {
				t.Error("it is still mounted")
			}
		})
	}
}

// TestMountSame compares a mount with the tree, as another image of it.
func TestMountSame(t *testing.T) {
	rootfs := makeTree(t)
	mounted := mount(t, open(t, rootfs), nil)
	layout := filepath.Join(t.TempDir(), "layout")
	want := must(puzzlefs.Build(context.Background(), rootfs, layout+":want", nil))
	got := must(puzzlefs.Build(context.Background(), mounted.Point(), layout+":got", nil))
	if got.Digest != want.Digest {
		t.Errorf("an image of the mount is %s, not %s", got.Digest, want.Digest)
	}
}

func TestMountIDs(t *testing.T) {
	mounted := mount(t, open(t, makeTree(t)), &puzzlefs.MountOptions{
		UIDMap: []puzzlefs.IDRange{{Inside: 0, Outside: 5, Count: 1}, {Inside: 1000, Outside: 7, Count: 10}},
		GIDMap: []puzzlefs.IDRange{{Inside: 1001, Outside: 8, Count: 1}},
	})
	for name, want := range map[string][2]uint32{"file": {7, 8}, "text": {5, 65534}} {
		var stat syscall.Stat_t
		check(t, syscall.Stat(filepath.Join(mounted.Point(), name), &stat))
		if got := [2]uint32{stat.Uid, stat.Gid}; got != want {
			t.Errorf("%s belongs to %v, not %v", name, got, want)
		}
	}
}

// TestMountEnd ends mounts in all ways.
func TestMountEnd(t *testing.T) {
	image := open(t, makeTree(t))
	umount := func(mounted *puzzlefs.Mount) error {
		return exec.Command("umount", mounted.Point()).Run()
	}
	cases := map[string]struct {
		end  func(*puzzlefs.Mount) error
		want error
	}{
		"Unmount":          {(*puzzlefs.Mount).Unmount, nil},
		"Detach":           {(*puzzlefs.Mount).Detach, nil},
		"umount":           {umount, puzzlefs.ErrUnmounted},
		"another process'": {func(m *puzzlefs.Mount) error { return puzzlefs.Unmount(m.Point(), false) }, puzzlefs.ErrUnmounted},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			mounted := mount(t, image, nil)
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			defer cancel()
			if err := mounted.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("waiting for what does not end: %v", err)
			}
			check(t, mounted.Err())
			check(t, c.end(mounted))
			if err := mounted.Wait(context.Background()); !errors.Is(err, c.want) {
				t.Errorf("it ended with %v", err)
			}
			<-mounted.Done()
			check(t, mounted.Unmount())
		})
	}
}

func TestMountBusy(t *testing.T) {
	mounted := mount(t, open(t, makeTree(t)), nil)
	file := must(os.Open(filepath.Join(mounted.Point(), "noise")))
	if err := mounted.Unmount(); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("unmounting what is in use: %v", err)
	}
	check(t, mounted.Detach())
	buffer := make([]byte, 1)
	must(file.ReadAt(buffer, 1<<19))
	check(t, file.Close())
	check(t, mounted.Wait(context.Background()))
}

func TestMountErrors(t *testing.T) {
	rootfs := makeTree(t)
	name, layout := build(t, rootfs, nil)
	image := must(puzzlefs.Open(name, nil))
	mounted := mount(t, image, nil)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	try := func(ctx context.Context, dir string, options *puzzlefs.MountOptions) error {
		_, err := image.Mount(ctx, dir, options)
		return err
	}
	with := func(options *puzzlefs.MountOptions) error {
		return try(context.Background(), rootfs, options)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	dir := filepath.Join(t.TempDir(), "kept")
	mount(t, image, &puzzlefs.MountOptions{Persist: dir})
	cases := map[string]struct{ err, is error }{
		"a missing directory": {try(context.Background(), missing, nil), fs.ErrNotExist},
		"a file":              {try(context.Background(), rootfs+"/file", nil), fs.ErrInvalid},
		"mounted already":     {try(context.Background(), mounted.Point(), nil), fs.ErrExist},
		"over the layout":     {try(context.Background(), layout, nil), fs.ErrInvalid},
		"a NUL byte":          {try(context.Background(), "a\x00b", nil), fs.ErrInvalid},
		"cancelled":           {try(cancelled, rootfs, nil), context.Canceled},
		"threads":             {with(&puzzlefs.MountOptions{Threads: -1}), fs.ErrInvalid},
		"ids":                 {with(&puzzlefs.MountOptions{UIDMap: []puzzlefs.IDRange{{}}}), fs.ErrInvalid},
		"two minds":           {with(&puzzlefs.MountOptions{AllowOther: true, OwnerOnly: true}), fs.ErrInvalid},
		"kept by another":     {with(&puzzlefs.MountOptions{Persist: dir}), fs.ErrExist},
		"unmount nothing":     {puzzlefs.Unmount(rootfs, false), fs.ErrNotExist},
		"unmount /proc":       {puzzlefs.Unmount("/proc", true), fs.ErrInvalid},
		"another digest":      {image.Check(context.Background(), "sha256:"+strings.Repeat("0", 64), nil), puzzlefs.ErrCorrupt},
		"another verity":      {image.Check(context.Background(), strings.Repeat("0", 64), nil), puzzlefs.ErrCorrupt},
		"no digest":           {image.Check(context.Background(), "", nil), fs.ErrInvalid},
		"no verity":           {image.EnableVerity(context.Background(), image.Digest(), nil), fs.ErrInvalid},
	}
	for name, c := range cases {
		if !errors.Is(c.err, c.is) {
			t.Errorf("%s: %v", name, c.err)
		}
	}
	check(t, image.Check(context.Background(), image.Digest(), nil))
	check(t, image.Close())
	if err := try(context.Background(), rootfs, nil); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("mounting a closed image: %v", err)
	}
	if isMounted(t, rootfs) {
		t.Error("what failed is mounted")
	}
	// The mount does not need the image.
	must(os.ReadFile(filepath.Join(mounted.Point(), "noise")))
}

func TestMountLog(t *testing.T) {
	rootfs, content := t.TempDir(), noise(1<<20)
	check(t, os.WriteFile(filepath.Join(rootfs, "noise"), content, 0o644))
	name, layout := build(t, rootfs, &puzzlefs.BuildOptions{Compression: puzzlefs.NoCompression})
	damage(t, layout, content[:16])
	image := must(puzzlefs.Open(name, nil))
	defer image.Close()
	lines := make(chan string, 16)
	mounted := mount(t, image, &puzzlefs.MountOptions{Log: func(line string) { lines <- line }})
	if _, err := os.ReadFile(filepath.Join(mounted.Point(), "noise")); !errors.Is(err, syscall.EIO) {
		t.Errorf("reading what is damaged: %v", err)
	}
	if line := <-lines; !strings.Contains(line, "'/noise'") {
		t.Errorf("it logged %q", line)
	}
}

// TestProcess looks at the process that has an image open and mounted: its signals are handled as
// ever, and a program that it executes inherits nothing.
func TestProcess(t *testing.T) {
	signals := func() string {
		var lines string
		for line := range strings.Lines(string(must(os.ReadFile("/proc/self/status")))) {
			if strings.HasPrefix(line, "SigIgn:") || strings.HasPrefix(line, "SigCgt:") {
				lines += line
			}
		}
		return lines
	}
	name, layout := build(t, makeTree(t), nil)
	before := signals()
	image := must(puzzlefs.Open(name, nil))
	defer image.Close()
	mounted := mount(t, image, nil)
	must(os.ReadFile(filepath.Join(mounted.Point(), "noise")))
	if after := signals(); after != before {
		t.Errorf("the signals are\n%s, were\n%s", after, before)
	}
	inherited := string(must(exec.Command("ls", "-l", "/proc/self/fd").Output()))
	if strings.Contains(inherited, layout) || strings.Contains(inherited, "fuse") {
		t.Errorf("a program inherits\n%s", inherited)
	}
}

// TestMounts has several goroutines mount, read and unmount at once.
func TestMounts(t *testing.T) {
	image := open(t, makeTree(t))
	var group sync.WaitGroup
	for range 8 {
		dir := t.TempDir()
		group.Go(func() {
			for range 10 {
				mounted := must(image.Mount(context.Background(), dir, nil))
				must(os.ReadFile(filepath.Join(dir, "noise")))
				if err := mounted.Unmount(); err != nil {
					t.Error(err)
					check(t, mounted.Detach())
				}
				<-mounted.Done()
			}
		})
	}
	group.Wait()
}
