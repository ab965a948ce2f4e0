/*
 * Extracts an image and prints what could not be restored, just as `puzzlefs extract` does.
 *
 *     extract IMAGE DIRECTORY
 */
#include "check.h"

static void tell(const puzzlefs_lost *lost, void *data)
{
    uint64_t *kinds = data;

    CHECK(lost->size == sizeof(*lost));
    printf("puzzlefs: warning: not restored: %s of %llu inodes, first '%s'\n", lost->what,
           (unsigned long long)lost->count, lost->first);
    ++*kinds;
}

int main(int argc, char **argv)
{
    uint64_t kinds = 0;
    puzzlefs_extract_options options = { .size = sizeof(options), .lost = tell, .data = &kinds };
    puzzlefs_extract_result result = { .size = sizeof(result) };
    puzzlefs_image *image;
    puzzlefs_error *error;

    CHECK(argc == 3);
    SUCCEED(puzzlefs_image_open(argv[1], NULL, &image, &error));
    SUCCEED(puzzlefs_image_extract(image, argv[2], &options, &result, &error));
    CHECK(result.lost == kinds);
    puzzlefs_image_free(image);
    return 0;
}
