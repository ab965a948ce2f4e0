/*
 * Progress is told, and whoever wants no more leaves nothing behind.
 *
 *     progress ROOTFS LAYOUT DIRECTORY: the layout's tag `v1` is an image of the first directory
 */
#define _DEFAULT_SOURCE

#include <fcntl.h>
#include <stdint.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

struct watch {
    uint64_t calls;
    /* The call that is answered with "no more"; 0 for none. */
    uint64_t stop_at;
    /* Bits of the stages that were seen. */
    unsigned stages;
    int after_stop;
};

static puzzlefs_error *error;

static int watch(const puzzlefs_progress *progress, void *data)
{
    struct watch *watch = data;

    CHECK(progress->size >= sizeof(*progress) && progress->reserved == 0);
    CHECK(progress->total == 0 || progress->done <= progress->total);
    watch->after_stop += watch->stop_at != 0 && watch->calls >= watch->stop_at;
    watch->calls++;
    watch->stages |= 1U << progress->stage;
    return watch->calls == watch->stop_at ? -1 : 0;
}

static void build(const char *rootfs, const char *v1, const char *v2)
{
    struct watch all = { 0 };
    puzzlefs_build_options options = { .size = sizeof(options), .progress = watch, .data = &all };
    puzzlefs_build_result result = { .size = sizeof(result) }, untouched = result;
    puzzlefs_image *image;

    SUCCEED(puzzlefs_build(rootfs, v1, &options, NULL, &error));
    CHECK(all.stages == (1U << PUZZLEFS_STAGE_SCAN | 1U << PUZZLEFS_STAGE_STORE) && all.calls >= 2);

    /* Whenever it is cancelled: no new tag, and the old ones are whole. */
    for (uint64_t stop_at = 1; stop_at <= all.calls; stop_at++) {
        struct watch some = { .stop_at = stop_at };

        options.data = &some;
        FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled", puzzlefs_build(rootfs, v2, &options, &result, &error));
        CHECK(some.calls == stop_at);
        CHECK(memcmp(&result, &untouched, sizeof(result)) == 0);
        FAIL(PUZZLEFS_ERR_NOT_FOUND, "", puzzlefs_image_open(v2, NULL, &image, &error));
    }
    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    puzzlefs_image_free(image);
}

/* What a slow function needs that calls the library itself. */
struct nested {
    const char *image;
    uint64_t calls;
};

static int call_back(const puzzlefs_progress *progress, void *data)
{
    const struct timespec while_others_wait = { .tv_nsec = 1000000 };
    struct nested *nested = data;
    puzzlefs_error *inner = NULL;
    puzzlefs_image *image;
    uint64_t ino;

    CHECK(puzzlefs_image_open(nested->image, NULL, &image, &inner) == PUZZLEFS_OK);
    CHECK(puzzlefs_image_lookup(image, "no/such/file", 0, &ino, &inner) == PUZZLEFS_ERR_NOT_FOUND);
    puzzlefs_error_free(inner);
    puzzlefs_image_free(image);
    nanosleep(&while_others_wait, NULL);
    nested->calls += progress->stage == PUZZLEFS_STAGE_STORE;
    return 0;
}

static void nested(const char *rootfs, const char *v1)
{
    struct nested seen = { .image = v1 };
    puzzlefs_build_options options = { .size = sizeof(options), .progress = call_back, .data = &seen };
    puzzlefs_build_result alone = { .size = sizeof(alone) }, called = alone;

    SUCCEED(puzzlefs_build(rootfs, v1, NULL, &alone, &error));
    SUCCEED(puzzlefs_build(rootfs, v1, &options, &called, &error));
    CHECK(seen.calls > 0 && strcmp(alone.digest, called.digest) == 0);
}

static void extract(const char *v1, const char *directory)
{
    struct watch some = { .stop_at = 1 }, all = { 0 };
    puzzlefs_extract_options options = { .size = sizeof(options), .progress = watch, .data = &some };
    puzzlefs_extract_result result = { .size = sizeof(result) };
    puzzlefs_image *image;

    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled", puzzlefs_image_extract(image, directory, &options, &result, &error));
    CHECK(result.inodes == 0 && access(directory, F_OK) != 0);
    options.data = &all;
    SUCCEED(puzzlefs_image_extract(image, directory, &options, &result, &error));
    CHECK(all.stages == 1U << PUZZLEFS_STAGE_EXTRACT && result.inodes > 1 && result.bytes > 0 && result.lost == 0);
    puzzlefs_image_free(image);
}

static void fsck(const char *layout)
{
    struct watch all = { 0 }, some = { .stop_at = 1 };
    puzzlefs_fsck_options options = { .size = sizeof(options), .progress = watch, .data = &all };
    puzzlefs_fsck_report *report;

    SUCCEED(puzzlefs_fsck(layout, &options, &report, &error));
    CHECK(all.stages == 1U << PUZZLEFS_STAGE_CHECK && all.calls > 0);
    puzzlefs_fsck_report_free(report);
    options.data = &some;
    FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled", puzzlefs_fsck(layout, &options, &report, &error));
    CHECK(report == NULL && some.after_stop == 0);
}

/* By an fs-verity digest, all is read. */
static void check(const char *rootfs, const char *v1)
{
    struct watch all = { 0 };
    puzzlefs_check_options options = { .size = sizeof(options), .progress = watch, .data = &all };
    puzzlefs_build_result result = { .size = sizeof(result) };
    puzzlefs_image *image;

    SUCCEED(puzzlefs_build(rootfs, v1, NULL, &result, &error));
    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    SUCCEED(puzzlefs_image_check(image, result.verity, &options, &error));
    CHECK(all.stages == 1U << PUZZLEFS_STAGE_CHECK && all.calls >= 3);
    for (uint64_t stop_at = 1; stop_at <= all.calls; stop_at++) {
        struct watch some = { .stop_at = stop_at };

        options.data = &some;
        FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled", puzzlefs_image_check(image, result.verity, &options, &error));
        CHECK(some.calls == stop_at);
    }
    puzzlefs_image_free(image);
}

/* Who changes what somebody else has locked waits no longer than they want. */
static void locked(const char *layout, const char *v1)
{
    struct watch some = { .stop_at = 3 };
    puzzlefs_tag_options options = { .size = sizeof(options), .progress = watch, .data = &some };
    puzzlefs_config_options config = { .size = sizeof(config), .tag = "other", .progress = watch, .data = &some };
    puzzlefs_image *image;
    char other[4096];
    int folder = open(layout, O_RDONLY | O_DIRECTORY);

    snprintf(other, sizeof(other), "%s:other", layout);
    CHECK(folder >= 0 && flock(folder, LOCK_SH) == 0);
    FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled", puzzlefs_tag(v1, "other", &options, &error));
    CHECK(some.calls == 3 && some.stages == 1U << PUZZLEFS_STAGE_WAIT);
    some.calls = 0;
    FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled", puzzlefs_config(v1, &config, NULL, &error));
    CHECK(some.calls == 3 && some.stages == 1U << PUZZLEFS_STAGE_WAIT);
    FAIL(PUZZLEFS_ERR_NOT_FOUND, "", puzzlefs_image_open(other, NULL, &image, &error));
    some.calls = 0;
    FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled", puzzlefs_untag(v1, &options, &error));
    CHECK(some.calls == 3 && some.stages == 1U << PUZZLEFS_STAGE_WAIT);
    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    puzzlefs_image_free(image);

    CHECK(close(folder) == 0);
    some = (struct watch){ 0 };
    SUCCEED(puzzlefs_tag(v1, "other", &options, &error));
    SUCCEED(puzzlefs_config(v1, &config, NULL, &error));
    SUCCEED(puzzlefs_untag(other, &options, &error));
    CHECK(some.calls == 0);
}

int main(int argc, char **argv)
{
    char v1[4096], cancelled[4096];

    CHECK(argc == 4);
    snprintf(v1, sizeof(v1), "%s:v1", argv[2]);
    snprintf(cancelled, sizeof(cancelled), "%s:cancelled", argv[2]);
    build(argv[1], v1, cancelled);
    extract(v1, argv[3]);
    fsck(argv[2]);
    nested(argv[1], v1);
    check(argv[1], v1);
    locked(argv[2], v1);
    return 0;
}
