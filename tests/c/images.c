/*
 * Does with a layout what images.sh does with another one by the command-line tool, and prints the same.
 *
 *     images LAYOUT CONFIG: the layout's tags `v1` and `packs` are images
 */
#include "check.h"

static puzzlefs_error *error;
static const char *layout;

/* LAYOUT:TAG, one at a time. */
static const char *image(const char *tag)
{
    static char name[4096];

    snprintf(name, sizeof(name), "%s:%s", layout, tag);
    return name;
}

static void print(char *json)
{
    CHECK(json != NULL && strchr(json, '\n') == NULL);
    puts(json);
    puzzlefs_string_free(json);
}

static void config(const char *path)
{
    static const char *const clear[] = { "config.env", "manifest.annotations", NULL };
    static const char *const entrypoint[] = { "/bin/sh", "-c", NULL };
    static const char *const cmd[] = { "true", NULL };
    static const char *const env[] = { "A=1=2", "B=", NULL };
    static const char *const labels[] = { "a", "b=c", "d", "", NULL };
    static const char *const volumes[] = { "/v", "/w", NULL };
    static const char *const ports[] = { "80/tcp", "53", NULL };
    static const char *const annotations[] = { "org.example.c", "d", NULL };
    static uint8_t start[4096];
    puzzlefs_config_options options = {
        .size = sizeof(options),
        .flags = PUZZLEFS_CONFIG_HAS_CREATED,
        .tag = "c",
        .platform = "linux/amd64",
        .clear = clear,
        .entrypoint = entrypoint,
        .cmd = cmd,
        .env = env,
        .labels = labels,
        .volumes = volumes,
        .exposed_ports = ports,
        .annotations = annotations,
        .user = "0:0",
        .working_dir = "/tmp",
        .stop_signal = "SIGINT",
        .config = start,
        .architecture = "riscv64",
        .os = "plan9",
        .author = "Ada",
        .created_by = "a test",
        .comment = "with everything",
        .created = -1,
    };
    puzzlefs_config_result result = { .size = sizeof(result) };
    FILE *file = fopen(path, "rb");

    CHECK(file != NULL);
    options.config_length = fread(start, 1, sizeof(start), file);
    CHECK(fclose(file) == 0);
    SUCCEED(puzzlefs_config(image("v1"), &options, &result, &error));
    CHECK(strlen(result.verity) == 64 && result.manifest_size > 0);
    puts(result.digest);
    /* Nothing but an entry of the history. */
    options = (puzzlefs_config_options){ .size = sizeof(options), .tag = "d" };
    SUCCEED(puzzlefs_config(image("c"), &options, NULL, &error));
}

static int print_change(const puzzlefs_change *change, void *data)
{
    /* By the number of the bit. */
    static const char *const aspects[] = {
        "type", "content", "target", "device", "mode", "owner", "time", "xattr", "links",
    };
    const char *separator = " (";
    uint64_t *seen = data;

    CHECK(change->size >= sizeof(*change) && change->reserved == 0);
    CHECK(strlen(change->path) == change->path_length);
    CHECK((change->kind == PUZZLEFS_CHANGE_CHANGED) == (change->aspects != 0));
    printf("%c %s", " +-~"[change->kind], change->path);
    for (size_t bit = 0; bit < sizeof(aspects) / sizeof(aspects[0]); bit++) {
        if (change->aspects >> bit & 1) {
            printf("%s%s", separator, aspects[bit]);
            separator = ", ";
        }
    }
    puts(change->aspects != 0 ? ")" : "");
    ++*seen;
    return 0;
}

static int stop_at_second(const puzzlefs_change *change, void *data)
{
    uint64_t *seen = data;

    (void)change;
    return ++*seen == 2 ? -1 : 0;
}

static void diff(void)
{
    puzzlefs_diff_result result = { .size = sizeof(result) }, untouched = result, alone = result;
    puzzlefs_image *first, *second;
    uint64_t seen = 0;

    SUCCEED(puzzlefs_image_open(image("v1"), NULL, &first, &error));
    SUCCEED(puzzlefs_image_open(image("packs"), NULL, &second, &error));
    FAIL(PUZZLEFS_ERR_CANCELLED, "cancelled",
         puzzlefs_image_diff(first, second, stop_at_second, &seen, &result, &error));
    CHECK(seen == 2 && memcmp(&result, &untouched, sizeof(result)) == 0);
    seen = 0;
    SUCCEED(puzzlefs_image_diff(first, second, print_change, &seen, &result, &error));
    printf("adds %llu bytes in %llu data blobs, %llu of metadata\n", (unsigned long long)result.bytes_data,
           (unsigned long long)result.blobs, (unsigned long long)result.bytes_metadata);
    CHECK(seen > 2 && result.blobs > 0 && result.bytes_data > 0 && result.bytes_metadata > 0);
    SUCCEED(puzzlefs_image_diff(first, second, NULL, NULL, &alone, &error));
    CHECK(memcmp(&result, &alone, sizeof(result)) == 0);
    puzzlefs_image_free(first);
    puzzlefs_image_free(second);
}

int main(int argc, char **argv)
{
    puzzlefs_gc_options gc = { .size = sizeof(gc), .flags = PUZZLEFS_GC_HAS_GRACE | PUZZLEFS_GC_DRY_RUN };
    char *json;

    CHECK(argc == 3);
    layout = argv[1];
    config(argv[2]);
    SUCCEED(puzzlefs_tag(image("c"), "d", NULL, &error));
    SUCCEED(puzzlefs_untag(image("c"), NULL, &error));
    SUCCEED(puzzlefs_tags(layout, &json, &error));
    print(json);
    diff();
    SUCCEED(puzzlefs_gc(layout, &gc, &json, &error));
    print(json);
    SUCCEED(puzzlefs_gc(layout, NULL, NULL, &error));
    gc.flags = PUZZLEFS_GC_HAS_GRACE;
    SUCCEED(puzzlefs_gc(layout, &gc, &json, &error));
    print(json);
    return 0;
}
