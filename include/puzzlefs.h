/*
 * libpuzzlefs builds, reads, mounts and extracts puzzlefs container images.
 *
 * Link with `pkg-config --cflags --libs puzzlefs`, or `--static --libs` for the archive.
 *
 * Errors. A function that can fail returns a status, 0 or a negative puzzlefs_status, and gives
 * its results through parameters. Its last parameter, which may be NULL, is for an error that says
 * more; see puzzlefs_error. Nothing is printed, and no state is kept for a thread. A defect of the
 * library is PUZZLEFS_ERR_INTERNAL; only when memory runs out does the process end.
 *
 * Strings end with a NUL. Paths and names may be any bytes; other texts are UTF-8.
 *
 * Ownership. Arguments are borrowed: the library keeps none of them. What it gives is the
 * caller's, if its documentation names the function that frees it; else it belongs to the handle
 * that it came from, and goes with it. Handles are opaque. A NULL where something is needed, a
 * handle of another type, and where it can be told one that is freed, are
 * PUZZLEFS_ERR_INVALID_INPUT.
 *
 * Threads. Any function may be called from any thread at any time, also with a handle that another
 * thread uses. Only to free a handle, no other may use it. No handle belongs to a thread.
 *
 * Processes. A child that is forked while no other thread is in a call may do all that its parent
 * may, also with the parent's handles, but that a mount stays the parent's; what either frees, the
 * other still has. File descriptors are closed by exec. No signal handler is installed; a handler
 * of the program's may run on threads of the library, too.
 *
 * Loading. The library may be loaded with dlopen, and unloaded with dlclose once no call runs and
 * no mount of this process is left; as the C library has it, code may stay in memory longer.
 *
 * Structures begin with their size, which the caller sets to sizeof, so that later versions can
 * add fields at their end. Set all other fields of options to 0 first: that is the default of
 * each. An option or a flag that the library is too old to know is PUZZLEFS_ERR_UNSUPPORTED; a
 * result that it is too old to know is 0.
 *
 * This file is generated from src/capi.
 */


#ifndef PUZZLEFS_H
#define PUZZLEFS_H

#include <stddef.h>
#include <stdint.h>

/** The version of this header; `puzzlefs_version` is that of the library that runs. */
#define PUZZLEFS_VERSION "0.1.0"
#define PUZZLEFS_VERSION_MAJOR 0
#define PUZZLEFS_VERSION_MINOR 1
#define PUZZLEFS_VERSION_PATCH 0

/** Whether this header is of that version or a later one: for `#if`. */
#define PUZZLEFS_VERSION_AT_LEAST(major, minor, patch)                                             \
  (PUZZLEFS_VERSION_MAJOR != (major)   ? PUZZLEFS_VERSION_MAJOR > (major)                          \
   : PUZZLEFS_VERSION_MINOR != (minor) ? PUZZLEFS_VERSION_MINOR > (minor)                          \
                                       : PUZZLEFS_VERSION_PATCH >= (patch))

/**
 * What a function returns: `PUZZLEFS_OK`, or what kind of thing went wrong, which is what a
 * program decides by. All errors are negative. A later version may return others than these.
 */
enum puzzlefs_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Done.
   */
  PUZZLEFS_OK = 0,
  /**
   * An argument or an option makes no sense, whatever is on disk.
   */
  PUZZLEFS_ERR_INVALID_INPUT = -1,
  /**
   * A path, layout, tag or blob that was asked for is not there.
   */
  PUZZLEFS_ERR_NOT_FOUND = -2,
  /**
   * Something is in the way, such as a folder that is not empty.
   */
  PUZZLEFS_ERR_ALREADY_EXISTS = -3,
  /**
   * The system refused access.
   */
  PUZZLEFS_ERR_PERMISSION_DENIED = -4,
  /**
   * Data in a layout or an image is not what its format or its digest says.
   */
  PUZZLEFS_ERR_CORRUPT = -5,
  /**
   * Well-formed, but unknown to this library: an image of a newer version, an option or a flag
   * of a newer header.
   */
  PUZZLEFS_ERR_UNSUPPORTED = -6,
  /**
   * The source changed while it was read, or the target while it was written.
   */
  PUZZLEFS_ERR_CHANGED = -7,
  /**
   * The file system is full, or a quota is used up.
   */
  PUZZLEFS_ERR_NO_SPACE = -8,
  /**
   * A function of the caller asked to stop.
   */
  PUZZLEFS_ERR_CANCELLED = -9,
  /**
   * Another failure of the system.
   */
  PUZZLEFS_ERR_IO = -10,
  /**
   * A defect of this library.
   */
  PUZZLEFS_ERR_INTERNAL = -11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_status puzzlefs_status;
#else
typedef int32_t puzzlefs_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a long piece of work is doing. A later version may have others than these.
 */
enum puzzlefs_stage
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Reading the directories of the source; counted in directories, without a total.
   */
  PUZZLEFS_STAGE_SCAN = 1,
  /**
   * Reading the files of the source and storing their content; counted in bytes.
   */
  PUZZLEFS_STAGE_STORE = 2,
  /**
   * Writing files out; counted in bytes.
   */
  PUZZLEFS_STAGE_EXTRACT = 3,
  /**
   * Checking digests; counted in bytes.
   */
  PUZZLEFS_STAGE_CHECK = 4,
  /**
   * Comparing the files of the source with the base's; counted in bytes.
   */
  PUZZLEFS_STAGE_COMPARE = 5,
  /**
   * Reading the layers of an ordinary image; counted in bytes as they are stored.
   */
  PUZZLEFS_STAGE_UNPACK = 6,
  /**
   * Deleting what nothing refers to; counted in blobs looked at.
   */
  PUZZLEFS_STAGE_DELETE = 7,
  /**
   * Waiting for somebody else who locks the layout; nothing is counted.
   */
  PUZZLEFS_STAGE_WAIT = 8,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_stage puzzlefs_stage;
#else
typedef uint32_t puzzlefs_stage;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How a path distinguishes two images. A later version may have others than these.
 */
enum puzzlefs_change_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Only the other image has the path.
   */
  PUZZLEFS_CHANGE_ADDED = 1,
  /**
   * Only the image has the path.
   */
  PUZZLEFS_CHANGE_REMOVED = 2,
  /**
   * Both have the path, with differences.
   */
  PUZZLEFS_CHANGE_CHANGED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_change_kind puzzlefs_change_kind;
#else
typedef uint32_t puzzlefs_change_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How bad a finding is. A later version may have others than these.
 */
enum puzzlefs_severity
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Something is lost or cannot be trusted.
   */
  PUZZLEFS_SEVERITY_ERROR = 1,
  /**
   * Something is not as it should be, but everything can be read.
   */
  PUZZLEFS_SEVERITY_WARNING = 2,
  /**
   * Something was lost or damaged, and has been repaired.
   */
  PUZZLEFS_SEVERITY_REPAIRED = 3,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_severity puzzlefs_severity;
#else
typedef uint32_t puzzlefs_severity;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `aspects` in `puzzlefs_change`: what of a path is another one. A later version may have
 * others than these.
 */
enum puzzlefs_aspects
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Its type. Then neither content, target nor device are compared.
   */
  PUZZLEFS_ASPECT_TYPE = (1 << 0),
  /**
   * A file's content: certainly if its size differs, else it stands elsewhere, which it does
   * seldom if it is the same.
   */
  PUZZLEFS_ASPECT_CONTENT = (1 << 1),
  /**
   * A symbolic link's target.
   */
  PUZZLEFS_ASPECT_TARGET = (1 << 2),
  /**
   * A device's numbers.
   */
  PUZZLEFS_ASPECT_DEVICE = (1 << 3),
  /**
   * The permissions.
   */
  PUZZLEFS_ASPECT_MODE = (1 << 4),
  /**
   * The owner or the group.
   */
  PUZZLEFS_ASPECT_OWNER = (1 << 5),
  /**
   * The mtime.
   */
  PUZZLEFS_ASPECT_TIME = (1 << 6),
  /**
   * The extended attributes.
   */
  PUZZLEFS_ASPECT_XATTR = (1 << 7),
  /**
   * Which other paths are links to the same file.
   */
  PUZZLEFS_ASPECT_LINKS = (1 << 8),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_aspects puzzlefs_aspects;
#else
typedef uint64_t puzzlefs_aspects;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` in `puzzlefs_build_options`.
 */
enum puzzlefs_build_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * `compression_level` is given.
   */
  PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL = (1 << 0),
  /**
   * `uid` and `gid` are given.
   */
  PUZZLEFS_BUILD_HAS_OWNER = (1 << 1),
  /**
   * `clamp_mtime` is given.
   */
  PUZZLEFS_BUILD_HAS_CLAMP_MTIME = (1 << 2),
  /**
   * `created` is given.
   */
  PUZZLEFS_BUILD_HAS_CREATED = (1 << 3),
  /**
   * A directory on which another file system is mounted stays empty; means nothing where an
   * image is canonicalized or converted.
   */
  PUZZLEFS_BUILD_ONE_FILE_SYSTEM = (1 << 4),
  /**
   * `security.selinux`, which belongs to the host, is kept.
   */
  PUZZLEFS_BUILD_SELINUX = (1 << 5),
  /**
   * `puzzlefs_build` only: a file whose type, size, mode, owner and mtime are those of the
   * base's file of the same path is taken for it unread. Refused where times mean nothing.
   */
  PUZZLEFS_BUILD_TRUST_MTIME = (1 << 6),
  /**
   * The digests of all of the base's data blobs are checked first.
   */
  PUZZLEFS_BUILD_VERIFY_BASE = (1 << 7),
  /**
   * `puzzlefs_convert` only: all layers become one step, so that metadata and data are those
   * that `puzzlefs_build` of the unpacked image would give.
   */
  PUZZLEFS_BUILD_SQUASH = (1 << 8),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_build_flags puzzlefs_build_flags;
#else
typedef uint64_t puzzlefs_build_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How data is compressed.
 */
enum puzzlefs_compression
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * With Zstandard, where that makes the data smaller.
   */
  PUZZLEFS_COMPRESSION_ZSTD = 0,
  /**
   * Not at all.
   */
  PUZZLEFS_COMPRESSION_NONE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_compression puzzlefs_compression;
#else
typedef uint32_t puzzlefs_compression;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` in `puzzlefs_config_options`.
 */
enum puzzlefs_config_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * `created` is given.
   */
  PUZZLEFS_CONFIG_HAS_CREATED = (1 << 0),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_config_flags puzzlefs_config_flags;
#else
typedef uint64_t puzzlefs_config_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How data is cut into blobs.
 */
enum puzzlefs_data_layout
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Many chunks a blob: few blobs, which registries and tools copy fast.
   */
  PUZZLEFS_DATA_LAYOUT_PACKS = 0,
  /**
   * A blob a chunk, as the reference implementation has it.
   */
  PUZZLEFS_DATA_LAYOUT_BLOB_PER_CHUNK = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_data_layout puzzlefs_data_layout;
#else
typedef uint32_t puzzlefs_data_layout;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` in `puzzlefs_extract_options`.
 */
enum puzzlefs_extract_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Everything is made the caller's own.
   */
  PUZZLEFS_EXTRACT_NO_SAME_OWNER = (1 << 0),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_extract_flags puzzlefs_extract_flags;
#else
typedef uint64_t puzzlefs_extract_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` in `puzzlefs_gc_options`.
 */
enum puzzlefs_gc_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * `grace` is given.
   */
  PUZZLEFS_GC_HAS_GRACE = (1 << 0),
  /**
   * Nothing is deleted, only told.
   */
  PUZZLEFS_GC_DRY_RUN = (1 << 1),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_gc_flags puzzlefs_gc_flags;
#else
typedef uint64_t puzzlefs_gc_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` of `puzzlefs_image_lookup`.
 */
enum puzzlefs_lookup_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * A symbolic link at the end of the path is not followed.
   */
  PUZZLEFS_LOOKUP_NOFOLLOW = (1 << 0),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_lookup_flags puzzlefs_lookup_flags;
#else
typedef uint64_t puzzlefs_lookup_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Which extended attributes of an upperdir are the overlay's own.
 */
enum puzzlefs_marks
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Those in the namespace that is met first; both in one upperdir are an error.
   */
  PUZZLEFS_MARKS_AUTO = 0,
  /**
   * `trusted.overlay.*`
   */
  PUZZLEFS_MARKS_TRUSTED = 1,
  /**
   * `user.overlay.*`, as of an overlay mounted with `userxattr`.
   */
  PUZZLEFS_MARKS_USER = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_marks puzzlefs_marks;
#else
typedef uint32_t puzzlefs_marks;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` in `puzzlefs_mount_options`.
 */
enum puzzlefs_mount_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Other users may look into the mount, as is the default if root mounts. An ordinary user may
   * allow that only where `/etc/fuse.conf` says so. Then permissions are checked.
   */
  PUZZLEFS_MOUNT_ALLOW_OTHER = (1 << 0),
  /**
   * Nobody but who mounts may look into the mount, also if that is root.
   */
  PUZZLEFS_MOUNT_OWNER_ONLY = (1 << 1),
  /**
   * The kernel checks permissions as everywhere. Else whoever may look into the mount may read
   * everything in it.
   */
  PUZZLEFS_MOUNT_DEFAULT_PERMISSIONS = (1 << 2),
  /**
   * Set-user-ID and set-group-ID bits and capabilities have no effect. Always so where an
   * ordinary user mounts.
   */
  PUZZLEFS_MOUNT_NOSUID = (1 << 3),
  /**
   * Devices cannot be opened. Always so where an ordinary user mounts.
   */
  PUZZLEFS_MOUNT_NODEV = (1 << 4),
  /**
   * No program can be executed.
   */
  PUZZLEFS_MOUNT_NOEXEC = (1 << 5),
  /**
   * The mount can be written to, by overlayfs over the image: into memory, or where `persist`
   * says. For root, or in a user namespace.
   */
  PUZZLEFS_MOUNT_WRITABLE = (1 << 6),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_mount_flags puzzlefs_mount_flags;
#else
typedef uint64_t puzzlefs_mount_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` in `puzzlefs_open_options`.
 */
enum puzzlefs_open_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * The digests of data blobs are not checked. Else each is, when it is first read from. Those
   * of manifest, configuration and metadata always are.
   */
  PUZZLEFS_OPEN_NO_VERIFY = (1 << 0),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_open_flags puzzlefs_open_flags;
#else
typedef uint64_t puzzlefs_open_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Bits of `flags` of `puzzlefs_mount_unmount` and `puzzlefs_unmount`.
 */
enum puzzlefs_unmount_flags
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : uint64_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  /**
   * Though it is in use: it is gone at once for all who have nothing open in it, and over when
   * the last one has closed it.
   */
  PUZZLEFS_UNMOUNT_LAZY = (1 << 0),
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum puzzlefs_unmount_flags puzzlefs_unmount_flags;
#else
typedef uint64_t puzzlefs_unmount_flags;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Why a function failed: status, the system's error number, a message, a path.
 *
 * Every function that can fail has a last parameter `puzzlefs_error **error`, which may be NULL.
 * What `*error` held before is not looked at. When the function fails, `*error` is a new error,
 * which the caller frees with `puzzlefs_error_free`; when not, it is NULL.
 *
 * An error never changes: several threads may read one.
 */
typedef struct puzzlefs_error puzzlefs_error;

/**
 * What a check found. It never changes: several threads may read one at once.
 */
typedef struct puzzlefs_fsck_report puzzlefs_fsck_report;

/**
 * An open image: a file system to be read.
 *
 * Its metadata is in memory; data blobs are opened when they are needed. It never changes,
 * whatever becomes of the tag by which it was opened, so that several threads may use one at
 * once.
 */
typedef struct puzzlefs_image puzzlefs_image;

/**
 * A mounted image.
 *
 * It is served by threads of this process as long as it is mounted: by whoever has the handle, or
 * until somebody else unmounts it.
 */
typedef struct puzzlefs_mount puzzlefs_mount;

/**
 * How far a long piece of work is.
 */
typedef struct puzzlefs_progress {
  /**
   * The size of this structure in the library that runs: fields beyond it are not there.
   */
  size_t size;
  /**
   * How much is done, in the stage's unit.
   */
  uint64_t done;
  /**
   * How much there is, in the stage's unit; 0 if that is not known.
   */
  uint64_t total;
  /**
   * What is being done.
   */
  puzzlefs_stage stage;
  /**
   * 0.
   */
  uint32_t reserved;
} puzzlefs_progress;

/**
 * A function of the caller that is told of progress, many times a second.
 *
 * Parameters:
 * - `progress`: how far the work is, valid during the call only.
 * - `data`: the `data` of the options.
 *
 * Returns 0 to go on. Anything else stops the work, which undoes what it did, and fails with
 * `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: it may be called from threads of the library, never from two at once, and not after
 * the function has returned that was given it. The work waits for it, so it may be slow. It may
 * call the library, but nothing that would wait for the work: not `puzzlefs_gc` on a layout that the
 * work writes to, and nothing that writes to a layout of which `puzzlefs_gc` tells it. It must return: no `longjmp`, no C++ exception may leave it.
 */
typedef int (*puzzlefs_progress_fn)(const struct puzzlefs_progress *progress, void *data);

/**
 * How an image is built. Zeros, but for `size`, are the defaults. A number that a flag must
 * announce is refused without it.
 *
 * Strings are UTF-8. All of it is the caller's, and used during the call only.
 */
typedef struct puzzlefs_build_options {
  /**
   * `sizeof(puzzlefs_build_options)`.
   */
  size_t size;
  /**
   * Bits of `puzzlefs_build_flags`.
   */
  uint64_t flags;
  /**
   * Patterns of what is left out, with NULL behind the last; NULL for none. One without a
   * slash matches a name at any depth, one with a slash matches a path from the root of the
   * tree; `*` does not match a slash, `**` does. What is below a directory that is left out
   * is left out too.
   */
  const char *const *exclude;
  /**
   * The manifest's annotations: a key, its value, the next key, its value, and so on, with
   * NULL behind the last; NULL for none. Of a key that occurs twice, the last value counts.
   */
  const char *const *annotations;
  /**
   * An OCI image configuration to start from, as JSON: all of it is kept but its layers and
   * history. It need not end with a NUL. NULL for none.
   */
  const uint8_t *config;
  /**
   * The length of `config` in bytes.
   */
  size_t config_length;
  /**
   * The image to start from, as `LAYOUT:TAG` or `LAYOUT@sha256:HEX`; it may be in another
   * layout. Its configuration, history and annotations are carried on. NULL for none; must be
   * given to `puzzlefs_delta`, and not to `puzzlefs_canonicalize` and `puzzlefs_convert`.
   */
  const char *base;
  /**
   * Which image, where the base, or the image that is canonicalized or converted, is that of an
   * index: `OS/ARCHITECTURE[/VARIANT]`; NULL for this machine's, or the only one.
   */
  const char *platform;
  /**
   * The image's architecture, as Go's GOARCH; NULL for the one of `config`, else of the image
   * that it is made of, else this machine's.
   */
  const char *architecture;
  /**
   * The image's operating system, as Go's GOOS; NULL for the one of `config`, else of the image
   * that it is made of, else `linux`.
   */
  const char *os;
  /**
   * Who made the image; NULL for the one of `config`, else nobody.
   */
  const char *author;
  /**
   * What made the image, for its history; NULL for `puzzlefs build`, `puzzlefs delta` and so
   * on.
   */
  const char *created_by;
  /**
   * A remark for the image's history; NULL for none.
   */
  const char *comment;
  /**
   * When the image was created, in seconds since 1970, if `PUZZLEFS_BUILD_HAS_CREATED`; else
   * the environment's `SOURCE_DATE_EPOCH`, else what an ordinary image that is converted says,
   * else the newest mtime in the tree.
   */
  int64_t created;
  /**
   * The newest mtime, in seconds since 1970, if `PUZZLEFS_BUILD_HAS_CLAMP_MTIME`: what is
   * newer gets this one.
   */
  int64_t clamp_mtime;
  /**
   * The owner of everything, if `PUZZLEFS_BUILD_HAS_OWNER`; else the ones on disk.
   */
  uint32_t uid;
  /**
   * The group of everything, if `PUZZLEFS_BUILD_HAS_OWNER`; else the ones on disk.
   */
  uint32_t gid;
  /**
   * The mean size of packs in bytes, a power of two from 1 to 32 MiB; 0 for one that fits the
   * size of the tree, or the base's if that is larger.
   */
  uint64_t pack_size;
  /**
   * One of `puzzlefs_compression`.
   */
  uint32_t compression;
  /**
   * Zstandard's level, from -7 to 22, if `PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL`; else 3.
   */
  int32_t compression_level;
  /**
   * One of `puzzlefs_data_layout`.
   */
  uint32_t data_layout;
  /**
   * One of `puzzlefs_marks`, for `puzzlefs_delta` only.
   */
  uint32_t marks;
  /**
   * How many threads read and how many compress, from 1 to 256; 0 for the number of cores,
   * up to 16.
   */
  uint32_t threads;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Is told of progress, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *data;
  /**
   * How many bytes of memory the build may take, besides what the process has; 0 for no limit.
   * With little of it fewer threads work, on less at once; the image is the same. If it needs
   * more in any case, that is `PUZZLEFS_ERR_INVALID_INPUT`, with a message that tells how much.
   */
  uint64_t memory_limit;
} puzzlefs_build_options;

/**
 * What was built. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_build_result {
  /**
   * `sizeof(puzzlefs_build_result)`.
   */
  size_t size;
  /**
   * The digest of the image's manifest: `sha256:` and 64 digits of 0-9a-f. The manifest's media
   * type is `application/vnd.oci.image.manifest.v1+json`.
   */
  char digest[72];
  /**
   * The fs-verity digest of the image's manifest: 64 digits of 0-9a-f.
   */
  char verity[72];
  /**
   * The size of the image's manifest in bytes.
   */
  uint64_t manifest_size;
  /**
   * Inodes in the image.
   */
  uint64_t inodes;
  /**
   * Regular files in the image.
   */
  uint64_t files;
  /**
   * Layers of the manifest: the rootfs and the data blobs.
   */
  uint64_t layers;
  /**
   * Chunks that the files consist of.
   */
  uint64_t chunks;
  /**
   * Chunks among them that were seen for the first time.
   */
  uint64_t new_chunks;
  /**
   * The sum of the files' sizes in bytes.
   */
  uint64_t bytes_tree;
  /**
   * Bytes read from the files: less than their sizes where they have holes.
   */
  uint64_t bytes_read;
  /**
   * Bytes of the new chunks.
   */
  uint64_t bytes_new;
  /**
   * Regular files that hold what the base's file of the same path holds.
   */
  uint64_t unchanged_files;
  /**
   * Bytes that were stored anew of the base's packs, of which little was used, or which were
   * small and too many.
   */
  uint64_t bytes_moved;
  /**
   * Bytes of the base's blobs that were copied from its layout.
   */
  uint64_t bytes_copied;
  /**
   * Bytes of the blobs that were written, copied ones among them.
   */
  uint64_t bytes_stored;
  /**
   * Bytes of the blobs that the layout had before.
   */
  uint64_t bytes_shared;
  /**
   * Bytes of the metadata.
   */
  uint64_t bytes_metadata;
} puzzlefs_build_result;

/**
 * What of a configuration is changed. Zeros, but for `size`, leave everything as it is. A number
 * that a flag must announce is refused without it.
 *
 * Strings are UTF-8. All of it is the caller's, and used during the call only.
 */
typedef struct puzzlefs_config_options {
  /**
   * `sizeof(puzzlefs_config_options)`.
   */
  size_t size;
  /**
   * Bits of `puzzlefs_config_flags`.
   */
  uint64_t flags;
  /**
   * The tag under which the result is stored; NULL for the image's own.
   */
  const char *tag;
  /**
   * Which image, where the tag is that of an index: `OS/ARCHITECTURE[/VARIANT]`; NULL for this
   * machine's, or the only one.
   */
  const char *platform;
  /**
   * What is cleared before anything is set, with NULL behind the last: `config.cmd`,
   * `config.entrypoint`, `config.env`, `config.exposedports`, `config.labels`,
   * `config.stopsignal`, `config.user`, `config.volume`, `config.workingdir`,
   * `manifest.annotations`; NULL for nothing.
   */
  const char *const *clear;
  /**
   * What is executed, with NULL behind the last argument; NULL leaves it as it is.
   */
  const char *const *entrypoint;
  /**
   * The arguments to the entry point, with NULL behind the last; NULL leaves them as they are.
   */
  const char *const *cmd;
  /**
   * Variables of the environment to be set, as `NAME=VALUE`, with NULL behind the last; NULL
   * for none.
   */
  const char *const *env;
  /**
   * Labels to be set: a key, its value, the next key, its value, and so on, with NULL behind
   * the last; NULL for none.
   */
  const char *const *labels;
  /**
   * Volumes to be added: paths, with NULL behind the last; NULL for none.
   */
  const char *const *volumes;
  /**
   * Ports to be added, as `PORT`, `PORT/tcp` or `PORT/udp`, with NULL behind the last; NULL for
   * none.
   */
  const char *const *exposed_ports;
  /**
   * The manifest's annotations to be set, as `labels`.
   */
  const char *const *annotations;
  /**
   * The user, as `USER[:GROUP]`, by names or numbers; NULL leaves it as it is.
   */
  const char *user;
  /**
   * The working directory; NULL leaves it as it is.
   */
  const char *working_dir;
  /**
   * The signal that stops a container; NULL leaves it as it is.
   */
  const char *stop_signal;
  /**
   * An OCI image configuration to start from instead of the image's, as JSON; the history stays
   * the image's. It need not end with a NUL. NULL for none.
   */
  const uint8_t *config;
  /**
   * The length of `config` in bytes.
   */
  size_t config_length;
  /**
   * The image's architecture, as Go's GOARCH; NULL leaves it as it is.
   */
  const char *architecture;
  /**
   * The image's operating system, as Go's GOOS; NULL leaves it as it is.
   */
  const char *os;
  /**
   * Who made the image; NULL leaves it as it is.
   */
  const char *author;
  /**
   * What made the change, for the history; NULL for `puzzlefs config`.
   */
  const char *created_by;
  /**
   * A remark for the history; NULL for none.
   */
  const char *comment;
  /**
   * When the change was made, in seconds since 1970, if `PUZZLEFS_CONFIG_HAS_CREATED`; else the
   * environment's `SOURCE_DATE_EPOCH`, else when the image was created.
   */
  int64_t created;
  /**
   * Is told while others lock the layout, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *data;
} puzzlefs_config_options;

/**
 * What came out. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_config_result {
  /**
   * `sizeof(puzzlefs_config_result)`.
   */
  size_t size;
  /**
   * The digest of the new manifest: `sha256:` and 64 digits of 0-9a-f.
   */
  char digest[72];
  /**
   * The fs-verity digest of the new manifest: 64 digits of 0-9a-f.
   */
  char verity[72];
  /**
   * The size of the new manifest in bytes.
   */
  uint64_t manifest_size;
} puzzlefs_config_result;

/**
 * A path that distinguishes two images.
 */
typedef struct puzzlefs_change {
  /**
   * The size of this structure in the library that runs: fields beyond it are not there.
   */
  size_t size;
  /**
   * The path in the images, with a slash at its begin: any bytes but NUL, and longer than
   * `PATH_MAX` if the images say so.
   */
  const char *path;
  /**
   * The length of the path in bytes.
   */
  size_t path_length;
  /**
   * Bits of `puzzlefs_aspects`, if `kind` is `PUZZLEFS_CHANGE_CHANGED`; else 0.
   */
  uint64_t aspects;
  /**
   * How it distinguishes them.
   */
  puzzlefs_change_kind kind;
  /**
   * 0.
   */
  uint32_t reserved;
} puzzlefs_change;

/**
 * A function of the caller that is told what distinguishes two images, once for each path, in the
 * order of a walk that is depth first and by name.
 *
 * Parameters:
 * - `change`: the path and how it differs, valid during the call only.
 * - `data`: the `data` of `puzzlefs_image_diff`.
 *
 * Returns 0 to go on. With anything else it is called no more, and `puzzlefs_image_diff` fails with
 * `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: it is called from the thread that called the library, before that call returns. It may
 * call the library. It must return: no `longjmp`, no C++ exception may leave it.
 */
typedef int (*puzzlefs_change_fn)(const struct puzzlefs_change *change, void *data);

/**
 * What an image adds to another one. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_diff_result {
  /**
   * `sizeof(puzzlefs_diff_result)`.
   */
  size_t size;
  /**
   * Data blobs that only the other image has.
   */
  uint64_t blobs;
  /**
   * Bytes of these blobs as they are stored.
   */
  uint64_t bytes_data;
  /**
   * Bytes of the other image's metadata, unless the image has the same.
   */
  uint64_t bytes_metadata;
} puzzlefs_diff_result;

/**
 * How an image is exported. Zeros, but for `size`, are the defaults.
 */
typedef struct puzzlefs_export_options {
  /**
   * `sizeof(puzzlefs_export_options)`.
   */
  size_t size;
  /**
   * Is told of progress, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *data;
} puzzlefs_export_options;

/**
 * What was exported. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_export_result {
  /**
   * `sizeof(puzzlefs_export_result)`.
   */
  size_t size;
  /**
   * Entries in the archive.
   */
  uint64_t entries;
  /**
   * Bytes of the files.
   */
  uint64_t bytes;
  /**
   * Sockets, which no archive can hold, and which were left out.
   */
  uint64_t sockets;
} puzzlefs_export_result;

/**
 * Something that was not restored: for want of privileges, or since a program's owner is another one
 * than in the image.
 */
typedef struct puzzlefs_lost {
  /**
   * The size of this structure in the library that runs: fields beyond it are not there.
   */
  size_t size;
  /**
   * What it is: `owner`, `device`, `set-user-ID or set-group-ID`, or the name of an extended
   * attribute.
   */
  const char *what;
  /**
   * The path in the image of the inode with the lowest number that lost it: any bytes but NUL.
   */
  const char *first;
  /**
   * How many inodes lost it.
   */
  uint64_t count;
} puzzlefs_lost;

/**
 * A function of the caller that is told what could not be restored, once for each `what`, in the
 * order of their bytes.
 *
 * Parameters:
 * - `lost`: what it is, valid during the call only, with its strings.
 * - `data`: the `data` of the options.
 *
 * Threads: it is called from the thread that called the library, before that call returns. No
 * `longjmp`, no C++ exception may leave it.
 */
typedef void (*puzzlefs_lost_fn)(const struct puzzlefs_lost *lost, void *data);

/**
 * How an image is extracted. Zeros, but for `size`, are the defaults.
 */
typedef struct puzzlefs_extract_options {
  /**
   * `sizeof(puzzlefs_extract_options)`.
   */
  size_t size;
  /**
   * Bits of `puzzlefs_extract_flags`.
   */
  uint64_t flags;
  /**
   * How many threads write files; 0 for the number of cores, up to 16.
   */
  uint32_t threads;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Is told of progress, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Is told what could not be restored; NULL for nobody.
   */
  puzzlefs_lost_fn lost;
  /**
   * Passed to `progress` and `lost`.
   */
  void *data;
} puzzlefs_extract_options;

/**
 * What was extracted. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_extract_result {
  /**
   * `sizeof(puzzlefs_extract_result)`.
   */
  size_t size;
  /**
   * Inodes of the image.
   */
  uint64_t inodes;
  /**
   * The sum of the files' sizes in bytes.
   */
  uint64_t bytes;
  /**
   * How many kinds of things could not be restored: how often `lost` was called, or would have
   * been.
   */
  uint64_t lost;
} puzzlefs_extract_result;

/**
 * How a layout is checked. Zeros, but for `size`, are the defaults.
 */
typedef struct puzzlefs_fsck_options {
  /**
   * `sizeof(puzzlefs_fsck_options)`.
   */
  size_t size;
  /**
   * 0: there are no flags yet.
   */
  uint64_t flags;
  /**
   * Is told of progress, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *data;
  /**
   * Layouts, with NULL behind the last, from which good copies of missing and damaged blobs are
   * taken, the first that has one. NULL or none: nothing is repaired.
   */
  const char *const *repair_from;
} puzzlefs_fsck_options;

/**
 * What a check found, in numbers. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_fsck_summary {
  /**
   * `sizeof(puzzlefs_fsck_summary)`.
   */
  size_t size;
  /**
   * How many findings there are.
   */
  uint64_t findings;
  /**
   * How many of them are errors, which are the first: 0 if everything can be read and trusted.
   */
  uint64_t errors;
  /**
   * Images checked.
   */
  uint64_t images;
  /**
   * Blobs checked.
   */
  uint64_t blobs;
  /**
   * Bytes of these blobs.
   */
  uint64_t bytes;
  /**
   * Blobs of the layout that no image refers to. One that is damaged is a warning: a build may
   * find it and rely on it.
   */
  uint64_t unreferenced;
} puzzlefs_fsck_summary;

/**
 * Something that is wrong, or was. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_finding {
  /**
   * `sizeof(puzzlefs_finding)`.
   */
  size_t size;
  /**
   * What is wrong, in one line of UTF-8: a string that belongs to the report and goes with it.
   */
  const char *message;
  /**
   * The tags of the images that it hurts, with NULL behind the last; an image without a tag, or
   * with one of more than 128 bytes, is named by its digest. All of it belongs to the report and
   * goes with it. Findings that hurt the same images may have the same list, which may be long.
   */
  const char *const *tags;
  /**
   * How many tags these are.
   */
  size_t tag_count;
  /**
   * How bad it is.
   */
  puzzlefs_severity severity;
  /**
   * 0.
   */
  uint32_t reserved;
} puzzlefs_finding;

/**
 * How an image is opened. Zeros, but for `size`, are the defaults.
 */
typedef struct puzzlefs_open_options {
  /**
   * `sizeof(puzzlefs_open_options)`.
   */
  size_t size;
  /**
   * Bits of `puzzlefs_open_flags`.
   */
  uint64_t flags;
  /**
   * Which image, where the tag is that of an index: `OS/ARCHITECTURE[/VARIANT]`; NULL for this
   * machine's, or the only one.
   */
  const char *platform;
} puzzlefs_open_options;

/**
 * What is known of an inode, as `stat(2)` tells it. The caller sets `size`, and the library fills
 * in the rest.
 */
typedef struct puzzlefs_stat {
  /**
   * `sizeof(puzzlefs_stat)`.
   */
  size_t size;
  /**
   * The number of the inode.
   */
  uint64_t ino;
  /**
   * The number of its names; for a directory, two and the number of its subdirectories.
   */
  uint64_t nlink;
  /**
   * The size of a regular file, or the length of a symbolic link's target, in bytes; else 0.
   */
  uint64_t file_size;
  /**
   * The time of the last change of the content, in seconds since 1970.
   */
  int64_t mtime_seconds;
  /**
   * The nanoseconds of that time, from 0 to 999,999,999: also before 1970, they count forward.
   */
  uint32_t mtime_nanoseconds;
  /**
   * The type and the permissions, as `st_mode` has them: `S_IFREG`, `S_IFDIR` and so on.
   */
  uint32_t mode;
  /**
   * The owner.
   */
  uint32_t uid;
  /**
   * The group.
   */
  uint32_t gid;
  /**
   * The device's driver, if the inode is a device; else 0.
   */
  uint32_t rdev_major;
  /**
   * The device among the driver's, if the inode is a device; else 0.
   */
  uint32_t rdev_minor;
} puzzlefs_stat;

/**
 * An entry of a directory. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_dirent {
  /**
   * `sizeof(puzzlefs_dirent)`.
   */
  size_t size;
  /**
   * The number of the inode that it names; 0 if there is no such entry, which no inode has.
   */
  uint64_t ino;
  /**
   * The inode's type and permissions, as in `puzzlefs_stat`.
   */
  uint32_t mode;
  /**
   * The length of the name in bytes: 1 to 255.
   */
  uint32_t name_length;
  /**
   * The name: any bytes but NUL and `/`, with a NUL behind the last.
   */
  char name[256];
} puzzlefs_dirent;

/**
 * An extended attribute. The caller sets `size`, and the library fills in the rest.
 */
typedef struct puzzlefs_xattr {
  /**
   * `sizeof(puzzlefs_xattr)`.
   */
  size_t size;
  /**
   * The value: any bytes, without a NUL behind the last. It belongs to the image and goes with
   * it. NULL if there is no such attribute.
   */
  const uint8_t *value;
  /**
   * The length of the value in bytes, which may be 0.
   */
  size_t value_length;
  /**
   * The length of the name in bytes: 1 to 255.
   */
  size_t name_length;
  /**
   * The full name with its namespace, such as `user.mime_type`: any bytes but NUL, with a NUL
   * behind the last.
   */
  char name[256];
} puzzlefs_xattr;

/**
 * How a tag is set or taken away. Zeros, but for `size`, are the defaults.
 */
typedef struct puzzlefs_tag_options {
  /**
   * `sizeof(puzzlefs_tag_options)`.
   */
  size_t size;
  /**
   * 0: there are no flags yet.
   */
  uint64_t flags;
  /**
   * Is told while others lock the layout, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *data;
} puzzlefs_tag_options;

/**
 * What is deleted. Zeros, but for `size`, are the defaults. A number that a flag must announce is
 * refused without it.
 */
typedef struct puzzlefs_gc_options {
  /**
   * `sizeof(puzzlefs_gc_options)`.
   */
  size_t size;
  /**
   * Bits of `puzzlefs_gc_flags`.
   */
  uint64_t flags;
  /**
   * How old a blob must be, in seconds, if `PUZZLEFS_GC_HAS_GRACE`; else an hour. Other tools
   * put blobs into a layout before they refer to them.
   */
  uint64_t grace;
  /**
   * Is told of progress, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *data;
} puzzlefs_gc_options;

/**
 * A function of the caller that is told what goes wrong in a mount, such as a file that cannot be
 * read since a data blob is damaged.
 *
 * Parameters:
 * - `line`: what it is, in one line: UTF-8, valid during the call only.
 * - `data`: the `data` of the options.
 *
 * Threads: it is called from threads of the library, from several at once, until
 * `puzzlefs_mount_free` has returned. Who reads the mount waits for it, so it must not read there
 * itself. No `longjmp`, no C++ exception may leave it.
 */
typedef void (*puzzlefs_log_fn)(const char *line, void *data);

/**
 * A function of the caller that is told when a mount is over though nobody asked for that by its
 * handle: somebody else has unmounted it.
 *
 * Parameters:
 * - `data`: the `data` of the options.
 *
 * Threads: it is called once, from a thread of the library, before `puzzlefs_mount_free` returns,
 * or never. It may free the handle. No `longjmp`, no C++ exception may leave it.
 */
typedef void (*puzzlefs_ended_fn)(void *data);

/**
 * How an image is mounted. Zeros, but for `size`, are the defaults.
 */
typedef struct puzzlefs_mount_options {
  /**
   * `sizeof(puzzlefs_mount_options)`.
   */
  size_t size;
  /**
   * Bits of `puzzlefs_mount_flags`.
   */
  uint64_t flags;
  /**
   * The directory that keeps what is written, in its subdirectory `upper`, which the next mount
   * finds again; it is made if it is not there. Only with `PUZZLEFS_MOUNT_WRITABLE`; NULL for
   * memory.
   */
  const char *persist;
  /**
   * How owners are shown: `INSIDE:OUTSIDE:COUNT`, several with `+` between them, as
   * `/proc/PID/uid_map` has it; NULL for as they are.
   */
  const char *uid_map;
  /**
   * How groups are shown, likewise.
   */
  const char *gid_map;
  /**
   * What is shown as mounted: any bytes; NULL for the layout and the digest.
   */
  const char *source;
  /**
   * How many threads answer the kernel; 0 for the number of cores, up to 4. As many again read
   * ahead.
   */
  uint32_t threads;
  /**
   * 0.
   */
  uint32_t reserved;
  /**
   * Is told what goes wrong; NULL for nobody.
   */
  puzzlefs_log_fn log;
  /**
   * Is told when it is over; NULL for nobody.
   */
  puzzlefs_ended_fn ended;
  /**
   * Passed to `log` and `ended`.
   */
  void *data;
} puzzlefs_mount_options;

/**
 * How an image is checked. Zeros, but for `size`, are the defaults.
 */
typedef struct puzzlefs_check_options {
  /**
   * `sizeof(puzzlefs_check_options)`.
   */
  size_t size;
  /**
   * Is told of progress, and may cancel; NULL for nobody.
   */
  puzzlefs_progress_fn progress;
  /**
   * Passed to `progress`.
   */
  void *data;
} puzzlefs_check_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that runs, such as `0.1.0`: a static string.
 *
 * Threads: any.
 *
 * ```c
 * printf("libpuzzlefs %s\n", puzzlefs_version());
 * ```
 */
const char *puzzlefs_version(void);

/**
 * Frees a string that the library gave to the caller.
 *
 * Parameters:
 * - `string`: one that a function gave whose documentation says so, such as
 *   `puzzlefs_image_inspect`, to be freed once; NULL is fine. Not one that belongs to a handle.
 *
 * Threads: any.
 *
 * ```c
 * char *json;
 * if (puzzlefs_image_inspect(image, &json, NULL) == PUZZLEFS_OK) {
 *     puts(json);
 *     puzzlefs_string_free(json);
 * }
 * ```
 */
void puzzlefs_string_free(char *string);

/**
 * Builds an image of a directory and stores it under a tag of an OCI image layout.
 *
 * The layout is made if it is not there. Nothing refers to the image before it is complete: when
 * the build fails or is cancelled, the layout's tags are as they were.
 *
 * Parameters:
 * - `rootfs`: the path of the directory.
 * - `image`: where the image is stored: `LAYOUT:TAG`, where `LAYOUT` is the path of a folder.
 * - `options`: how it is built; NULL for the defaults.
 * - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when the build fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_INVALID_INPUT` for options that make no
 * sense or a layout inside the directory, `PUZZLEFS_ERR_NOT_FOUND` without the directory,
 * `PUZZLEFS_ERR_CHANGED` if something in it changed meanwhile, `PUZZLEFS_ERR_NO_SPACE`,
 * `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any, several builds at once too, into one layout too. It starts threads of its own,
 * which end before it returns. No other thread may change the environment (`setenv`) meanwhile.
 *
 * ```c
 * puzzlefs_build_options options = { .size = sizeof(options), .threads = 2 };
 * puzzlefs_build_result result = { .size = sizeof(result) };
 * puzzlefs_error *error;
 * if (puzzlefs_build("root", "images:v1", &options, &result, &error) == PUZZLEFS_OK)
 *     printf("%s\n", result.digest);
 * else
 *     fprintf(stderr, "%s\n", puzzlefs_error_message(error));
 * puzzlefs_error_free(error);
 * ```
 */
puzzlefs_status puzzlefs_build(const char *rootfs,
                               const char *image,
                               const struct puzzlefs_build_options *options,
                               struct puzzlefs_build_result *result,
                               struct puzzlefs_error **error);

/**
 * Builds an image of a base image and what an upperdir of overlayfs changes of it.
 *
 * The image is the one that `puzzlefs_build` makes of the merged tree with the same base, at the
 * cost of the change. Whiteouts and opaque directories are understood in all forms that the kernel
 * knows; marks that tell of content outside the upperdir (`redirect`, `metacopy`, `nlink`) are
 * refused.
 *
 * Parameters:
 * - `upperdir`: the path of the upperdir. Nobody must change it meanwhile.
 * - `image`: where the image is stored: `LAYOUT:TAG`.
 * - `options`: how it is built; its `base` is the image that the upperdir lies on.
 * - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when the build fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns as `puzzlefs_build` does, and `PUZZLEFS_ERR_INVALID_INPUT` without a base,
 * `PUZZLEFS_ERR_UNSUPPORTED` for marks that are refused, `PUZZLEFS_ERR_CORRUPT` if the base lacks
 * data.
 *
 * Threads: as `puzzlefs_build`.
 *
 * ```c
 * puzzlefs_build_options options = { .size = sizeof(options), .base = "images:v1" };
 * if (puzzlefs_delta("overlay/upper", "images:v2", &options, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_delta(const char *upperdir,
                               const char *image,
                               const struct puzzlefs_build_options *options,
                               struct puzzlefs_build_result *result,
                               struct puzzlefs_error **error);

/**
 * Stores an image anew, without its history: with the metadata and data that `puzzlefs_build` of
 * its tree with the same options would give.
 *
 * Its configuration and annotations are carried on. Nothing is unpacked.
 *
 * Parameters:
 * - `from`: the image: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`.
 * - `image`: where the new image is stored: `LAYOUT:TAG`.
 * - `options`: how it is built, without a base; NULL for the defaults.
 * - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the image,
 * `PUZZLEFS_ERR_CORRUPT` if it is damaged, `PUZZLEFS_ERR_NO_SPACE`, `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: as `puzzlefs_build`.
 *
 * ```c
 * if (puzzlefs_canonicalize("images:v9", "images:release", NULL, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_canonicalize(const char *from,
                                      const char *image,
                                      const struct puzzlefs_build_options *options,
                                      struct puzzlefs_build_result *result,
                                      struct puzzlefs_error **error);

/**
 * Makes a puzzlefs image of an ordinary OCI image, whose layers are tar archives.
 *
 * Each layer is read once, its digest and diff ID are checked, and it is not unpacked. By default
 * each is a step on the ones below, so that images share what lower layers became. Configuration,
 * annotations and history are carried on.
 *
 * Parameters:
 * - `from`: the ordinary image: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`.
 * - `image`: where the new image is stored: `LAYOUT:TAG`.
 * - `options`: how it is built, without a base; NULL for the defaults.
 * - `result`: what was built, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the image,
 * `PUZZLEFS_ERR_INVALID_INPUT` for a puzzlefs image, `PUZZLEFS_ERR_UNSUPPORTED` for layers of
 * other kinds, `PUZZLEFS_ERR_CORRUPT` for damaged ones, `PUZZLEFS_ERR_NO_SPACE`,
 * `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: as `puzzlefs_build`.
 *
 * ```c
 * if (puzzlefs_convert("debian:12", "images:debian", NULL, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_convert(const char *from,
                                 const char *image,
                                 const struct puzzlefs_build_options *options,
                                 struct puzzlefs_build_result *result,
                                 struct puzzlefs_error **error);

/**
 * Changes the configuration of an image, as a step of its history that adds no layer.
 *
 * The file system is the same, and everything in configuration, manifest and index that is not
 * told to change stays, whether the library knows it or not.
 *
 * Parameters:
 * - `image`: the image: `LAYOUT:TAG`, or `LAYOUT@sha256:HEX` if `options` say under which tag the
 *   result is stored.
 * - `options`: what is changed; NULL for nothing but the history.
 * - `result`: what came out, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_INVALID_INPUT` for options that make no
 * sense or an image that is not one of puzzlefs, `PUZZLEFS_ERR_NOT_FOUND` without the image,
 * `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any. No other thread may change the environment (`setenv`) meanwhile.
 *
 * ```c
 * const char *const entrypoint[] = { "/bin/sh", "-c", NULL };
 * puzzlefs_config_options options = { .size = sizeof(options), .entrypoint = entrypoint };
 * if (puzzlefs_config("images:v1", &options, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_config(const char *image,
                                const struct puzzlefs_config_options *options,
                                struct puzzlefs_config_result *result,
                                struct puzzlefs_error **error);

/**
 * Tells what distinguishes another image from an image, from their metadata alone: paths that are
 * added, removed or changed, and what the other adds in bytes.
 *
 * The paths take no memory but while they are told: all of them together may be far larger than
 * the images.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `other`: the other image, which may be in another layout, borrowed.
 * - `visit`: is told each path that is distinguished, and may cancel; NULL if that is of no
 *   interest.
 * - `data`: passed to `visit`.
 * - `result`: what the other adds, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_INVALID_INPUT` for what is no image, or
 * `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any, also with the same images.
 *
 * ```c
 * int print(const puzzlefs_change *change, void *data)
 * {
 *     if (change->kind == PUZZLEFS_CHANGE_CHANGED && change->aspects == PUZZLEFS_ASPECT_TIME)
 *         return 0;
 *     return puts(change->path) == EOF;
 * }
 *
 * puzzlefs_diff_result result = { .size = sizeof(result) };
 * if (puzzlefs_image_diff(yesterday, today, print, NULL, &result, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * printf("%llu bytes more\n", (unsigned long long)(result.bytes_data + result.bytes_metadata));
 * ```
 */
puzzlefs_status puzzlefs_image_diff(const struct puzzlefs_image *image,
                                    const struct puzzlefs_image *other,
                                    puzzlefs_change_fn visit,
                                    void *data,
                                    struct puzzlefs_diff_result *result,
                                    struct puzzlefs_error **error);

/**
 * The status that the function returned which gave this error.
 *
 * Parameters:
 * - `error`: the error, borrowed; NULL for none.
 *
 * Returns the status; `PUZZLEFS_OK` for NULL.
 *
 * Threads: any.
 *
 * ```c
 * if (puzzlefs_error_status(error) == PUZZLEFS_ERR_NO_SPACE)
 *     make_room();
 * ```
 */
puzzlefs_status puzzlefs_error_status(const struct puzzlefs_error *error);

/**
 * The system's error number behind an error.
 *
 * Parameters:
 * - `error`: the error, borrowed; NULL for none.
 *
 * Returns a number as `errno` has it, such as `ENOSPC`; 0 if no system call failed, or for NULL.
 *
 * Threads: any.
 *
 * ```c
 * if (puzzlefs_error_errno(error) == EMFILE)
 *     close_some_files();
 * ```
 */
int32_t puzzlefs_error_errno(const struct puzzlefs_error *error);

/**
 * What went wrong, as a sentence that a user can act on: UTF-8, without a full stop and without
 * a line feed at its end.
 *
 * Parameters:
 * - `error`: the error, borrowed; NULL for none.
 *
 * Returns a string that belongs to the error and goes with it; an empty one for NULL.
 *
 * Threads: any.
 *
 * ```c
 * fprintf(stderr, "%s\n", puzzlefs_error_message(error));
 * ```
 */
const char *puzzlefs_error_message(const struct puzzlefs_error *error);

/**
 * The path that an error is about: any bytes but NUL. The message names it too.
 *
 * Parameters:
 * - `error`: the error, borrowed; NULL for none.
 *
 * Returns a string that belongs to the error and goes with it; NULL if the error is not about a
 * path, or for NULL.
 *
 * Threads: any.
 *
 * ```c
 * const char *path = puzzlefs_error_path(error);
 * if (path != NULL)
 *     mark_as_broken(path);
 * ```
 */
const char *puzzlefs_error_path(const struct puzzlefs_error *error);

/**
 * Frees an error, and the strings that belong to it.
 *
 * Parameters:
 * - `error`: the error, to be freed once; NULL is fine.
 *
 * Threads: any, once no other uses the error.
 *
 * ```c
 * puzzlefs_error *error;
 * if (puzzlefs_build("root", "images:v1", NULL, NULL, &error) != PUZZLEFS_OK)
 *     fprintf(stderr, "%s\n", puzzlefs_error_message(error));
 * puzzlefs_error_free(error);
 * ```
 */
void puzzlefs_error_free(struct puzzlefs_error *error);

/**
 * Writes an image out as a tar archive, in the pax format: the same bytes for the same tree.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `fd`: a file descriptor to be written to, such as a file or a pipe; it stays open.
 * - `options`: NULL for the defaults.
 * - `result`: what was exported, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` for a data blob that is missing
 * or damaged, `PUZZLEFS_ERR_IO` and `PUZZLEFS_ERR_NO_SPACE` if `fd` cannot be written,
 * `PUZZLEFS_ERR_CANCELLED`. Then `fd` has got the begin of an archive.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * if (puzzlefs_image_export(image, STDOUT_FILENO, NULL, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_image_export(const struct puzzlefs_image *image,
                                      int fd,
                                      const struct puzzlefs_export_options *options,
                                      struct puzzlefs_export_result *result,
                                      struct puzzlefs_error **error);

/**
 * Writes an image out as a directory.
 *
 * Owners, device nodes and some extended attributes need privileges. Whoever lacks them gets the
 * rest, and is told what is missing. Nothing is written outside the directory, whatever the image
 * says. When it fails or is cancelled, what was written is removed again.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `target`: the path of the directory, which must be empty or not there; its parent must be.
 * - `options`: how it is extracted; NULL for the defaults.
 * - `result`: what was extracted, with its `size` set; NULL if that is of no interest. Nothing is
 *   filled in when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_ALREADY_EXISTS` if the directory is not
 * empty, `PUZZLEFS_ERR_CORRUPT` for a data blob that is missing or damaged,
 * `PUZZLEFS_ERR_NO_SPACE`, `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any, also with the same image. It starts threads of its own, which end before it
 * returns.
 *
 * ```c
 * if (puzzlefs_image_extract(image, "root", NULL, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_image_extract(const struct puzzlefs_image *image,
                                       const char *target,
                                       const struct puzzlefs_extract_options *options,
                                       struct puzzlefs_extract_result *result,
                                       struct puzzlefs_error **error);

/**
 * Checks a layout, or one image of it: each digest, each structure, and that nothing is missing;
 * and repairs it if the options say from what.
 *
 * A blob that is taken from another layout has the digest that it must have, and replaces the
 * broken one at once and for good; who has that open goes on reading it. `index.json` is not
 * repaired: it says what only this layout knows, which tags there are.
 *
 * Parameters:
 * - `target`: `LAYOUT`, the path of an OCI image layout, or `LAYOUT:TAG` or `LAYOUT@sha256:HEX`
 *   for one image. What is a folder is a layout.
 * - `options`: how it is checked; NULL for the defaults.
 * - `report`: what was found, which the caller frees with `puzzlefs_fsck_report_free`; NULL when
 *   it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK` if the check could be made, whatever it found: what could not be repaired
 * is an error in the report. Else among others `PUZZLEFS_ERR_NOT_FOUND` without a layout or the
 * tag, `PUZZLEFS_ERR_CORRUPT` for an index that cannot be read, `PUZZLEFS_ERR_CANCELLED`; what is
 * repaired by then stays so. `PUZZLEFS_ERR_UNSUPPORTED` if so many blobs are broken, to which so
 * many images refer in so many ways, that the lists of what each hurts would be 16 million long:
 * an image can be checked by its name then.
 *
 * Threads: any, during a build into the same layout too.
 *
 * ```c
 * puzzlefs_fsck_report *report;
 * if (puzzlefs_fsck("images", NULL, &report, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * puzzlefs_fsck_summary summary = { .size = sizeof(summary) };
 * puzzlefs_fsck_report_summary(report, &summary, NULL);
 * puts(summary.errors == 0 ? "clean" : "damaged");
 * puzzlefs_fsck_report_free(report);
 * ```
 */
puzzlefs_status puzzlefs_fsck(const char *target,
                              const struct puzzlefs_fsck_options *options,
                              struct puzzlefs_fsck_report **report,
                              struct puzzlefs_error **error);

/**
 * Tells what a check found, in numbers.
 *
 * Parameters:
 * - `report`: the report, borrowed.
 * - `summary`: the numbers, with its `size` set.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_INVALID_INPUT`.
 *
 * Threads: any, also with the same report.
 *
 * ```c
 * puzzlefs_fsck_summary summary = { .size = sizeof(summary) };
 * if (puzzlefs_fsck_report_summary(report, &summary, &error) == PUZZLEFS_OK)
 *     printf("%llu errors\n", (unsigned long long)summary.errors);
 * ```
 */
puzzlefs_status puzzlefs_fsck_report_summary(const struct puzzlefs_fsck_report *report,
                                             struct puzzlefs_fsck_summary *summary,
                                             struct puzzlefs_error **error);

/**
 * Tells a finding of a check. The errors are the first.
 *
 * Parameters:
 * - `report`: the report, borrowed.
 * - `index`: which finding, from 0 to one less than the summary's `findings`.
 * - `finding`: the finding, with its `size` set.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND` without such a finding, or
 * `PUZZLEFS_ERR_INVALID_INPUT`.
 *
 * Threads: any, also with the same report.
 *
 * ```c
 * puzzlefs_finding finding = { .size = sizeof(finding) };
 * for (uint64_t index = 0; index < summary.findings; index++)
 *     if (puzzlefs_fsck_report_finding(report, index, &finding, NULL) == PUZZLEFS_OK)
 *         puts(finding.message);
 * ```
 */
puzzlefs_status puzzlefs_fsck_report_finding(const struct puzzlefs_fsck_report *report,
                                             uint64_t index,
                                             struct puzzlefs_finding *finding,
                                             struct puzzlefs_error **error);

/**
 * Frees a report, and what belongs to it.
 *
 * Parameters:
 * - `report`: the report, to be freed once; NULL is fine.
 *
 * Threads: any, once no other uses the report.
 *
 * ```c
 * puzzlefs_fsck_report_free(report);
 * report = NULL;
 * ```
 */
void puzzlefs_fsck_report_free(struct puzzlefs_fsck_report *report);

/**
 * Opens an image: reads all of its metadata and checks it.
 *
 * Parameters:
 * - `image`: the image: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`, where `LAYOUT` is the path of an OCI
 *   image layout.
 * - `options`: how it is opened; NULL for the defaults.
 * - `opened`: the open image, which the caller frees with `puzzlefs_image_free`; NULL when it
 *   fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout or the tag,
 * `PUZZLEFS_ERR_INVALID_INPUT` for an image that is not one of puzzlefs, `PUZZLEFS_ERR_CORRUPT`.
 *
 * Threads: any.
 *
 * ```c
 * puzzlefs_image *image;
 * if (puzzlefs_image_open("images:v1", NULL, &image, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_image_open(const char *image,
                                    const struct puzzlefs_open_options *options,
                                    struct puzzlefs_image **opened,
                                    struct puzzlefs_error **error);

/**
 * Frees an image, and what belongs to it.
 *
 * Parameters:
 * - `image`: the image, to be freed once; NULL is fine.
 *
 * Threads: any, once no other uses the image.
 *
 * ```c
 * puzzlefs_image_free(image);
 * image = NULL;
 * ```
 */
void puzzlefs_image_free(struct puzzlefs_image *image);

/**
 * The digest of an image's manifest.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `digest`: `sha256:` and 64 digits of 0-9a-f: a string that belongs to the image and goes
 *   with it.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_INVALID_INPUT`.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * const char *digest;
 * if (puzzlefs_image_digest(image, &digest, NULL) == PUZZLEFS_OK)
 *     puts(digest);
 * ```
 */
puzzlefs_status puzzlefs_image_digest(const struct puzzlefs_image *image,
                                      const char **digest,
                                      struct puzzlefs_error **error);

/**
 * Finds the inode at a path.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `path`: a path from the root of the image, whether it begins with a slash or not: any bytes.
 *   Links in it are followed within the image.
 * - `flags`: bits of `puzzlefs_lookup_flags`.
 * - `ino`: the number of the inode. The root directory has 1.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND`, or `PUZZLEFS_ERR_INVALID_INPUT`, for too
 * many symbolic links too.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * uint64_t ino;
 * if (puzzlefs_image_lookup(image, "etc/os-release", 0, &ino, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_image_lookup(const struct puzzlefs_image *image,
                                      const char *path,
                                      uint64_t flags,
                                      uint64_t *ino,
                                      struct puzzlefs_error **error);

/**
 * Tells what is known of an inode.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `ino`: the number of the inode.
 * - `stat`: what is known of it, with its `size` set.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND` without such an inode, or
 * `PUZZLEFS_ERR_INVALID_INPUT`.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * puzzlefs_stat stat = { .size = sizeof(stat) };
 * if (puzzlefs_image_stat(image, ino, &stat, &error) == PUZZLEFS_OK && S_ISREG(stat.mode))
 *     printf("%llu bytes\n", (unsigned long long)stat.file_size);
 * ```
 */
puzzlefs_status puzzlefs_image_stat(const struct puzzlefs_image *image,
                                    uint64_t ino,
                                    struct puzzlefs_stat *stat,
                                    struct puzzlefs_error **error);

/**
 * Reads bytes of a regular file.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `ino`: the number of the inode.
 * - `buffer`: where they are written to; on failure it may be written to as well.
 * - `count`: how many bytes there is room for.
 * - `offset`: where in the file to begin, in bytes.
 * - `done`: how many bytes were read: less than `count` only at the end of the file, 0 from there
 *   on.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` for a data blob that is missing
 * or damaged, `PUZZLEFS_ERR_NOT_FOUND` without such an inode, `PUZZLEFS_ERR_INVALID_INPUT` for one
 * that is not a regular file.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * char buffer[65536];
 * uint64_t offset = 0;
 * size_t done;
 * do {
 *     if (puzzlefs_image_read(image, ino, buffer, sizeof(buffer), offset, &done, &error) != PUZZLEFS_OK)
 *         return fail(error);
 *     fwrite(buffer, 1, done, stdout);
 *     offset += done;
 * } while (done == sizeof(buffer));
 * ```
 */
puzzlefs_status puzzlefs_image_read(const struct puzzlefs_image *image,
                                    uint64_t ino,
                                    void *buffer,
                                    size_t count,
                                    uint64_t offset,
                                    size_t *done,
                                    struct puzzlefs_error **error);

/**
 * Tells where a symbolic link points to.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `ino`: the number of the inode.
 * - `target`: its target, any bytes but NUL: a string that the caller frees with
 *   `puzzlefs_string_free`; NULL when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or `PUZZLEFS_ERR_NOT_FOUND` without such an inode, or
 * `PUZZLEFS_ERR_INVALID_INPUT` for one that is not a symbolic link.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * char *target;
 * if (puzzlefs_image_readlink(image, ino, &target, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * printf("-> %s\n", target);
 * puzzlefs_string_free(target);
 * ```
 */
puzzlefs_status puzzlefs_image_readlink(const struct puzzlefs_image *image,
                                        uint64_t ino,
                                        char **target,
                                        struct puzzlefs_error **error);

/**
 * Tells an entry of a directory. The entries are sorted by the bytes of their names; `.` and
 * `..` are not among them.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `ino`: the number of the directory's inode.
 * - `index`: which entry, from 0.
 * - `entry`: the entry, with its `size` set. Its `ino` is 0 if the directory has no more.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, behind the last entry too; or `PUZZLEFS_ERR_NOT_FOUND` without such an
 * inode, or `PUZZLEFS_ERR_INVALID_INPUT` for one that is not a directory.
 *
 * Threads: any, also with the same image: nothing is remembered between two calls.
 *
 * ```c
 * puzzlefs_dirent entry = { .size = sizeof(entry) };
 * for (uint64_t index = 0;; index++) {
 *     if (puzzlefs_image_readdir(image, ino, index, &entry, &error) != PUZZLEFS_OK)
 *         return fail(error);
 *     if (entry.ino == 0)
 *         break;
 *     puts(entry.name);
 * }
 * ```
 */
puzzlefs_status puzzlefs_image_readdir(const struct puzzlefs_image *image,
                                       uint64_t ino,
                                       uint64_t index,
                                       struct puzzlefs_dirent *entry,
                                       struct puzzlefs_error **error);

/**
 * Tells an extended attribute of an inode. They are sorted by the bytes of their names.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `ino`: the number of the inode.
 * - `index`: which attribute, from 0.
 * - `xattr`: the attribute, with its `size` set. Its `value` is NULL if the inode has no more.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, behind the last attribute too; or `PUZZLEFS_ERR_NOT_FOUND` without such
 * an inode, or `PUZZLEFS_ERR_INVALID_INPUT`.
 *
 * Threads: any, also with the same image: nothing is remembered between two calls.
 *
 * ```c
 * puzzlefs_xattr xattr = { .size = sizeof(xattr) };
 * for (uint64_t index = 0;; index++) {
 *     if (puzzlefs_image_xattr(image, ino, index, &xattr, &error) != PUZZLEFS_OK)
 *         return fail(error);
 *     if (xattr.value == NULL)
 *         break;
 *     setxattr(path, xattr.name, xattr.value, xattr.value_length, 0);
 * }
 * ```
 */
puzzlefs_status puzzlefs_image_xattr(const struct puzzlefs_image *image,
                                     uint64_t ino,
                                     uint64_t index,
                                     struct puzzlefs_xattr *xattr,
                                     struct puzzlefs_error **error);

/**
 * Describes an image: manifest, configuration, counts of inodes and bytes, data blobs, and what
 * it shares with the other images of its layout.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `json`: a JSON document, as `puzzlefs inspect --json` prints it: UTF-8, without a line feed
 *   in it. A string that the caller frees with `puzzlefs_string_free`; NULL when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` if the layout's index is damaged.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * char *json;
 * if (puzzlefs_image_inspect(image, &json, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * puts(json);
 * puzzlefs_string_free(json);
 * ```
 */
puzzlefs_status puzzlefs_image_inspect(const struct puzzlefs_image *image,
                                       char **json,
                                       struct puzzlefs_error **error);

/**
 * Makes a tag refer to what another one of the same layout refers to, of whatever kind it is.
 *
 * Parameters:
 * - `image`: what it shall refer to: `LAYOUT:TAG` or `LAYOUT@sha256:HEX`.
 * - `tag`: the tag; one that is there is moved.
 * - `options`: how it is set; NULL for the defaults.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout or the image,
 * `PUZZLEFS_ERR_INVALID_INPUT` for a tag that is none, `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any.
 *
 * ```c
 * if (puzzlefs_tag("images:v1", "latest", NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_tag(const char *image,
                             const char *tag,
                             const struct puzzlefs_tag_options *options,
                             struct puzzlefs_error **error);

/**
 * Takes a tag away. What it refers to stays, until `puzzlefs_gc` finds that nothing refers to it
 * any more.
 *
 * Parameters:
 * - `image`: the tag: `LAYOUT:TAG`; or `LAYOUT@sha256:HEX` for all that the layout's index has of
 *   that digest, with tags and without.
 * - `options`: how it is taken away; NULL for the defaults.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout or the tag,
 * `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any.
 *
 * ```c
 * if (puzzlefs_untag("images:v1", NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_untag(const char *image,
                               const struct puzzlefs_tag_options *options,
                               struct puzzlefs_error **error);

/**
 * Lists what the index of a layout has: also without a tag, and what is no image of puzzlefs.
 *
 * Parameters:
 * - `layout`: the path of the layout.
 * - `json`: a JSON document, as `puzzlefs tags --json` prints it: UTF-8, without a line feed in
 *   it. It is a list of objects with `tag` (or `null`), `digest`, `media_type`, `size` of what
 *   the entry refers to, `kind` (`puzzlefs`, `image`, `index`, `other`, `unreadable`), and
 *   `bytes` of all blobs (or `null` if it cannot be read, or if counting would take long: when
 *   what the entries before it share has been counted again and again, 67 million blobs in all).
 *   A string that the caller frees with `puzzlefs_string_free`; NULL when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout,
 * `PUZZLEFS_ERR_CORRUPT` if its index is damaged.
 *
 * Threads: any.
 *
 * ```c
 * char *json;
 * if (puzzlefs_tags("images", &json, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * puts(json);
 * puzzlefs_string_free(json);
 * ```
 */
puzzlefs_status puzzlefs_tags(const char *layout, char **json, struct puzzlefs_error **error);

/**
 * Deletes the blobs of a layout that no entry of its index refers to, directly or not, and what
 * builders left behind that were killed.
 *
 * Waits until no builder is at work in the layout: a thread that builds into it must not wait for
 * one that is here. Deletes nothing if a document cannot be read that may refer to blobs.
 *
 * Parameters:
 * - `layout`: the path of the layout.
 * - `options`: what is deleted; NULL for the defaults.
 * - `json`: a JSON document, as `puzzlefs gc --json` prints it: UTF-8, without a line feed in it.
 *   It is an object with the digests that were `removed` and their `bytes`; the `blobs` and
 *   `bytes` that were too `young`; the `count` and `bytes` of the `leftovers`. A string that the
 *   caller frees with `puzzlefs_string_free`; NULL when it fails. May be NULL if that is of no
 *   interest.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the layout,
 * `PUZZLEFS_ERR_CORRUPT` if a document is missing or damaged, `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any, also while others build into the layout.
 *
 * ```c
 * puzzlefs_gc_options options = { .size = sizeof(options), .flags = PUZZLEFS_GC_DRY_RUN };
 * char *json;
 * if (puzzlefs_gc("images", &options, &json, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * puts(json);
 * puzzlefs_string_free(json);
 * ```
 */
puzzlefs_status puzzlefs_gc(const char *layout,
                            const struct puzzlefs_gc_options *options,
                            char **json,
                            struct puzzlefs_error **error);

/**
 * Mounts an image on a directory.
 *
 * When this returns, the mount is there, and answers. Root mounts by itself, an ordinary user
 * through the program `fusermount3`. No signal handler is installed; a process that is killed
 * leaves a mount that `puzzlefs_unmount` clears.
 *
 * The mount belongs to the process. In a child that it forks, the handle can be freed, which does
 * not unmount; all else is `PUZZLEFS_ERR_INVALID_INPUT`.
 *
 * Parameters:
 * - `image`: the image, borrowed; it may be freed while it is mounted.
 * - `point`: the path of the directory.
 * - `options`: how it is mounted; NULL for the defaults.
 * - `mounted`: the mount, which the caller frees with `puzzlefs_mount_free`; NULL when it fails.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` without the directory,
 * `PUZZLEFS_ERR_ALREADY_EXISTS` where an image is mounted already, or with a `persist` that
 * another mount uses, `PUZZLEFS_ERR_PERMISSION_DENIED`.
 *
 * Threads: any, also with the same image. It starts threads, which end with the mount.
 *
 * ```c
 * puzzlefs_mount *mount;
 * if (puzzlefs_image_mount(image, "/mnt", NULL, &mount, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * work_in("/mnt");
 * puzzlefs_mount_free(mount);
 * ```
 */
puzzlefs_status puzzlefs_image_mount(const struct puzzlefs_image *image,
                                     const char *point,
                                     const struct puzzlefs_mount_options *options,
                                     struct puzzlefs_mount **mounted,
                                     struct puzzlefs_error **error);

/**
 * Where an image is mounted.
 *
 * Parameters:
 * - `mount`: the mount, borrowed.
 *
 * Returns an absolute path without links, a string that belongs to the mount and goes with it; an
 * empty one for NULL.
 *
 * Threads: any, also with the same mount.
 *
 * ```c
 * printf("mounted on %s\n", puzzlefs_mount_point(mount));
 * ```
 */
const char *puzzlefs_mount_point(const struct puzzlefs_mount *mount);

/**
 * Waits until a mount is over.
 *
 * Parameters:
 * - `mount`: the mount, borrowed.
 * - `timeout`: for how long at most, in milliseconds; a negative number for ever.
 * - `over`: 1 if it is over, 0 if not.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, also if it is not over, or `PUZZLEFS_ERR_INVALID_INPUT`.
 *
 * Threads: any, also with the same mount.
 *
 * ```c
 * int over;
 * if (puzzlefs_mount_wait(mount, -1, &over, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_mount_wait(const struct puzzlefs_mount *mount,
                                    int64_t timeout,
                                    int *over,
                                    struct puzzlefs_error **error);

/**
 * Unmounts, and waits until the mount is over. Does nothing if it is already.
 *
 * Parameters:
 * - `mount`: the mount, borrowed: it is still to be freed.
 * - `flags`: bits of `puzzlefs_unmount_flags`.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_IO` with the error number `EBUSY` if
 * somebody has something open in it.
 *
 * Threads: any, also with the same mount.
 *
 * ```c
 * if (puzzlefs_mount_unmount(mount, 0, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_mount_unmount(const struct puzzlefs_mount *mount,
                                       uint64_t flags,
                                       struct puzzlefs_error **error);

/**
 * Unmounts if that has not been done, and frees the mount.
 *
 * What somebody has open in it can be read until it is closed, by threads that then end. The
 * functions of the options are not called any more once this has returned.
 *
 * Parameters:
 * - `mount`: the mount, to be freed once; NULL is fine.
 *
 * Threads: any, once no other uses the mount.
 *
 * ```c
 * puzzlefs_mount_free(mount);
 * mount = NULL;
 * ```
 */
void puzzlefs_mount_free(struct puzzlefs_mount *mount);

/**
 * Unmounts the image that is mounted on a directory, whichever process serves it; also one whose
 * process is gone.
 *
 * Parameters:
 * - `point`: the path of the directory.
 * - `flags`: bits of `puzzlefs_unmount_flags`.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_NOT_FOUND` where nothing is mounted,
 * `PUZZLEFS_ERR_INVALID_INPUT` where something else is, `PUZZLEFS_ERR_IO` with the error number
 * `EBUSY` if somebody has something open in it.
 *
 * Threads: any.
 *
 * ```c
 * if (puzzlefs_unmount("/mnt", PUZZLEFS_UNMOUNT_LAZY, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_unmount(const char *point, uint64_t flags, struct puzzlefs_error **error);

/**
 * Checks that an image is the one that is expected.
 *
 * By an fs-verity digest, metadata and data blobs must have those that the image lists, too: the
 * kernel's where it has them, else they are computed, for which all is read.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `digest`: `sha256:` and 64 digits of 0-9a-f, the manifest's digest; or such digits alone, its
 *   fs-verity digest.
 * - `options`: who is told of progress; NULL for nobody.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_CORRUPT` if the image is another one,
 * `PUZZLEFS_ERR_INVALID_INPUT` for what is no such digest, `PUZZLEFS_ERR_CANCELLED`.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * if (puzzlefs_image_check(image, trusted_digest, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_image_check(const struct puzzlefs_image *image,
                                     const char *digest,
                                     const struct puzzlefs_check_options *options,
                                     struct puzzlefs_error **error);

/**
 * Has the kernel protect all blobs of an image by fs-verity: they can then be removed, but not
 * changed.
 *
 * Parameters:
 * - `image`: the image, borrowed.
 * - `digest`: the fs-verity digest that the manifest must have, 64 digits of 0-9a-f; NULL for any.
 * - `options`: who is told of progress; NULL for nobody.
 * - `error`: see `puzzlefs_error`.
 *
 * Returns `PUZZLEFS_OK`, or among others `PUZZLEFS_ERR_UNSUPPORTED` if the file system has no
 * fs-verity, `PUZZLEFS_ERR_CORRUPT` if a digest is not the one that is listed,
 * `PUZZLEFS_ERR_CANCELLED`, by which blobs that are protected already stay so.
 *
 * Threads: any, also with the same image.
 *
 * ```c
 * if (puzzlefs_image_enable_verity(image, NULL, NULL, &error) != PUZZLEFS_OK)
 *     return fail(error);
 * ```
 */
puzzlefs_status puzzlefs_image_enable_verity(const struct puzzlefs_image *image,
                                             const char *digest,
                                             const struct puzzlefs_check_options *options,
                                             struct puzzlefs_error **error);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* PUZZLEFS_H */
