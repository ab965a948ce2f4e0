/*
 * Builds an image with every option set to something else than its default, in two ways that run.sh asks the
 * command-line tool for too.
 *
 *     options ROOTFS LAYOUT:TAG packs|chunks CONFIG-FILE
 */
#include "check.h"

int main(int argc, char **argv)
{
    static const char *const exclude[] = { "*.o", "dir/sub", NULL };
    static const char *const annotations[] = { "org.example.a", "one=1", "org.example.b", "two", NULL };
    puzzlefs_build_options options = {
        .size = sizeof(options),
        .flags = PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL | PUZZLEFS_BUILD_HAS_OWNER | PUZZLEFS_BUILD_HAS_CLAMP_MTIME |
                 PUZZLEFS_BUILD_HAS_CREATED | PUZZLEFS_BUILD_ONE_FILE_SYSTEM | PUZZLEFS_BUILD_SELINUX,
        .exclude = exclude,
        .annotations = annotations,
        .architecture = "riscv64",
        .os = "plan9",
        .author = "Ada",
        .created_by = "a test",
        .comment = "with everything",
        .created = 1234567890,
        .clamp_mtime = 1000000000,
        .uid = 12,
        .gid = 34,
        .pack_size = 2 << 20,
        .compression_level = 7,
        .threads = 1,
    };
    puzzlefs_build_result result = { .size = sizeof(result) };
    uint8_t config[4096];
    puzzlefs_error *error;
    FILE *file;

    CHECK(argc == 5);
    file = fopen(argv[4], "rb");
    CHECK(file != NULL);
    options.config = config;
    options.config_length = fread(config, 1, sizeof(config), file);
    fclose(file);
    if (strcmp(argv[3], "chunks") == 0) {
        options.flags &= ~(uint64_t)(PUZZLEFS_BUILD_HAS_COMPRESSION_LEVEL | PUZZLEFS_BUILD_SELINUX);
        options.compression = PUZZLEFS_COMPRESSION_NONE;
        options.compression_level = 0;
        options.data_layout = PUZZLEFS_DATA_LAYOUT_BLOB_PER_CHUNK;
        options.pack_size = 0;
    }
    SUCCEED(puzzlefs_build(argv[1], argv[2], &options, &result, &error));
    puts(result.digest);
    return 0;
}
