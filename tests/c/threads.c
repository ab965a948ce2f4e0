/*
 * Any number of threads at once: on one image, on images of their own, into one layout.
 *
 *     threads ROOTFS LAYOUT: the layout's tag `v1` is an image of the directory
 */
#include <pthread.h>

#include "check.h"

enum { THREADS = 64, BUILDERS = 8, ROUNDS = 20 };

static const char *rootfs, *layout;
static char v1[4096];
static puzzlefs_image *shared;

/* Looks a file up and reads all of it, checks what it is, and fails with an error of its own. */
static void use(const puzzlefs_image *image, unsigned seed)
{
    static const char *const missing[] = { "no/such", "file/below", "dir/none" };
    puzzlefs_stat stat = { .size = sizeof(stat) };
    puzzlefs_error *error = NULL;
    const char *path = missing[seed % 3];
    char text[1000];
    uint64_t ino;
    size_t done;

    SUCCEED(puzzlefs_image_lookup(image, "dir/text", 0, &ino, &error));
    SUCCEED(puzzlefs_image_stat(image, ino, &stat, &error));
    for (uint64_t offset = 0; offset < stat.file_size; offset += sizeof(text) * 97) {
        SUCCEED(puzzlefs_image_read(image, ino, text, sizeof(text), offset, &done, &error));
        CHECK(done == (stat.file_size - offset < sizeof(text) ? stat.file_size - offset : sizeof(text)));
    }
    SUCCEED(puzzlefs_image_read(image, ino, text, 4, 0, &done, &error));
    CHECK(memcmp(text, "1\n2\n", 4) == 0);
    CHECK(puzzlefs_image_lookup(image, path, 0, &ino, &error) < 0);
    CHECK(strstr(puzzlefs_error_message(error), path) != NULL);
    puzzlefs_error_free(error);
}

static void *read_images(void *argument)
{
    const unsigned *seed = argument;
    puzzlefs_error *error = NULL;
    puzzlefs_image *own;

    SUCCEED(puzzlefs_image_open(v1, NULL, &own, &error));
    for (unsigned round = 0; round < ROUNDS; round++) {
        use(shared, *seed + round);
        use(own, round);
    }
    puzzlefs_image_free(own);
    return NULL;
}

static void *build(void *argument)
{
    const unsigned *number = argument;
    puzzlefs_build_options options = { .size = sizeof(options), .threads = 2 };
    puzzlefs_error *error = NULL;
    char image[4200];

    snprintf(image, sizeof(image), "%s:by-%u", layout, *number);
    SUCCEED(puzzlefs_build(rootfs, image, &options, NULL, &error));
    SUCCEED(puzzlefs_config(image, NULL, NULL, &error));
    SUCCEED(puzzlefs_untag(image, NULL, &error));
    SUCCEED(puzzlefs_gc(layout, NULL, NULL, &error));
    return NULL;
}

int main(int argc, char **argv)
{
    static unsigned numbers[THREADS];
    pthread_t readers[THREADS], builders[BUILDERS];
    puzzlefs_error *error = NULL;

    CHECK(argc == 3);
    rootfs = argv[1];
    layout = argv[2];
    snprintf(v1, sizeof(v1), "%s:v1", layout);
    SUCCEED(puzzlefs_image_open(v1, NULL, &shared, &error));
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&readers[i], NULL, read_images, &numbers[i]) == 0);
        if (i < BUILDERS)
            CHECK(pthread_create(&builders[i], NULL, build, &numbers[i]) == 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        CHECK(pthread_join(readers[i], NULL) == 0);
    for (unsigned i = 0; i < BUILDERS; i++)
        CHECK(pthread_join(builders[i], NULL) == 0);
    /* A handle may be freed by another thread than the one that got it. */
    puzzlefs_image_free(shared);
    return 0;
}
