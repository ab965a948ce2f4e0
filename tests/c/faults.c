/*
 * A defect in the midst of work is an error like any other: what was begun can be done again with the same
 * handles, and nothing is left locked, torn or lying about. Only for a library with injected defects, see
 * src/fault.rs.
 *
 *     faults ROOTFS LAYOUT DIRECTORY: the layout's tag `v1` is an image of the first directory
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"

static puzzlefs_error *error;

/* What the work needs. */
static const char *rootfs, *layout, *directory;
static char v1[4096], again[4096], target[4096];
static puzzlefs_image *image;

static puzzlefs_status build(void)
{
    return puzzlefs_build(rootfs, again, NULL, NULL, &error);
}

/* Nothing is new to the layout where there is a base, but for the step itself. */
static puzzlefs_status delta(void)
{
    puzzlefs_build_options options = { .size = sizeof(options), .base = v1 };

    return puzzlefs_delta(rootfs, again, &options, NULL, &error);
}

static puzzlefs_status canonicalize(void)
{
    return puzzlefs_canonicalize(v1, again, NULL, NULL, &error);
}

static puzzlefs_status config(void)
{
    return puzzlefs_config(v1, NULL, NULL, &error);
}

static puzzlefs_status tag(void)
{
    return puzzlefs_tag(v1, "again", NULL, &error);
}

static puzzlefs_status gc(void)
{
    return puzzlefs_gc(layout, NULL, NULL, &error);
}

static puzzlefs_status fsck(void)
{
    puzzlefs_fsck_report *report;
    puzzlefs_status status = puzzlefs_fsck(layout, NULL, &report, &error);

    puzzlefs_fsck_report_free(report);
    return status;
}

static puzzlefs_status read_text(void)
{
    char text[64];
    size_t done;
    uint64_t ino;
    puzzlefs_status status = puzzlefs_image_lookup(image, "dir/text", 0, &ino, &error);

    return status != PUZZLEFS_OK ? status : puzzlefs_image_read(image, ino, text, sizeof(text), 9, &done, &error);
}

static puzzlefs_status extract(void)
{
    return puzzlefs_image_extract(image, target, NULL, NULL, &error);
}

static puzzlefs_status export(void)
{
    int null = open("/dev/null", O_WRONLY);
    puzzlefs_status status = puzzlefs_image_export(image, null, NULL, NULL, &error);

    close(null);
    return status;
}

static const struct {
    const char *fault;
    puzzlefs_status (*work)(void);
} cases[] = {
    { "read", build },
    { "compress", build },
    { "stage", build },
    { "commit", build },
    { "index", build },
    { "compare", delta },
    { "commit", delta },
    { "index", delta },
    { "read", canonicalize },
    { "frame", canonicalize },
    { "open blob", canonicalize },
    { "commit", config },
    { "index", config },
    { "index", tag },
    { "gc", gc },
    { "check blob", fsck },
    { "frame", read_text },
    { "open blob", read_text },
    { "extract", extract },
    { "frame", extract },
    { "export", export },
    { "frame", export },
};

static void inject(const char *fault, puzzlefs_status (*work)(void))
{
    static int number;
    char message[256];

    snprintf(message, sizeof(message), "a defect of libpuzzlefs: injected into '%s'", fault);
    snprintf(target, sizeof(target), "%s/%d", directory, number++);
    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    setenv("PUZZLEFS_FAULT", fault, 1);
    FAIL(PUZZLEFS_ERR_INTERNAL, message, work());
    FAIL(PUZZLEFS_ERR_INTERNAL, message, work());
    unsetenv("PUZZLEFS_FAULT");
    SUCCEED(work());
    puzzlefs_image_free(image);
}

/* What is asked of a mount: 0 or more, or -1 with errno. */
static char point[4096];

/* A path in the mount. */
static const char *in_mount(const char *name)
{
    static char path[8192];

    snprintf(path, sizeof(path), "%s/%s", point, name);
    return path;
}

static int look_up(void)
{
    struct stat stat;

    return lstat(in_mount("dir"), &stat);
}

static int get_attributes(void)
{
    struct statx stat;

    return statx(AT_FDCWD, point, AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, &stat);
}

static int read_link(void)
{
    char target[64];

    return (int)readlink(in_mount("link"), target, sizeof(target));
}

static int read_byte(void)
{
    char byte;
    int file = open(in_mount("dir/text"), O_RDONLY);
    int count = file < 0 ? -1 : (int)read(file, &byte, 1);
    int number = errno;

    close(file);
    errno = number;
    return count;
}

/* The kernel asks for attributes with the names from the beginning on, and for the names alone from elsewhere. */
static int read_names(long start)
{
    DIR *names = opendir(point);
    int result, number;

    CHECK(names != NULL);
    if (start != 0)
        seekdir(names, start);
    errno = 0;
    result = readdir(names) == NULL ? -1 : 0;
    number = errno;
    closedir(names);
    errno = number;
    return result;
}

static int read_directory(void)
{
    return read_names(1);
}

static int read_directory_plus(void)
{
    return read_names(0);
}

static int get_attribute(void)
{
    char value[64];

    return (int)getxattr(in_mount("file"), "user.text", value, sizeof(value));
}

static int list_attributes(void)
{
    char keys[1024];

    return (int)listxattr(in_mount("file"), keys, sizeof(keys));
}

static int seek_hole(void)
{
    int file = open(in_mount("dir/hole"), O_RDONLY);
    int result = file < 0 || lseek(file, 0, SEEK_DATA) < 0 ? -1 : 0;
    int number = errno;

    close(file);
    errno = number;
    return result;
}

static int get_statistics(void)
{
    struct statfs statistics;

    return statfs(point, &statistics);
}

static const struct {
    const char *fault;
    int (*ask)(void);
} requests[] = {
    { "lookup request", look_up },
    { "getattr request", get_attributes },
    { "readlink request", read_link },
    { "read request", read_byte },
    { "frame", read_byte },
    { "readdir request", read_directory },
    { "readdirplus request", read_directory_plus },
    { "getxattr request", get_attribute },
    { "listxattr request", list_attributes },
    { "lseek request", seek_hole },
    { "statfs request", get_statistics },
};

/* Who asks gets an error; the mount lives. */
static void mount(const char *fault, int (*ask)(void))
{
    puzzlefs_mount *mounted;

    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    SUCCEED(puzzlefs_image_mount(image, point, NULL, &mounted, &error));
    setenv("PUZZLEFS_FAULT", fault, 1);
    for (int i = 0; i < 2; i++) {
        int result = ask();

        if (result != -1 || errno != EIO) {
            fprintf(stderr, "%s: %d, %s\n", fault, result, strerror(errno));
            exit(1);
        }
    }
    unsetenv("PUZZLEFS_FAULT");
    CHECK(ask() >= 0);
    CHECK(read_byte() == 1);
    SUCCEED(puzzlefs_mount_unmount(mounted, 0, &error));
    puzzlefs_mount_free(mounted);
    puzzlefs_image_free(image);
}

int main(int argc, char **argv)
{
    CHECK(argc == 4);
    rootfs = argv[1];
    layout = argv[2];
    directory = argv[3];
    snprintf(v1, sizeof(v1), "%s:v1", layout);
    snprintf(again, sizeof(again), "%s:again", layout);
    CHECK(mkdir(directory, 0700) == 0);

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        inject(cases[i].fault, cases[i].work);
    snprintf(point, sizeof(point), "%s/mount", directory);
    CHECK(mkdir(point, 0700) == 0);
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++)
        mount(requests[i].fault, requests[i].ask);
    return 0;
}
