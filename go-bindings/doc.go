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
// [Delta] makes the next image of what a step changed, [Convert] one of an ordinary OCI image, and
// [Canonicalize] one without history. [Image.Extract] writes out a directory, [Image.Export] an
// archive. [Config] changes what an image says of how it is run, [Image.Diff] compares two images,
// [Tag], [Untag] and [Tags] are for the tags of a layout, [Fsck] checks it, and [GC] deletes what no
// tag needs any more.
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
// The linker then warns of getaddrinfo, getpwuid_r and the like, which Rust's libraries have and
// libpuzzlefs never calls. Such a program runs in an empty chroot. It needs /proc there for trees that
// have links or devices, and /proc and /dev/fuse to mount; who is not root mounts through the program
// fusermount3, too.
//
// # Goroutines, threads and processes
//
// All functions and methods may be called by any number of goroutines at once, with the same image
// too, and builders in many processes may work in one layout. A call into the library occupies the
// thread of its goroutine, as a system call does. It has threads of its own as well, which end
// before the call returns; only those that serve a mount stay, until it is over.
//
// A progress function is called on the goroutine that called the package, and may do what it likes; so
// may the body of a loop over [Image.Diff]. [MountOptions.Log] is called on threads of the mount, and
// must not panic.
//
// No goroutine may call [os.Setenv] while another one is in [Build] and its like or in [Config]:
// these read the environment as C does, by getenv(3).
//
// The library handles, blocks and sends no signals, so that all is as [os/signal] says, and it
// prints nothing. Its files are closed when a program is executed: [os/exec] is safe at any time, in
// the child nothing is left of an image or a mount.
//
// # What is forgotten
//
// An [Image] that is not closed is closed when the garbage collector finds that neither it nor
// anything of it is in use: a file, an entry of a directory, a part. The collector sees little of
// how much memory and how many files an image holds, and comes late. So close what you open.
//
// A [Mount] is never collected: it stays until somebody unmounts it, and the image of it can be
// closed meanwhile. A process that ends leaves its mounts behind, dead, for [Unmount] to clear.
package puzzlefs
