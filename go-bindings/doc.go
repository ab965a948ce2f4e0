// Package puzzlefs builds, reads, mounts and extracts puzzlefs container images.
//
// A puzzlefs image is an OCI image whose layers hold a whole file system: its metadata, and the
// content of its files, cut into chunks that images share. [Build] makes one of a directory and
// stores it in an OCI image layout:
//
//	result, err := puzzlefs.Build(ctx, "rootfs", "images:v1", nil)
//
// [Open] opens one. An [Image] is an [fs.FS], so that what works on other file systems works on
// it:
//
//	image, err := puzzlefs.Open("images:v1", nil)
//	if err != nil {
//		return err
//	}
//	defer image.Close()
//	release, err := fs.ReadFile(image, "etc/os-release")
//
// An image can be mounted, too, by root or by an ordinary user:
//
//	mount, err := image.Mount(ctx, "/mnt", nil)
//
// [Config] changes what an image says of how it is run, [Image.Diff] compares two images, [Tag],
// [Untag] and [Tags] are for the tags of a layout, and [GC] deletes what no tag needs any more.
//
// An image is named by one string, LAYOUT:TAG or LAYOUT@sha256:HEX, where LAYOUT is the folder
// of an OCI image layout. Paths are any bytes but NUL; they need not be UTF-8.
//
// Functions that take a [context.Context] stop soon after it ends, and undo what they did.
//
// # Linking
//
// The package needs libpuzzlefs, which it finds with pkg-config, and links it dynamically. With
// the build tag puzzlefs_static it links all that the static library needs; a fully static
// program is built with
//
//	go build -tags puzzlefs_static,netgo,osusergo -ldflags '-extldflags -static'
//
// The linker then warns of getaddrinfo and getpwuid_r, which Rust's standard library has and
// libpuzzlefs never calls.
package puzzlefs
