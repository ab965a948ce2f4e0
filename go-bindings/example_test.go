package puzzlefs_test

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// inExample makes a folder for an example, with a root file system in rootfs and an image of it in
// images:v1, and goes there. It returns what leaves and removes it.
func inExample() func() {
	dir, before := must(os.MkdirTemp("", "puzzlefs-example-")), must(os.Getwd())
	err := errors.Join(
		os.Chdir(dir),
		os.MkdirAll("rootfs/etc", 0o755),
		os.WriteFile("rootfs/etc/hostname", []byte("box\n"), 0o644),
		os.Symlink("hostname", "rootfs/etc/name"),
		syscall.Setxattr("rootfs/etc/hostname", "user.origin", []byte("a form"), 0),
	)
	if err != nil {
		log.Fatal(err)
	}
	must(puzzlefs.Build(context.Background(), "rootfs", "images:v1", nil))
	return func() {
		if err := errors.Join(os.Chdir(before), os.RemoveAll(dir)); err != nil {
			log.Fatal(err)
		}
	}
}

// An image whose digest depends on nothing but the files' content: on no owner, and on no time
// after the release. Ctrl-C stops it.
func ExampleBuild() {
	defer inExample()()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	released := time.Date(2024, 5, 31, 12, 0, 0, 0, time.UTC)
	result, err := puzzlefs.Build(ctx, "rootfs", "images:release", &puzzlefs.BuildOptions{
		Exclude:    []string{"*.pyc", "var/cache"},
		Owner:      &puzzlefs.Owner{UID: 0, GID: 0},
		ClampMtime: released,
		Created:    released,
		CreatedBy:  "make image",
	})
	if errors.Is(err, context.Canceled) {
		log.Fatal("stopped; images is as it was")
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d inodes, %d file of %d bytes\n", result.Inodes, result.Files, result.BytesTree)
	// Output: 4 inodes, 1 file of 4 bytes
}

// Progress is told on the goroutine that called Build.
func ExampleBuild_progress() {
	defer inExample()()

	var last puzzlefs.Progress
	_, err := puzzlefs.Build(context.Background(), "rootfs", "images:v2", &puzzlefs.BuildOptions{
		Progress: func(p puzzlefs.Progress) { last = p },
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %d of %d bytes\n", last.Stage, last.Done, last.Total)
	// Output: storing: 4 of 4 bytes
}

// The upperdir of an overlay says what a step changed: here, a file is new, and another one is
// gone.
func ExampleDelta() {
	defer inExample()()

	err := errors.Join(
		os.MkdirAll("upper/etc", 0o755),
		os.WriteFile("upper/etc/motd", []byte("welcome\n"), 0o644),
		syscall.Mknod("upper/etc/hostname", syscall.S_IFCHR, 0),
	)
	if err != nil {
		log.Fatal(err)
	}
	_, err = puzzlefs.Delta(context.Background(), "upper", "images:v2", &puzzlefs.BuildOptions{
		Base:      "images:v1",
		CreatedBy: "a step",
	})
	if err != nil {
		log.Fatal(err)
	}
	image, err := puzzlefs.Open("images:v2", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	entries, err := image.ReadDir("etc")
	if err != nil {
		log.Fatal(err)
	}
	for _, entry := range entries {
		fmt.Println(entry.Name())
	}
	// Output:
	// motd
	// name
}

// Two ways to one tree: without their histories, the images of it are the same.
func ExampleCanonicalize() {
	defer inExample()()

	ctx := context.Background()
	if err := os.WriteFile("rootfs/etc/motd", []byte("welcome\n"), 0o644); err != nil {
		log.Fatal(err)
	}
	_, err := puzzlefs.Build(ctx, "rootfs", "images:v2", &puzzlefs.BuildOptions{Base: "images:v1"})
	if err != nil {
		log.Fatal(err)
	}
	options := &puzzlefs.BuildOptions{CreatedBy: "a release"}
	canonical, err := puzzlefs.Canonicalize(ctx, "images:v2", "images:canonical", options)
	if err != nil {
		log.Fatal(err)
	}
	apart, err := puzzlefs.Build(ctx, "rootfs", "others:v2", options)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(canonical.Digest == apart.Digest)
	// Output: true
}

// An image of another builder, whose layers are tar archives.
func ExampleConvert() {
	defer inExample()()
	must(exec.Command("umoci", "init", "--layout", "ordinary").Output())
	must(exec.Command("umoci", "new", "--image", "ordinary:v1").Output())
	must(exec.Command("umoci", "insert", "--image", "ordinary:v1", "rootfs", "/").Output())

	result, err := puzzlefs.Convert(context.Background(), "ordinary:v1", "images:converted", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(result.Files, "file")
	// Output: 1 file
}

// An image is an [fs.FS].
func ExampleOpen() {
	defer inExample()()

	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	err = fs.WalkDir(image, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Println(entry.Type(), path)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	content, err := fs.ReadFile(image, "etc/name")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(content))
	// Output:
	// d--------- .
	// d--------- etc
	// ---------- etc/hostname
	// L--------- etc/name
	// box
}

// A file can be read from anywhere.
func ExampleImage_Open() {
	defer inExample()()

	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	file, err := image.Open("etc/hostname")
	if err != nil {
		log.Fatal(err)
	}
	defer file.Close()
	buffer := make([]byte, 2)
	if _, err := file.(io.ReaderAt).ReadAt(buffer, 1); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", buffer)
	// Output: ox
}

// What [fs.FileInfo] has no method for is in [puzzlefs.Stat].
func ExampleStat() {
	defer inExample()()

	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	info, err := image.Lstat("etc/hostname")
	if err != nil {
		log.Fatal(err)
	}
	stat := info.Sys().(*puzzlefs.Stat)
	fmt.Println(info.Mode(), stat.Nlink, stat.UID, stat.GID, stat.Size)
	// Output: -rw-r--r-- 1 0 0 4
}

// A part of an image, too, has extended attributes.
func ExampleXattrFS() {
	defer inExample()()

	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	etc, err := fs.Sub(image, "etc")
	if err != nil {
		log.Fatal(err)
	}
	xattrs, err := etc.(puzzlefs.XattrFS).Xattrs("hostname")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%q\n", xattrs)
	// Output: map["user.origin":"a form"]
}

// What is in an image, for browsers.
func Example_http() {
	defer inExample()()

	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	server := httptest.NewServer(http.FileServerFS(image))
	defer server.Close()
	response, err := http.Get(server.URL + "/etc/name")
	if err != nil {
		log.Fatal(err)
	}
	defer response.Body.Close()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(content))
	// Output: box
}

func ExampleImage_Extract() {
	defer inExample()()

	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	result, err := image.Extract(context.Background(), "extracted", nil)
	if errors.Is(err, fs.ErrExist) {
		log.Fatal("there is something in extracted already")
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, lost := range result.Lost {
		log.Printf("not restored: %s of %d inodes, first %s", lost.What, lost.Count, lost.First)
	}
	content, err := os.ReadFile("extracted/etc/name")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(content))
	// Output: box
}

func ExampleImage_Export() {
	defer inExample()()

	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	reader, writer := io.Pipe()
	go func() {
		_, err := image.Export(context.Background(), writer, nil)
		writer.CloseWithError(err)
	}()
	archive := tar.NewReader(reader)
	for {
		header, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(header.Name)
	}
	// Output:
	// ./
	// etc/
	// etc/hostname
	// etc/name
}

func ExampleImage_Mount() {
	defer inExample()()

	if err := os.Mkdir("mnt", 0o755); err != nil {
		log.Fatal(err)
	}
	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	mount, err := image.Mount(ctx, "mnt", &puzzlefs.MountOptions{Persist: "changes"})
	if err != nil {
		log.Fatal(err)
	}
	err = os.WriteFile("mnt/etc/motd", []byte("welcome\n"), 0o644)
	if err != nil {
		log.Print(err)
	}
	err = mount.Unmount()
	if errors.Is(err, syscall.EBUSY) {
		// It goes when the last one has closed what is open in it.
		err = mount.Detach()
	}
	if err != nil {
		log.Fatal(err)
	}
	// Unmounted by whomever, what was written is there.
	if err := mount.Wait(ctx); err != nil {
		log.Fatal(err)
	}
	content, err := os.ReadFile("changes/upper/etc/motd")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(string(content))
	// Output: welcome
}

func ExampleImage_Diff() {
	defer inExample()()

	ctx := context.Background()
	if err := os.Chmod("rootfs/etc/hostname", 0o600); err != nil {
		log.Fatal(err)
	}
	if _, err := puzzlefs.Build(ctx, "rootfs", "images:v2", nil); err != nil {
		log.Fatal(err)
	}
	first, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer first.Close()
	second, err := puzzlefs.Open("images:v2", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer second.Close()
	for change, err := range first.Diff(second) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(change.Kind, change.Path, change.How)
	}
	// Output: changed /etc/hostname [mode]
}

// What runs in a container of the image, and how; and how to learn that of an image.
func ExampleConfig() {
	defer inExample()()

	_, err := puzzlefs.Config(context.Background(), "images:v1", &puzzlefs.ConfigOptions{
		Entrypoint: []string{"/bin/app"},
		Env:        []string{"LANG=C.UTF-8"},
		CreatedBy:  "a packager",
	})
	if err != nil {
		log.Fatal(err)
	}
	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	document, err := image.Inspect()
	if err != nil {
		log.Fatal(err)
	}
	var inspected struct {
		Config struct {
			Config struct{ Entrypoint, Env []string }
		}
	}
	if err := json.Unmarshal(document, &inspected); err != nil {
		log.Fatal(err)
	}
	fmt.Println(inspected.Config.Config.Entrypoint, inspected.Config.Config.Env)
	// Output: [/bin/app] [LANG=C.UTF-8]
}

// A release by two names.
func ExampleTags() {
	defer inExample()()

	if err := puzzlefs.Tag(context.Background(), "images:v1", "latest"); err != nil {
		log.Fatal(err)
	}
	entries, err := puzzlefs.Tags("images")
	if err != nil {
		log.Fatal(err)
	}
	for _, entry := range entries {
		fmt.Println(entry.Tag, entry.Kind, entry.Digest == entries[0].Digest)
	}
	// Output:
	// v1 puzzlefs true
	// latest puzzlefs true
}

// What no tag needs any more goes: here, at once, since nobody else is at work in the layout.
func ExampleGC() {
	defer inExample()()

	digest := must(puzzlefs.Tags("images"))[0].Digest
	if err := puzzlefs.Untag(context.Background(), "images:v1"); err != nil {
		log.Fatal(err)
	}
	report, err := puzzlefs.GC(context.Background(), "images", &puzzlefs.GCOptions{Grace: puzzlefs.NoGrace})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d blobs, the manifest among them: %t\n", len(report.Removed), slices.Contains(report.Removed, digest))
	// Output: 4 blobs, the manifest among them: true
}

func ExampleFsck() {
	defer inExample()()

	report, err := puzzlefs.Fsck(context.Background(), "images", nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, finding := range report.Findings {
		fmt.Println(finding)
	}
	fmt.Println("clean:", report.Clean())
	// Output: clean: true
}

// Programs decide by what an error is, people read what it says.
func ExampleError() {
	_, err := puzzlefs.Open("nowhere:v1", nil)
	var failure *puzzlefs.Error
	if errors.As(err, &failure) && errors.Is(err, fs.ErrNotExist) {
		fmt.Println(failure.Path)
	}
	// Output: nowhere
}
