/*
 * Whatever a caller does wrong is an error that says what, and no crash.
 *
 *     misuse ROOTFS LAYOUT: the directory holds `file`, `dir/` and `link`; the layout's tag `v1` is an image of it
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdint.h>

#include "check.h"

#define INVALID PUZZLEFS_ERR_INVALID_INPUT
#define NOT_FOUND PUZZLEFS_ERR_NOT_FOUND
#define UNSUPPORTED PUZZLEFS_ERR_UNSUPPORTED

static const char *rootfs;
static char v1[4096], v2[4096];
static puzzlefs_error *error;

/* How much the structures of a library have grown at most (tools/grown-library). */
#define GROWN 32

/* A structure with room behind it, as a caller with a newer header has. */
#define NEWER(type)                                                                                          \
    union {                                                                                                  \
        type known;                                                                                          \
        unsigned char bytes[sizeof(type) + 64];                                                              \
    }

static void references(void)
{
    static const struct {
        const char *image, *text;
    } cases[] = {
        { "", "names no image" },      { "images", "names no image" },       { ":v1", "names no layout" },
        { "images:", "is no tag" },    { "images:a b", "is no tag" },        { "images:\xff", "is no tag" },
        { "images:.a", "is no tag" },  { "images@sha256:12", "no SHA-256" },
    };
    puzzlefs_image *image;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        FAIL(INVALID, cases[i].text, puzzlefs_build(rootfs, cases[i].image, NULL, NULL, &error));
        FAIL(INVALID, cases[i].text, puzzlefs_image_open(cases[i].image, NULL, &image, &error));
        CHECK(image == NULL);
    }
    FAIL(INVALID, "under a tag",
         puzzlefs_build(rootfs, "x@sha256:0000000000000000000000000000000000000000000000000000000000000000", NULL,
                        NULL, &error));
    FAIL(NOT_FOUND, "there is no layout", puzzlefs_image_open("/does/not/exist:v1", NULL, &image, &error));
    FAIL(NOT_FOUND, "v2", puzzlefs_image_open(v2, NULL, &image, &error));
}

/* Everything that can be wrong with the options of a build. */
static void build_options(void)
{
    static const char *const not_utf8[] = { "fine", "\xff\xfe", NULL };
    static const char *const bad_glob[] = { "[", NULL };
    static const char *const odd[] = { "key", "value", "lonely", NULL };
    static const struct {
        puzzlefs_status status;
        const char *text;
        puzzlefs_build_options options;
    } cases[] = {
        { INVALID, "'options.size' is 0", { .flags = 0 } },
        { INVALID, "'options.size' is 1", { .size = 1 } },
        { INVALID, "at least", { .size = sizeof(puzzlefs_build_options) - 1 } },
        { INVALID, "at least", { .size = SIZE_MAX } },
#define SIZED .size = sizeof(puzzlefs_build_options)
        { UNSUPPORTED, "0x8000000000000000", { SIZED, .flags = UINT64_C(1) << 63 } },
        { UNSUPPORTED, "'options.compression' is 2", { SIZED, .compression = 2 } },
        { UNSUPPORTED, "'options.data_layout' is 2", { SIZED, .data_layout = 2 } },
        { INVALID, "does not say so", { SIZED, .uid = 1 } },
        { INVALID, "does not say so", { SIZED, .gid = 1 } },
        { INVALID, "does not say so", { SIZED, .created = -1 } },
        { INVALID, "does not say so", { SIZED, .clamp_mtime = 1 } },
        { INVALID, "does not say so", { SIZED, .compression_level = 3 } },
        { INVALID, "no compression",
          { SIZED, .compression = PUZZLEFS_COMPRESSION_NONE, .flags = PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL } },
        { INVALID, "level of 23",
          { SIZED, .compression_level = 23, .flags = PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL } },
        { INVALID, "2^32 - 1", { SIZED, .uid = UINT32_MAX, .flags = PUZZLEFS_BUILD_HAS_OWNER } },
        { INVALID, "pack size", { SIZED, .pack_size = 1 } },
        { INVALID, "threads", { SIZED, .threads = UINT32_MAX } },
        { INVALID, "'options.exclude' is not UTF-8", { SIZED, .exclude = not_utf8 } },
        { INVALID, "no pattern", { SIZED, .exclude = bad_glob } },
        { INVALID, "'lonely'", { SIZED, .annotations = odd } },
        { INVALID, "'options.annotations' is not UTF-8", { SIZED, .annotations = not_utf8 } },
        { INVALID, "'options.author' is not UTF-8", { SIZED, .author = "\xff" } },
        { INVALID, "'options.config' is NULL", { SIZED, .config_length = 1 } },
        { INVALID, "'options.config' cannot have", { SIZED, .config = (const uint8_t *)"", .config_length = SIZE_MAX } },
        { INVALID, "not JSON", { SIZED, .config = (const uint8_t *)"" } },
        { INVALID, "names no image", { SIZED, .base = "images" } },
        { INVALID, "but no base", { SIZED, .flags = PUZZLEFS_BUILD_TRUST_MTIME } },
        { INVALID, "'options.base' is NULL", { SIZED, .flags = PUZZLEFS_BUILD_VERIFY_BASE } },
        { INVALID, "there is no upperdir", { SIZED, .marks = PUZZLEFS_MARKS_USER } },
        { UNSUPPORTED, "unknown bits", { SIZED, .flags = PUZZLEFS_BUILD_SQUASH } },
        { UNSUPPORTED, "'options.reserved'", { SIZED, .reserved = 1 } },
        { INVALID, "not a JSON object", { SIZED, .config = (const uint8_t *)"[]!", .config_length = 2 } },
        { INVALID, "not JSON", { SIZED, .config = (const uint8_t *)"{\0}", .config_length = 3 } },
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        FAIL(cases[i].status, cases[i].text, puzzlefs_build(rootfs, v2, &cases[i].options, NULL, &error));
}

/* What only some of the functions take that make images. */
static void other_sources(void)
{
    puzzlefs_build_options with_base = { .size = sizeof(with_base), .base = v1 };
    puzzlefs_build_options missing = { .size = sizeof(missing), .base = "/does/not/exist:v1" };
    puzzlefs_build_options marks = { .size = sizeof(marks), .base = v1, .marks = 3 };
    puzzlefs_build_options trusting = { .size = sizeof(trusting), .base = v1, .flags = PUZZLEFS_BUILD_TRUST_MTIME };
    puzzlefs_build_options platform = { .size = sizeof(platform), .platform = "linux" };
    puzzlefs_image *image;

    FAIL(INVALID, "'upperdir' is NULL", puzzlefs_delta(NULL, v2, &with_base, NULL, &error));
    FAIL(INVALID, "'image' is NULL", puzzlefs_delta(rootfs, NULL, &with_base, NULL, &error));
    FAIL(INVALID, "without a base", puzzlefs_delta(rootfs, v2, NULL, NULL, &error));
    FAIL(NOT_FOUND, "there is no layout", puzzlefs_delta(rootfs, v2, &missing, NULL, &error));
    FAIL(UNSUPPORTED, "'options.marks' is 3", puzzlefs_delta(rootfs, v2, &marks, NULL, &error));
    FAIL(UNSUPPORTED, "unknown bits", puzzlefs_delta(rootfs, v2, &trusting, NULL, &error));
    FAIL(INVALID, "'from' is NULL", puzzlefs_canonicalize(NULL, v2, NULL, NULL, &error));
    FAIL(INVALID, "has no base", puzzlefs_canonicalize(v1, v2, &with_base, NULL, &error));
    FAIL(INVALID, "is no platform", puzzlefs_canonicalize(v1, v2, &platform, NULL, &error));
    FAIL(NOT_FOUND, "v2", puzzlefs_canonicalize(v2, v2, NULL, NULL, &error));
    FAIL(INVALID, "'from' is NULL", puzzlefs_convert(NULL, v2, NULL, NULL, &error));
    FAIL(INVALID, "has no base", puzzlefs_convert(v1, v2, &with_base, NULL, &error));
    FAIL(INVALID, "a puzzlefs image already", puzzlefs_convert(v1, v2, NULL, NULL, &error));
    FAIL(NOT_FOUND, "v2", puzzlefs_image_open(v2, NULL, &image, &error));

    CHECK(puzzlefs_image_open(v1, NULL, &image, &error) == PUZZLEFS_OK);
    FAIL(INVALID, "'image' is NULL", puzzlefs_image_export(NULL, 1, NULL, NULL, &error));
    FAIL(INVALID, "'fd' is -1", puzzlefs_image_export(image, -1, NULL, NULL, &error));
    FAIL(PUZZLEFS_ERR_IO, "cannot write the archive", puzzlefs_image_export(image, 9999, NULL, NULL, &error));
    puzzlefs_image_free(image);
}

static void build(void)
{
    NEWER(puzzlefs_build_options) options = { .known = { .size = sizeof(options) } };
    NEWER(puzzlefs_build_result) result = { .known = { .size = sizeof(result) } };
    puzzlefs_image *image;

    FAIL(INVALID, "'rootfs' is NULL", puzzlefs_build(NULL, v2, NULL, NULL, &error));
    FAIL(INVALID, "'image' is NULL", puzzlefs_build(rootfs, NULL, NULL, NULL, &error));
    CHECK(puzzlefs_build(NULL, NULL, NULL, NULL, NULL) == INVALID);

    CHECK(puzzlefs_build("/does/not/exist", v2, NULL, NULL, &error) == NOT_FOUND);
    CHECK(puzzlefs_error_errno(error) == ENOENT);
    CHECK(strcmp(puzzlefs_error_path(error), "/does/not/exist") == 0);
    puzzlefs_error_free(error);

    result.known.size = sizeof(puzzlefs_build_result) - 1;
    FAIL(INVALID, "'result.size'", puzzlefs_build(rootfs, v2, NULL, &result.known, &error));
    options.bytes[sizeof(options) - 1] = 1;
    FAIL(UNSUPPORTED, "knows no such option", puzzlefs_build(rootfs, v2, &options.known, NULL, &error));
    /* Nothing of all that has built anything. */
    FAIL(NOT_FOUND, "v2", puzzlefs_image_open(v2, NULL, &image, &error));

    /* A newer header than the library's is fine, as long as nothing new is asked for. */
    options.bytes[sizeof(options) - 1] = 0;
    memset(&result, 0xff, sizeof(result));
    result.known.size = sizeof(result);
    SUCCEED(puzzlefs_build(rootfs, v2, &options.known, &result.known, &error));
    CHECK(result.known.size == sizeof(result));
    CHECK(strlen(result.known.digest) == 71 && strlen(result.known.verity) == 64);
    for (size_t i = sizeof(puzzlefs_build_result) + GROWN; i < sizeof(result); i++)
        CHECK(result.bytes[i] == 0);
}

static void open_image(void)
{
    puzzlefs_open_options options = { .size = sizeof(options), .flags = 1 << 1 };
    puzzlefs_image *image;

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_open(NULL, NULL, &image, &error));
    FAIL(INVALID, "'opened' is NULL", puzzlefs_image_open(v1, NULL, NULL, &error));
    FAIL(UNSUPPORTED, "unknown bits 0x2", puzzlefs_image_open(v1, &options, &image, &error));
    options.flags = 0;
    options.platform = "";
    FAIL(INVALID, "is no platform", puzzlefs_image_open(v1, &options, &image, &error));
    options.size = 0;
    FAIL(INVALID, "'options.size'", puzzlefs_image_open(v1, &options, &image, &error));
}

static uint64_t find(const puzzlefs_image *image, const char *path, uint64_t flags)
{
    uint64_t ino;

    SUCCEED(puzzlefs_image_lookup(image, path, flags, &ino, &error));
    return ino;
}

static void read_image(const puzzlefs_image *image)
{
    uint64_t file = find(image, "file", 0), dir = find(image, "/./dir//", 0), ino;
    uint64_t link = find(image, "link", PUZZLEFS_LOOKUP_NOFOLLOW);
    NEWER(puzzlefs_stat) stat = { .known = { .size = sizeof(stat) } };
    puzzlefs_dirent entry = { .size = sizeof(entry) };
    puzzlefs_xattr xattr = { .size = sizeof(xattr) };
    const char *digest;
    char byte, *text;
    size_t done;

    CHECK(find(image, "link", 0) == file && find(image, "", 0) == 1 && find(image, "../..", 0) == 1);

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_digest(NULL, &digest, &error));
    FAIL(INVALID, "'digest' is NULL", puzzlefs_image_digest(image, NULL, &error));

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_lookup(NULL, "file", 0, &ino, &error));
    FAIL(INVALID, "'path' is NULL", puzzlefs_image_lookup(image, NULL, 0, &ino, &error));
    FAIL(INVALID, "'ino' is NULL", puzzlefs_image_lookup(image, "file", 0, NULL, &error));
    FAIL(UNSUPPORTED, "'flags'", puzzlefs_image_lookup(image, "file", 1 << 1, &ino, &error));
    CHECK(puzzlefs_image_lookup(image, "dir/missing", 0, &ino, &error) == NOT_FOUND);
    CHECK(strcmp(puzzlefs_error_path(error), "dir/missing") == 0 && puzzlefs_error_errno(error) == 0);
    puzzlefs_error_free(error);
    FAIL(NOT_FOUND, "not a directory", puzzlefs_image_lookup(image, "file/x", 0, &ino, &error));

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_stat(NULL, file, &stat.known, &error));
    FAIL(INVALID, "'stat' is NULL", puzzlefs_image_stat(image, file, NULL, &error));
    FAIL(NOT_FOUND, "no inode 0", puzzlefs_image_stat(image, 0, &stat.known, &error));
    FAIL(NOT_FOUND, "no inode 4294967297", puzzlefs_image_stat(image, UINT64_C(4294967297), &stat.known, &error));
    stat.bytes[sizeof(stat) - 1] = 1;
    SUCCEED(puzzlefs_image_stat(image, file, &stat.known, &error));
    CHECK(stat.known.ino == file && stat.bytes[sizeof(stat) - 1] == 0);
    stat.known.size = 8;
    FAIL(INVALID, "'stat.size' is 8", puzzlefs_image_stat(image, file, &stat.known, &error));

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_read(NULL, file, &byte, 1, 0, &done, &error));
    FAIL(INVALID, "'buffer' is NULL", puzzlefs_image_read(image, file, NULL, 1, 0, &done, &error));
    FAIL(INVALID, "cannot have", puzzlefs_image_read(image, file, &byte, SIZE_MAX, 0, &done, &error));
    FAIL(INVALID, "'done' is NULL", puzzlefs_image_read(image, file, &byte, 1, 0, NULL, &error));
    FAIL(INVALID, "not a regular file", puzzlefs_image_read(image, dir, &byte, 1, 0, &done, &error));
    FAIL(NOT_FOUND, "no inode", puzzlefs_image_read(image, UINT64_MAX, &byte, 1, 0, &done, &error));
    SUCCEED(puzzlefs_image_read(image, file, NULL, 0, 0, &done, &error));
    CHECK(done == 0);
    done = 1;
    SUCCEED(puzzlefs_image_read(image, file, &byte, 1, UINT64_MAX, &done, &error));
    CHECK(done == 0);

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_readlink(NULL, link, &text, &error));
    CHECK(text == NULL);
    FAIL(INVALID, "'target' is NULL", puzzlefs_image_readlink(image, link, NULL, &error));
    FAIL(INVALID, "not a symbolic link", puzzlefs_image_readlink(image, file, &text, &error));
    CHECK(text == NULL);

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_readdir(NULL, 1, 0, &entry, &error));
    FAIL(INVALID, "'entry' is NULL", puzzlefs_image_readdir(image, 1, 0, NULL, &error));
    FAIL(INVALID, "not a directory", puzzlefs_image_readdir(image, file, 0, &entry, &error));
    SUCCEED(puzzlefs_image_readdir(image, 1, UINT64_MAX, &entry, &error));
    CHECK(entry.ino == 0 && entry.name_length == 0 && entry.name[0] == '\0');
    entry.size--;
    FAIL(INVALID, "'entry.size'", puzzlefs_image_readdir(image, 1, 0, &entry, &error));

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_xattr(NULL, 1, 0, &xattr, &error));
    FAIL(INVALID, "'xattr' is NULL", puzzlefs_image_xattr(image, 1, 0, NULL, &error));
    SUCCEED(puzzlefs_image_xattr(image, link, UINT64_MAX, &xattr, &error));
    CHECK(xattr.value == NULL && xattr.value_length == 0 && xattr.name_length == 0);

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_inspect(NULL, &text, &error));
    CHECK(text == NULL);
    FAIL(INVALID, "'json' is NULL", puzzlefs_image_inspect(image, NULL, &error));
    SUCCEED(puzzlefs_image_inspect(image, &text, &error));
    CHECK(text[0] == '{' && strstr(text, "\"manifest\"") != NULL && strchr(text, '\n') == NULL);
    puzzlefs_string_free(text);
}

static void extract(const puzzlefs_image *image)
{
    puzzlefs_extract_options options = { .size = sizeof(options), .flags = 1 << 1 };
    puzzlefs_extract_result result = { .size = 0 };

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_extract(NULL, "x", NULL, NULL, &error));
    FAIL(INVALID, "'target' is NULL", puzzlefs_image_extract(image, NULL, NULL, NULL, &error));
    FAIL(INVALID, "'result.size' is 0", puzzlefs_image_extract(image, "/does/not/exist", NULL, &result, &error));
    FAIL(UNSUPPORTED, "'options.flags'", puzzlefs_image_extract(image, "/does/not/exist", &options, NULL, &error));
    options.flags = 0;
    options.reserved = 1;
    FAIL(UNSUPPORTED, "'options.reserved'", puzzlefs_image_extract(image, "/does/not/exist", &options, NULL, &error));
    FAIL(PUZZLEFS_ERR_ALREADY_EXISTS, "not empty", puzzlefs_image_extract(image, rootfs, NULL, NULL, &error));
    FAIL(NOT_FOUND, "/does/not", puzzlefs_image_extract(image, "/does/not/exist", NULL, NULL, &error));
}

static void fsck(void)
{
    static const char *const nowhere[] = { "/does/not/exist", NULL };
    puzzlefs_fsck_options options = { .size = sizeof(options), .flags = 1 };
    puzzlefs_fsck_summary summary = { .size = sizeof(summary) };
    puzzlefs_finding finding = { .size = sizeof(finding) };
    puzzlefs_fsck_report *report;

    FAIL(INVALID, "'target' is NULL", puzzlefs_fsck(NULL, NULL, &report, &error));
    CHECK(report == NULL);
    FAIL(INVALID, "'report' is NULL", puzzlefs_fsck(v1, NULL, NULL, &error));
    FAIL(UNSUPPORTED, "'options.flags'", puzzlefs_fsck(v1, &options, &report, &error));
    FAIL(NOT_FOUND, "/does/not/exist", puzzlefs_fsck("/does/not/exist", NULL, &report, &error));
    options.flags = 0;
    options.repair_from = nowhere;
    FAIL(NOT_FOUND, "/does/not/exist", puzzlefs_fsck(v1, &options, &report, &error));

    SUCCEED(puzzlefs_fsck(v1, NULL, &report, &error));
    FAIL(INVALID, "'report' is NULL", puzzlefs_fsck_report_summary(NULL, &summary, &error));
    FAIL(INVALID, "'summary' is NULL", puzzlefs_fsck_report_summary(report, NULL, &error));
    FAIL(INVALID, "'finding' is NULL", puzzlefs_fsck_report_finding(report, 0, NULL, &error));
    FAIL(NOT_FOUND, "no finding 0", puzzlefs_fsck_report_finding(report, 0, &finding, &error));
    SUCCEED(puzzlefs_fsck_report_summary(report, &summary, &error));
    CHECK(summary.findings == 0 && summary.errors == 0 && summary.images == 1 && summary.blobs >= 3);
    puzzlefs_fsck_report_free(report);
}

/* Everything that can be wrong with a change of the configuration. */
static void config(void)
{
    static const char *const not_utf8[] = { "\xff", NULL };
    static const char *const unknown[] = { "config.onbuild", NULL };
    static const char *const lonely[] = { "lonely", NULL };
    static const char *const empty[] = { "", "x", NULL };
    static const struct {
        puzzlefs_status status;
        const char *text;
        puzzlefs_config_options options;
    } cases[] = {
        { INVALID, "'options.size' is 0", { .flags = 0 } },
        { INVALID, "at least", { .size = sizeof(puzzlefs_config_options) - 1 } },
#define SIZED_CONFIG .size = sizeof(puzzlefs_config_options)
        { UNSUPPORTED, "unknown bits 0x2", { SIZED_CONFIG, .flags = 2 } },
        { INVALID, "does not say so", { SIZED_CONFIG, .created = 1 } },
        { INVALID, "'a/b' is no tag", { SIZED_CONFIG, .tag = "a/b" } },
        { INVALID, "'options.tag' is not UTF-8", { SIZED_CONFIG, .tag = "\xff" } },
        { INVALID, "is no platform", { SIZED_CONFIG, .platform = "linux" } },
        { INVALID, "'config.onbuild' is nothing to be cleared", { SIZED_CONFIG, .clear = unknown } },
        { INVALID, "'options.entrypoint' is not UTF-8", { SIZED_CONFIG, .entrypoint = not_utf8 } },
        { INVALID, "'options.cmd' is not UTF-8", { SIZED_CONFIG, .cmd = not_utf8 } },
        { INVALID, "expected NAME=VALUE", { SIZED_CONFIG, .env = lonely } },
        { INVALID, "'options.labels' ends with a key, 'lonely'", { SIZED_CONFIG, .labels = lonely } },
        { INVALID, "a label without a key", { SIZED_CONFIG, .labels = empty } },
        { INVALID, "'options.annotations' ends with a key", { SIZED_CONFIG, .annotations = lonely } },
        { INVALID, "an annotation without a key", { SIZED_CONFIG, .annotations = empty } },
        { INVALID, "a volume without a path", { SIZED_CONFIG, .volumes = empty } },
        { INVALID, "'lonely' is no port", { SIZED_CONFIG, .exposed_ports = lonely } },
        { INVALID, "'options.user' is not UTF-8", { SIZED_CONFIG, .user = "\xff" } },
        { INVALID, "'options.config' is NULL", { SIZED_CONFIG, .config_length = 1 } },
        { INVALID, "not a JSON object", { SIZED_CONFIG, .config = (const uint8_t *)"3", .config_length = 1 } },
        { INVALID, "an empty architecture", { SIZED_CONFIG, .architecture = "" } },
    };
    puzzlefs_config_result result = { .size = sizeof(result) - 1 };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        FAIL(cases[i].status, cases[i].text, puzzlefs_config(v1, &cases[i].options, NULL, &error));
    FAIL(INVALID, "'image' is NULL", puzzlefs_config(NULL, NULL, NULL, &error));
    FAIL(INVALID, "names no image", puzzlefs_config("images", NULL, NULL, &error));
    FAIL(INVALID, "'result.size'", puzzlefs_config(v1, NULL, &result, &error));
    FAIL(NOT_FOUND, "there is no layout", puzzlefs_config("/does/not/exist:v1", NULL, NULL, &error));
}

static void tags(const char *layout)
{
    static const struct {
        puzzlefs_status status;
        const char *text;
        puzzlefs_tag_options options;
    } cases[] = {
        { INVALID, "at least", { .size = sizeof(puzzlefs_tag_options) - 1 } },
        { UNSUPPORTED, "unknown bits 0x1", { .size = sizeof(puzzlefs_tag_options), .flags = 1 } },
    };
    char *json;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        FAIL(cases[i].status, cases[i].text, puzzlefs_tag(v1, "x", &cases[i].options, &error));
        FAIL(cases[i].status, cases[i].text, puzzlefs_untag(v1, &cases[i].options, &error));
    }
    FAIL(INVALID, "'image' is NULL", puzzlefs_tag(NULL, "x", NULL, &error));
    FAIL(INVALID, "'tag' is NULL", puzzlefs_tag(v1, NULL, NULL, &error));
    FAIL(INVALID, "'' is no tag", puzzlefs_tag(v1, "", NULL, &error));
    FAIL(INVALID, "'tag' is not UTF-8", puzzlefs_tag(v1, "\xff", NULL, &error));
    FAIL(NOT_FOUND, "there is no layout", puzzlefs_tag("/does/not/exist:v1", "x", NULL, &error));
    FAIL(NOT_FOUND, "there is no layout", puzzlefs_untag("/does/not/exist:v1", NULL, &error));
    FAIL(INVALID, "'image' is NULL", puzzlefs_untag(NULL, NULL, &error));
    FAIL(INVALID, "'layout' is NULL", puzzlefs_tags(NULL, &json, &error));
    CHECK(json == NULL);
    FAIL(INVALID, "'json' is NULL", puzzlefs_tags(layout, NULL, &error));
    FAIL(NOT_FOUND, "there is no layout", puzzlefs_tags("/does/not/exist", &json, &error));
}

static void gc(const char *layout)
{
    puzzlefs_gc_options options = { .size = sizeof(options), .flags = 1 << 2 };
    char *json;

    FAIL(INVALID, "'layout' is NULL", puzzlefs_gc(NULL, NULL, &json, &error));
    CHECK(json == NULL);
    FAIL(NOT_FOUND, "there is no layout", puzzlefs_gc("/does/not/exist", NULL, NULL, &error));
    FAIL(UNSUPPORTED, "'options.flags'", puzzlefs_gc(layout, &options, &json, &error));
    options.flags = 0;
    options.grace = 1;
    FAIL(INVALID, "does not say so", puzzlefs_gc(layout, &options, &json, &error));
    options.size = 1;
    FAIL(INVALID, "'options.size' is 1", puzzlefs_gc(layout, &options, &json, &error));
}

static int no_change(const puzzlefs_change *change, void *data)
{
    CHECK(change == NULL && data == NULL);
    return 0;
}

static void diff(const puzzlefs_image *image)
{
    NEWER(puzzlefs_diff_result) newer = { .known = { .size = sizeof(newer) } };
    puzzlefs_diff_result result = { .size = sizeof(result) - 1 };

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_diff(NULL, image, NULL, NULL, NULL, &error));
    FAIL(INVALID, "'other' is NULL", puzzlefs_image_diff(image, NULL, NULL, NULL, NULL, &error));
    FAIL(INVALID, "'result.size'", puzzlefs_image_diff(image, image, no_change, NULL, &result, &error));
    SUCCEED(puzzlefs_image_diff(image, image, NULL, NULL, NULL, &error));
    memset(newer.bytes + sizeof(newer.known), 0xff, sizeof(newer) - sizeof(newer.known));
    SUCCEED(puzzlefs_image_diff(image, image, no_change, NULL, &newer.known, &error));
    CHECK(newer.known.size == sizeof(newer));
    CHECK(newer.known.blobs == 0 && newer.known.bytes_data == 0 && newer.known.bytes_metadata == 0);
    for (size_t i = sizeof(newer.known) + GROWN; i < sizeof(newer); i++)
        CHECK(newer.bytes[i] == 0);
}

/* Everything that can be wrong with the options of a mount. */
static void mount_options(const puzzlefs_image *image)
{
    static const struct {
        puzzlefs_status status;
        const char *text;
        puzzlefs_mount_options options;
    } cases[] = {
        { INVALID, "'options.size' is 0", { .flags = 0 } },
#undef SIZED
#define SIZED .size = sizeof(puzzlefs_mount_options)
        { UNSUPPORTED, "'options.flags' has the unknown bits 0x80", { SIZED, .flags = 1 << 7 } },
        { UNSUPPORTED, "'options.reserved'", { SIZED, .reserved = 1 } },
        { INVALID, "in two ways", { SIZED, .flags = PUZZLEFS_MOUNT_ALLOW_OTHER | PUZZLEFS_MOUNT_OWNER_ONLY } },
        { INVALID, "does not say so", { SIZED, .persist = "x" } },
        { INVALID, "maps no numbers", { SIZED, .uid_map = "0:1" } },
        { INVALID, "'options.gid_map' is not UTF-8", { SIZED, .gid_map = "\xff" } },
        { INVALID, "threads", { SIZED, .threads = UINT32_MAX } },
        { NOT_FOUND, "/does/not", { SIZED, .flags = PUZZLEFS_MOUNT_WRITABLE, .persist = "/does/not/exist" } },
    };
    puzzlefs_mount *mount;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        FAIL(cases[i].status, cases[i].text, puzzlefs_image_mount(image, rootfs, &cases[i].options, &mount, &error));
        CHECK(mount == NULL);
    }
}

static void mounts(const puzzlefs_image *image)
{
    puzzlefs_mount *mount;
    int over;

    FAIL(INVALID, "'image' is NULL", puzzlefs_image_mount(NULL, rootfs, NULL, &mount, &error));
    FAIL(INVALID, "'point' is NULL", puzzlefs_image_mount(image, NULL, NULL, &mount, &error));
    FAIL(INVALID, "'mounted' is NULL", puzzlefs_image_mount(image, rootfs, NULL, NULL, &error));
    FAIL(NOT_FOUND, "/does/not/exist", puzzlefs_image_mount(image, "/does/not/exist", NULL, &mount, &error));
    FAIL(INVALID, "not a directory", puzzlefs_image_mount(image, "/dev/null", NULL, &mount, &error));
    FAIL(INVALID, "would hide it", puzzlefs_image_mount(image, "/", NULL, &mount, &error));

    FAIL(INVALID, "'mount' is NULL", puzzlefs_mount_wait(NULL, 0, &over, &error));
    FAIL(INVALID, "'mount' is NULL", puzzlefs_mount_unmount(NULL, 0, &error));
    FAIL(INVALID, "not of this type", puzzlefs_mount_wait((const puzzlefs_mount *)(const void *)image, 0, &over, &error));
    CHECK(strcmp(puzzlefs_mount_point(NULL), "") == 0);

    FAIL(INVALID, "'point' is NULL", puzzlefs_unmount(NULL, 0, &error));
    FAIL(UNSUPPORTED, "'flags'", puzzlefs_unmount(rootfs, 1 << 1, &error));
    FAIL(NOT_FOUND, "nothing is mounted", puzzlefs_unmount(rootfs, 0, &error));
    FAIL(INVALID, "no puzzlefs image", puzzlefs_unmount("/proc", 0, &error));
}

static void digests(const puzzlefs_image *image)
{
    puzzlefs_check_options bad = { .size = 1 };
    static const char zeros[] = "0000000000000000000000000000000000000000000000000000000000000000";
    const char *digest;

    SUCCEED(puzzlefs_image_digest(image, &digest, &error));
    SUCCEED(puzzlefs_image_check(image, digest, NULL, &error));
    FAIL(INVALID, "'image' is NULL", puzzlefs_image_check(NULL, digest, NULL, &error));
    FAIL(INVALID, "'digest' is NULL", puzzlefs_image_check(image, NULL, NULL, &error));
    FAIL(INVALID, "'options.size'", puzzlefs_image_check(image, digest, &bad, &error));
    FAIL(INVALID, "neither a digest", puzzlefs_image_check(image, "x", NULL, &error));
    FAIL(PUZZLEFS_ERR_CORRUPT, "must have", puzzlefs_image_check(image, zeros, NULL, &error));
    FAIL(INVALID, "'image' is NULL", puzzlefs_image_enable_verity(NULL, NULL, NULL, &error));
    FAIL(INVALID, "no fs-verity digest", puzzlefs_image_enable_verity(image, digest, NULL, &error));
}

/* What is no such handle is told, as far as it can be. */
static void handles(puzzlefs_image *image)
{
    uint64_t room[2] = { 0, 0 };
    const char *digest;

    FAIL(INVALID, "not of this type", puzzlefs_image_digest((puzzlefs_image *)room, &digest, &error));
    FAIL(INVALID, "not of this type", puzzlefs_image_digest((puzzlefs_image *)(void *)((char *)room + 1), &digest, &error));
    FAIL(INVALID, "not of this type",
         puzzlefs_fsck_report_summary((puzzlefs_fsck_report *)(void *)image, NULL, &error));
    puzzlefs_fsck_report_free((puzzlefs_fsck_report *)(void *)image);
    SUCCEED(puzzlefs_image_digest(image, &digest, &error));

    puzzlefs_image_free(image);
    if (!SANITIZED) {
        FAIL(INVALID, "freed already", puzzlefs_image_digest(image, &digest, &error));
        puzzlefs_image_free(image);
    }
}

static void nothing(void)
{
    puzzlefs_image_free(NULL);
    puzzlefs_fsck_report_free(NULL);
    puzzlefs_mount_free(NULL);
    puzzlefs_string_free(NULL);
    puzzlefs_error_free(NULL);
    CHECK(puzzlefs_error_status(NULL) == PUZZLEFS_OK);
    CHECK(puzzlefs_error_errno(NULL) == 0);
    CHECK(strcmp(puzzlefs_error_message(NULL), "") == 0);
    CHECK(puzzlefs_error_path(NULL) == NULL);
}

/* The header is of the same version as the library that it came with. */
static void version(void)
{
    char numbers[64];

    CHECK(strcmp(puzzlefs_version(), PUZZLEFS_VERSION) == 0);
    snprintf(numbers, sizeof(numbers), "%d.%d.%d", PUZZLEFS_VERSION_MAJOR, PUZZLEFS_VERSION_MINOR,
             PUZZLEFS_VERSION_PATCH);
    CHECK(strcmp(numbers, PUZZLEFS_VERSION) == 0);
#if !PUZZLEFS_VERSION_AT_LEAST(0, 0, 9) || !PUZZLEFS_VERSION_AT_LEAST(0, 1, 0) || PUZZLEFS_VERSION_AT_LEAST(9, 0, 0)
#error "PUZZLEFS_VERSION_AT_LEAST compares wrongly"
#endif
}

int main(int argc, char **argv)
{
    puzzlefs_image *image;

    CHECK(argc == 3);
    rootfs = argv[1];
    snprintf(v1, sizeof(v1), "%s:v1", argv[2]);
    snprintf(v2, sizeof(v2), "%s:v2", argv[2]);

    nothing();
    references();
    build_options();
    other_sources();
    build();
    open_image();
    SUCCEED(puzzlefs_image_open(v1, NULL, &image, &error));
    read_image(image);
    extract(image);
    fsck();
    config();
    tags(argv[2]);
    version();
    gc(argv[2]);
    diff(image);
    mount_options(image);
    mounts(image);
    digests(image);
    handles(image);
    return 0;
}
