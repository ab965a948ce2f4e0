/*
 * Makes the next image of a base image and what an overlay's upperdir changes of it.
 *
 *     cc -o step step.c $(pkg-config --cflags --libs puzzlefs)
 *     ./step BASE UPPERDIR LAYOUT:TAG WHAT
 *
 * The history of the new image has one entry more, which says WHAT was done.
 */
#include <inttypes.h>
#include <stdio.h>

#include <puzzlefs.h>

int main(int argc, char **argv)
{
    puzzlefs_build_options options = { .size = sizeof(options) };
    puzzlefs_build_result result = { .size = sizeof(result) };
    puzzlefs_error *error;

    if (argc != 5) {
        fprintf(stderr, "usage: %s BASE UPPERDIR LAYOUT:TAG WHAT\n", argv[0]);
        return 2;
    }
    options.base = argv[1];
    options.created_by = argv[4];
    if (puzzlefs_delta(argv[2], argv[3], &options, &result, &error) != PUZZLEFS_OK) {
        fprintf(stderr, "%s\n", puzzlefs_error_message(error));
        puzzlefs_error_free(error);
        return 1;
    }
    fprintf(stderr, "%" PRIu64 " files, of which %" PRIu64 " are the base's; %" PRIu64 " bytes new\n", result.files,
            result.unchanged_files, result.bytes_new);
    puts(result.digest);
    return 0;
}
