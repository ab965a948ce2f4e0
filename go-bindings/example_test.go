package puzzlefs_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	puzzlefs "github.com/project-machine/libpuzzlefs/go-bindings"
)

// exampleImage builds an image for an example, and returns its name and what removes it.
func exampleImage() (string, func()) {
	dir := must(os.MkdirTemp("", "puzzlefs-example-"))
	rootfs := filepath.Join(dir, "rootfs")
	err := errors.Join(
		os.MkdirAll(filepath.Join(rootfs, "etc"), 0o755),
		os.WriteFile(filepath.Join(rootfs, "etc/hostname"), []byte("box\n"), 0o644),
		os.Symlink("hostname", filepath.Join(rootfs, "etc/name")),
	)
	if err != nil {
		log.Fatal(err)
	}
	name := filepath.Join(dir, "images:v1")
	must(puzzlefs.Build(context.Background(), rootfs, name, nil))
	return name, func() { os.RemoveAll(dir) }
}

// Build an image whose digest depends on nothing but the files' content: on no owner, and on no
// time after the release. Ctrl-C stops it.
func ExampleBuild() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	released := time.Date(2024, 5, 31, 12, 0, 0, 0, time.UTC)
	result, err := puzzlefs.Build(ctx, "rootfs", "images:v1", &puzzlefs.BuildOptions{
		Exclude:    []string{"*.pyc", "var/cache"},
		Owner:      &puzzlefs.Owner{UID: 0, GID: 0},
		ClampMtime: released,
		Created:    released,
		CreatedBy:  "make image",
	})
	if errors.Is(err, context.Canceled) {
		log.Print("stopped; images is as it was")
		return
	}
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("%s: %d files, %d bytes", result.Digest, result.Files, result.BytesStored)
}

// An image is an [fs.FS].
func ExampleOpen() {
	name, remove := exampleImage()
	defer remove()

	image, err := puzzlefs.Open(name, nil)
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

// What [fs.FileInfo] has no method for is in [puzzlefs.Stat].
func ExampleStat() {
	name, remove := exampleImage()
	defer remove()

	image, err := puzzlefs.Open(name, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	info, err := image.Lstat("etc/hostname")
	if err != nil {
		log.Fatal(err)
	}
	stat := info.Sys().(*puzzlefs.Stat)
	fmt.Println(info.Mode(), stat.Nlink, stat.Size)
	// Output: -rw-r--r-- 1 4
}

func ExampleImage_Extract() {
	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	result, err := image.Extract(context.Background(), "rootfs", nil)
	if errors.Is(err, fs.ErrExist) {
		log.Fatal("there is something in rootfs already")
	}
	if err != nil {
		log.Fatal(err)
	}
	for _, lost := range result.Lost {
		log.Printf("not restored: %s of %d inodes, first %s", lost.What, lost.Count, lost.First)
	}
}

func ExampleImage_Mount() {
	image, err := puzzlefs.Open("images:v1", nil)
	if err != nil {
		log.Fatal(err)
	}
	defer image.Close()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	mount, err := image.Mount(ctx, "/mnt", &puzzlefs.MountOptions{Persist: "changes"})
	if err != nil {
		log.Fatal(err)
	}
	// Until ctrl-C, or until somebody unmounts it.
	if err := mount.Wait(ctx); errors.Is(err, context.Canceled) {
		err = mount.Unmount()
		if errors.Is(err, syscall.EBUSY) {
			err = mount.Detach()
		}
		if err != nil {
			log.Fatal(err)
		}
	}
}

func ExampleFsck() {
	name, remove := exampleImage()
	defer remove()

	report, err := puzzlefs.Fsck(context.Background(), name, nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, finding := range report.Findings {
		fmt.Println(finding)
	}
	fmt.Println("clean:", report.Clean())
	// Output: clean: true
}
