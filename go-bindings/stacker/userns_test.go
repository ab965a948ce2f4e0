package stacker_test

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// cacheVariable is in the environment of tests that are run in a user namespace: a layout with the
// tag base, whose tree has what only root can make.
const cacheVariable = "STACKER_TEST_CACHE"

func inUserNamespace() bool { return os.Getenv(cacheVariable) != "" }

// TestUserNamespace runs the tests that build again, as the root of a user namespace that an ordinary
// user's stacker is.
func TestUserNamespace(t *testing.T) {
	if inUserNamespace() {
		t.Fatal("it runs itself")
	}
	const first, count = 100_000, 65_536
	// Not t.TempDir, which nobody else may enter.
	dir := must(os.MkdirTemp("", "of-an-ordinary-user-"))
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chown(dir, first, first))
	cache := filepath.Join(dir, "cache")
	must(puzzlefs.Build(context.Background(), makeTree(t), cache+":base", nil))
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: first, Size: count}}
	cmd := exec.Command("/proc/self/exe", "-test.run=^(TestReplay|TestBases|TestUnpack|TestLost|TestReproducible)$")
	cmd.Env = append(os.Environ(), cacheVariable+"="+cache, "TMPDIR="+dir, "HOME="+dir,
		"LD_LIBRARY_PATH="+dir, "PATH="+dir+":"+os.Getenv("PATH"))
	copyPrograms(t, dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings:                ids,
		GidMappings:                ids,
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{},
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
}

// copyPrograms copies to a directory what a test program needs to run: where it is, the user may not
// enter. A static program has loaded no library.
func copyPrograms(t *testing.T, dir string) {
	copyTo := func(name, from string) {
		check(t, os.WriteFile(filepath.Join(dir, name), must(os.ReadFile(from)), 0o755))
	}
	copyTo("puzzlefs", must(exec.LookPath("puzzlefs")))
	for line := range strings.Lines(string(must(os.ReadFile("/proc/self/maps")))) {
		fields := strings.Fields(line)
		loaded := fields[len(fields)-1]
		if strings.HasPrefix(filepath.Base(loaded), "libpuzzlefs.so.") {
			copyTo("libpuzzlefs.so.0", loaded)
			return
		}
	}
}

// TestLost tells what cannot be extracted, and has an image with it all the same.
func TestLost(t *testing.T) {
	cache, want := os.Getenv(cacheVariable), []string{"device /null", "trusted.note /etc"}
	if !inUserNamespace() {
		cache, want = makeBase(t).cache, nil
	}
	m := newModel(t, nil, puzzlefsType)
	m.cache = cache
	var lost []string
	m.unpacker.Lost = func(_ string, l puzzlefs.Lost) { lost = append(lost, l.What+" "+l.First) }
	m.build(recipe{name: "app", oci: "base", run: func(root string) {
		write(t, filepath.Join(root, "etc/motd"), []byte("changed\n"))
	}})
	slices.Sort(lost)
	if !slices.Equal(lost, want) {
		t.Errorf("it lost %q, want %q", lost, want)
	}
	image := must(puzzlefs.Open(m.output.OCIDir+":app-puzzlefs", nil))
	defer image.Close()
	if info := must(image.Lstat("null")); info.Mode()&fs.ModeCharDevice == 0 {
		t.Errorf("the device is %v", info.Mode())
	}
}
