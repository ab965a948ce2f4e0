/*
 * A defect in the midst of work is an error like any other: what was begun can be done again with the same
 * handles, and nothing is left locked, torn or lying about. Only for a library with injected defects, see
 * src/fault.rs.
 *
 *     faults ROOTFS LAYOUT DIRECTORY: the layout's tag `v1` is an image of the first directory
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
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
    return puzzlefs_tag(v1, "again", &error);
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

/* The first byte of a file of a mount, or a negative error number. */
static int first_byte(const char *point)
{
    char path[8192];
    unsigned char byte;
    ssize_t count;
    int file;

    snprintf(path, sizeof(path), "%s/dir/text", point);
    file = open(path, O_RDONLY);
    CHECK(file >= 0);
    count = read(file, &byte, 1);
    count = count < 0 ? -errno : byte;
    close(file);
    return (int)count;
}

/* Who reads gets an error; the mount lives. */
static void mount(void)
{
    puzzlefs_mount *mounted;
    char point[4096];

    snprintf(point, sizeof(point), "%s/mount", directory);
    CHECK(mkdir(point, 0700) == 0);
    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    SUCCEED(puzzlefs_image_mount(image, point, NULL, &mounted, &error));
    setenv("PUZZLEFS_FAULT", "frame", 1);
    CHECK(first_byte(point) == -EIO);
    CHECK(first_byte(point) == -EIO);
    unsetenv("PUZZLEFS_FAULT");
    CHECK(first_byte(point) == '1');
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
    mount();
    return 0;
}
