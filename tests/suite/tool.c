/*
 * All of the library as a command-line tool: see suite.bats, which tests this one and its like in Go and in Rust.
 *
 *     tool COMMAND [--OPTION[=VALUE]]... [OPERAND]...
 */
#define _XOPEN_SOURCE 700

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <puzzlefs.h>

/* What of the command line is not taken yet. */
static int argument_count;
static char **arguments;

static puzzlefs_error *error;

__attribute__((noreturn)) static void die(const char *what)
{
    fprintf(stderr, "tool: wrong %s\n", what);
    exit(2);
}

/* By the number of the status, negated. */
static const char *const kinds[] = {
    "OK",          "InvalidInput", "NotFound", "AlreadyExists", "PermissionDenied", "Corrupt",
    "Unsupported", "Changed",      "NoSpace",  "Cancelled",     "Io",               "Internal",
};

static void check(puzzlefs_status status)
{
    if (status == PUZZLEFS_OK)
        return;
    fprintf(stderr, "%s: %s\n", kinds[-status], puzzlefs_error_message(error));
    puzzlefs_error_free(error);
    exit(1);
}

/* Takes `--NAME` or `--NAME=VALUE`; NULL if there is none. */
static char *take(const char *name)
{
    size_t length = strlen(name);
    int i;

    for (i = 0; i < argument_count; i++) {
        char *found = arguments[i];
        if (strncmp(found, name, length) != 0 || (found[length] != '=' && found[length] != '\0'))
            continue;
        argument_count--;
        memmove(&arguments[i], &arguments[i + 1], (size_t)(argument_count - i) * sizeof(*arguments));
        return found[length] == '=' ? found + length + 1 : found + length;
    }
    return NULL;
}

static uint64_t flag(const char *name, uint64_t bit)
{
    return take(name) != NULL ? bit : 0;
}

static int64_t number(const char *name, uint64_t bit, uint64_t *flags)
{
    const char *value = take(name);

    if (value == NULL)
        return 0;
    *flags |= bit;
    return strtoll(value, NULL, 10);
}

/* All values of an option, split where the separator first is, with NULL behind the last. */
static const char *const *list(const char *name, const char *separator)
{
    const char **values = calloc((size_t)argument_count * 2 + 1, sizeof(*values));
    size_t count = 0;
    char *value;

    if (values == NULL)
        die("amount of memory");
    while ((value = take(name)) != NULL) {
        values[count++] = value;
        if (separator != NULL) {
            values[count++] = value + strcspn(value, separator) + 1;
            value[strcspn(value, separator)] = '\0';
        }
    }
    return count == 0 ? NULL : values;
}

/* What a file holds, as an option has its path. */
static const uint8_t *content(const char *name, size_t *length)
{
    static uint8_t bytes[1 << 16];
    const char *path = take(name);
    FILE *file = path == NULL ? NULL : fopen(path, "rb");

    if (path == NULL)
        return NULL;
    if (file == NULL)
        die(name);
    *length = fread(bytes, 1, sizeof(bytes), file);
    fclose(file);
    return bytes;
}

/* The index of an option's value among all there are; 0 if it is not given. */
static uint32_t choice(const char *name, const char *const *values)
{
    const char *value = take(name);
    uint32_t i;

    for (i = 0; value != NULL && strcmp(values[i], value) != 0; i++)
        if (values[i + 1] == NULL)
            die(name);
    return i;
}

/* The operands: all that is left of the command line. */
static char **operands(int count)
{
    int i;

    for (i = 0; i < argument_count; i++)
        if (strncmp(arguments[i], "--", 2) == 0)
            die(arguments[i]);
    if (argument_count != count)
        die("number of operands");
    return arguments;
}

/* Opens the image that is the first of so many operands. */
static puzzlefs_image *open_image(int count)
{
    puzzlefs_open_options options = { .size = sizeof(options), .platform = take("--platform") };
    puzzlefs_image *image;

    options.flags = flag("--no-verify", PUZZLEFS_OPEN_NO_VERIFY);
    check(puzzlefs_image_open(*operands(count), &options, &image, &error));
    return image;
}

/* The inode whose path is the second operand. */
static uint64_t look_up(const puzzlefs_image *image, uint64_t flags)
{
    uint64_t ino;

    check(puzzlefs_image_lookup(image, arguments[1], flags, &ino, &error));
    return ino;
}

static int cancel(const puzzlefs_progress *progress, void *data)
{
    (void)progress;
    (void)data;
    return 1;
}

static puzzlefs_build_options build_options(void)
{
    static const char *const layouts[] = { "packs", "blob-per-chunk", NULL };
    static const char *const marks[] = { "auto", "trusted", "user", NULL };
    puzzlefs_build_options options = { .size = sizeof(options) };
    const char *compression = take("--compression");
    const char *owner = take("--owner");

    options.flags = flag("--one-file-system", PUZZLEFS_BUILD_ONE_FILE_SYSTEM) |
                    flag("--selinux", PUZZLEFS_BUILD_SELINUX) | flag("--trust-mtime", PUZZLEFS_BUILD_TRUST_MTIME) |
                    flag("--verify-base", PUZZLEFS_BUILD_VERIFY_BASE) | flag("--squash", PUZZLEFS_BUILD_SQUASH);
    options.exclude = list("--exclude", NULL);
    options.annotations = list("--annotation", "=");
    options.config = content("--config", &options.config_length);
    options.base = take("--base");
    options.platform = take("--platform");
    options.architecture = take("--architecture");
    options.os = take("--os");
    options.author = take("--author");
    options.created_by = take("--created-by");
    options.comment = take("--comment");
    options.created = number("--created", PUZZLEFS_BUILD_HAS_CREATED, &options.flags);
    options.clamp_mtime = number("--clamp-mtime", PUZZLEFS_BUILD_HAS_CLAMP_MTIME, &options.flags);
    options.pack_size = (uint64_t)number("--pack-size", 0, &options.flags);
    options.memory_limit = (uint64_t)number("--memory-limit", 0, &options.flags);
    options.data_layout = choice("--layout", layouts);
    options.marks = choice("--marks", marks);
    options.threads = (uint32_t)number("--threads", 0, &options.flags);
    options.progress = flag("--cancel", 1) ? cancel : NULL;
    if (owner != NULL && sscanf(owner, "%" SCNu32 ":%" SCNu32, &options.uid, &options.gid) == 2)
        options.flags |= PUZZLEFS_BUILD_HAS_OWNER;
    if (compression != NULL && sscanf(compression, "zstd:%" SCNd32, &options.compression_level) == 1)
        options.flags |= PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL;
    else if (compression != NULL)
        options.compression = PUZZLEFS_COMPRESSION_NONE;
    return options;
}

static void show(const char *name, uint64_t value)
{
    printf("%s %" PRIu64 "\n", name, value);
}

typedef puzzlefs_status (*builder)(const char *, const char *, const puzzlefs_build_options *, puzzlefs_build_result *,
                                   puzzlefs_error **);

static void run_builder(builder run)
{
    puzzlefs_build_options options = build_options();
    puzzlefs_build_result result = { .size = sizeof(result) };
    char **operand = operands(2);

    check(run(operand[0], operand[1], &options, &result, &error));
    printf("digest %s\nverity %s\n", result.digest, result.verity);
    show("size", result.manifest_size);
    show("inodes", result.inodes);
    show("files", result.files);
    show("unchanged_files", result.unchanged_files);
    show("layers", result.layers);
    show("chunks", result.chunks);
    show("new_chunks", result.new_chunks);
    show("tree", result.bytes_tree);
    show("read", result.bytes_read);
    show("new", result.bytes_new);
    show("moved", result.bytes_moved);
    show("stored", result.bytes_stored);
    show("copied", result.bytes_copied);
    show("shared", result.bytes_shared);
    show("metadata", result.bytes_metadata);
}

static void build(void) { run_builder(puzzlefs_build); }
static void delta(void) { run_builder(puzzlefs_delta); }
static void convert(void) { run_builder(puzzlefs_convert); }
static void canonicalize(void) { run_builder(puzzlefs_canonicalize); }

static void config(void)
{
    puzzlefs_config_options options = { .size = sizeof(options) };
    puzzlefs_config_result result = { .size = sizeof(result) };

    options.tag = take("--tag");
    options.platform = take("--platform");
    options.clear = list("--clear", NULL);
    options.entrypoint = list("--entrypoint", NULL);
    options.cmd = list("--cmd", NULL);
    options.env = list("--env", NULL);
    options.labels = list("--label", "=");
    options.volumes = list("--volume", NULL);
    options.exposed_ports = list("--expose", NULL);
    options.annotations = list("--annotation", "=");
    options.user = take("--user");
    options.working_dir = take("--workdir");
    options.stop_signal = take("--stop-signal");
    options.config = content("--config", &options.config_length);
    options.architecture = take("--architecture");
    options.os = take("--os");
    options.author = take("--author");
    options.created_by = take("--created-by");
    options.comment = take("--comment");
    options.created = number("--created", PUZZLEFS_CONFIG_HAS_CREATED, &options.flags);
    check(puzzlefs_config(*operands(1), &options, &result, &error));
    printf("digest %s\nverity %s\n", result.digest, result.verity);
    show("size", result.manifest_size);
}

static void tag(void)
{
    char **operand = operands(2);

    check(puzzlefs_tag(operand[0], operand[1], NULL, &error));
}

static void untag(void)
{
    check(puzzlefs_untag(*operands(1), NULL, &error));
}

static void tags(void)
{
    char *json;

    check(puzzlefs_tags(*operands(1), &json, &error));
    puts(json);
    puzzlefs_string_free(json);
}

static void gc(void)
{
    puzzlefs_gc_options options = { .size = sizeof(options), .flags = flag("--dry-run", PUZZLEFS_GC_DRY_RUN) };
    char *json;

    options.grace = (uint64_t)number("--grace", PUZZLEFS_GC_HAS_GRACE, &options.flags);
    check(puzzlefs_gc(*operands(1), &options, &json, &error));
    puts(json);
    puzzlefs_string_free(json);
}

/* Prints a part of a list of tags as the library's messages have text, escaped, and of the list no more than 8 KiB;
 * returns how long the list is by now, SIZE_MAX once it is cut. */
static size_t show_part(const char *text, size_t at)
{
    static const size_t longest = 8 * 1024;
    unsigned char byte, next;

    for (; *text != '\0' && at != SIZE_MAX; text++, at++) {
        byte = (unsigned char)text[0];
        next = (unsigned char)text[1];
        if (at >= longest && (byte & 0xc0) != 0x80) {
            fputs("\xe2\x80\xa6", stdout);
            return SIZE_MAX;
        }
        if (byte == '\t' || byte == '\n' || byte == '\r') {
            printf("\\%c", byte == '\t' ? 't' : byte == '\n' ? 'n' : 'r');
        } else if (byte < 0x20 || byte == 0x7f) {
            printf("\\u{%x}", (unsigned)byte);
        } else if (byte == 0xc2 && next >= 0x80 && next < 0xa0) {
            printf("\\u{%x}", (unsigned)next);
            text++;
            at++;
        } else {
            putchar(byte);
        }
    }
    return at;
}

static void fsck(void)
{
    static const char *const severities[] = { "?", "error", "warning", "repaired" };
    puzzlefs_fsck_options options = { .size = sizeof(options), .repair_from = list("--repair-from", NULL) };
    puzzlefs_fsck_report *report;
    puzzlefs_fsck_summary summary = { .size = sizeof(summary) };
    puzzlefs_finding finding = { .size = sizeof(finding) };
    const char *hurts;
    uint64_t i;
    size_t tag, shown;

    check(puzzlefs_fsck(*operands(1), &options, &report, &error));
    check(puzzlefs_fsck_report_summary(report, &summary, &error));
    for (i = 0; i < summary.findings; i++) {
        check(puzzlefs_fsck_report_finding(report, i, &finding, &error));
        printf("%s: %s", severities[finding.severity], finding.message);
        hurts = finding.severity == PUZZLEFS_SEVERITY_REPAIRED ? " (hurt: " : " (hurts: ";
        fputs(finding.tag_count == 0 ? "" : hurts, stdout);
        for (tag = 0, shown = 0; tag < finding.tag_count && tag < 100; tag++)
            shown = show_part(finding.tags[tag], show_part(tag == 0 ? "" : ", ", shown));
        if (finding.tag_count > tag)
            printf(" and %zu more", finding.tag_count - tag);
        puts(finding.tag_count == 0 ? "" : ")");
    }
    show("images", summary.images);
    show("blobs", summary.blobs);
    show("bytes", summary.bytes);
    show("unreferenced", summary.unreferenced);
    puzzlefs_fsck_report_free(report);
}

/* Prints path, type and permissions, links, owner, group, device, size, mtime, and target. */
static void stat_path(void)
{
    uint64_t flags = flag("--follow", 1) ? 0 : PUZZLEFS_LOOKUP_NOFOLLOW;
    puzzlefs_image *image = open_image(2);
    uint64_t ino = look_up(image, flags);
    puzzlefs_stat stat = { .size = sizeof(stat) };
    char *target;

    check(puzzlefs_image_stat(image, ino, &stat, &error));
    printf("%s %" PRIo32 " %" PRIu64 " %" PRIu32 " %" PRIu32, arguments[1], stat.mode, stat.nlink, stat.uid, stat.gid);
    printf(" %" PRIu32 ":%" PRIu32 " %" PRIu64, stat.rdev_major, stat.rdev_minor, stat.file_size);
    printf(" %" PRId64 " %" PRIu32, stat.mtime_seconds, stat.mtime_nanoseconds);
    if (S_ISLNK(stat.mode)) {
        check(puzzlefs_image_readlink(image, ino, &target, &error));
        printf(" -> %s", target);
        puzzlefs_string_free(target);
    }
    putchar('\n');
    puzzlefs_image_free(image);
}

static void ls(void)
{
    puzzlefs_image *image = open_image(2);
    uint64_t ino = look_up(image, 0);
    puzzlefs_dirent entry = { .size = sizeof(entry) };
    uint64_t i;

    for (i = 0;; i++) {
        check(puzzlefs_image_readdir(image, ino, i, &entry, &error));
        if (entry.ino == 0)
            break;
        printf("%" PRIo32 " %s\n", entry.mode, entry.name);
    }
    puzzlefs_image_free(image);
}

static void xattrs(void)
{
    puzzlefs_image *image = open_image(2);
    uint64_t ino = look_up(image, PUZZLEFS_LOOKUP_NOFOLLOW);
    puzzlefs_xattr xattr = { .size = sizeof(xattr) };
    uint64_t i;
    size_t byte;

    for (i = 0;; i++) {
        check(puzzlefs_image_xattr(image, ino, i, &xattr, &error));
        if (xattr.value == NULL)
            break;
        printf("%s=", xattr.name);
        for (byte = 0; byte < xattr.value_length; byte++)
            printf("%02x", xattr.value[byte]);
        putchar('\n');
    }
    puzzlefs_image_free(image);
}

static void cat(void)
{
    static char buffer[1 << 16];
    puzzlefs_image *image = open_image(2);
    uint64_t ino = look_up(image, 0);
    uint64_t offset = 0;
    size_t done;

    do {
        check(puzzlefs_image_read(image, ino, buffer, sizeof(buffer), offset, &done, &error));
        fwrite(buffer, 1, done, stdout);
        offset += done;
    } while (done != 0);
    puzzlefs_image_free(image);
}

static void inspect(void)
{
    puzzlefs_image *image = open_image(1);
    char *json;

    check(puzzlefs_image_inspect(image, &json, &error));
    puts(json);
    puzzlefs_string_free(json);
    puzzlefs_image_free(image);
}

static int print_change(const puzzlefs_change *change, void *data)
{
    static const char *const change_kinds[] = { NULL, "added", "removed", "changed" };
    /* By the number of the bit. */
    static const char *const aspects[] = {
        "type", "content", "target", "device", "mode", "owner", "time", "xattr", "links",
    };
    size_t bit;

    (void)data;
    fputs(change_kinds[change->kind], stdout);
    for (bit = 0; bit < sizeof(aspects) / sizeof(*aspects); bit++)
        if (change->aspects >> bit & 1)
            printf(" %s", aspects[bit]);
    printf(" %s\n", change->path);
    return 0;
}

static void diff(void)
{
    puzzlefs_diff_result result = { .size = sizeof(result) };
    puzzlefs_image *image = open_image(2);
    puzzlefs_image *other;

    check(puzzlefs_image_open(arguments[1], NULL, &other, &error));
    check(puzzlefs_image_diff(image, other, print_change, NULL, &result, &error));
    show("blobs", result.blobs);
    show("data", result.bytes_data);
    show("metadata", result.bytes_metadata);
    puzzlefs_image_free(other);
    puzzlefs_image_free(image);
}

static void check_digest(void)
{
    puzzlefs_image *image = open_image(2);

    check(puzzlefs_image_check(image, arguments[1], NULL, &error));
    puzzlefs_image_free(image);
}

static void print_lost(const puzzlefs_lost *lost, void *data)
{
    (void)data;
    printf("lost %s %" PRIu64 " %s\n", lost->what, lost->count, lost->first);
}

static void extract(void)
{
    puzzlefs_extract_options options = { .size = sizeof(options), .lost = print_lost };
    puzzlefs_extract_result result = { .size = sizeof(result) };
    puzzlefs_image *image;

    options.flags = flag("--no-same-owner", PUZZLEFS_EXTRACT_NO_SAME_OWNER);
    options.threads = (uint32_t)number("--threads", 0, &options.flags);
    image = open_image(2);
    check(puzzlefs_image_extract(image, arguments[1], &options, &result, &error));
    show("inodes", result.inodes);
    show("bytes", result.bytes);
    puzzlefs_image_free(image);
}

static void export_image(void)
{
    puzzlefs_export_result result = { .size = sizeof(result) };
    puzzlefs_image *image = open_image(2);
    int fd = open(arguments[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);

    if (fd < 0)
        die(arguments[1]);
    check(puzzlefs_image_export(image, fd, NULL, &result, &error));
    close(fd);
    show("entries", result.entries);
    show("bytes", result.bytes);
    show("sockets", result.sockets);
    puzzlefs_image_free(image);
}

static void print_log(const char *line, void *data)
{
    (void)data;
    fprintf(stderr, "log: %s\n", line);
}

/* Mounts until standard input ends. */
static void mount_image(void)
{
    puzzlefs_mount_options options = { .size = sizeof(options), .log = print_log };
    puzzlefs_image *image;
    puzzlefs_mount *mount;

    options.flags = flag("--allow-other", PUZZLEFS_MOUNT_ALLOW_OTHER) |
                    flag("--owner-only", PUZZLEFS_MOUNT_OWNER_ONLY) |
                    flag("--default-permissions", PUZZLEFS_MOUNT_DEFAULT_PERMISSIONS) |
                    flag("--nosuid", PUZZLEFS_MOUNT_NOSUID) | flag("--nodev", PUZZLEFS_MOUNT_NODEV) |
                    flag("--noexec", PUZZLEFS_MOUNT_NOEXEC) | flag("--writable", PUZZLEFS_MOUNT_WRITABLE);
    options.persist = take("--persist");
    options.flags |= options.persist != NULL ? PUZZLEFS_MOUNT_WRITABLE : 0;
    options.uid_map = take("--uid-map");
    options.gid_map = take("--gid-map");
    options.source = take("--source");
    options.threads = (uint32_t)number("--threads", 0, &options.flags);
    image = open_image(2);
    check(puzzlefs_image_mount(image, arguments[1], &options, &mount, &error));
    puzzlefs_image_free(image);
    puts(puzzlefs_mount_point(mount));
    fflush(stdout);
    while (getchar() != EOF)
        ;
    check(puzzlefs_mount_unmount(mount, 0, &error));
    puzzlefs_mount_free(mount);
}

static void unmount(void)
{
    uint64_t flags = flag("--lazy", PUZZLEFS_UNMOUNT_LAZY);

    check(puzzlefs_unmount(*operands(1), flags, &error));
}

static void version(void)
{
    operands(0);
    puts(puzzlefs_version());
}

static const struct {
    const char *name;
    void (*run)(void);
} commands[] = {
    { "build", build },     { "delta", delta },        { "convert", convert }, { "canonicalize", canonicalize },
    { "config", config },   { "tag", tag },            { "untag", untag },     { "tags", tags },
    { "gc", gc },           { "fsck", fsck },          { "stat", stat_path },  { "ls", ls },
    { "xattrs", xattrs },   { "cat", cat },            { "inspect", inspect }, { "diff", diff },
    { "extract", extract }, { "export", export_image }, { "mount", mount_image }, { "unmount", unmount },
    { "check", check_digest }, { "version", version },
};

int main(int argc, char **argv)
{
    size_t i;

    for (i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++) {
        if (strcmp(commands[i].name, argv[1]) != 0)
            continue;
        argument_count = argc - 2;
        arguments = argv + 2;
        commands[i].run();
        if (fflush(stdout) != 0)
            die("standard output");
        return 0;
    }
    die("command");
}
