/*
 * Lists a directory of an image, or prints a file of it.
 *
 *     cc -o list list.c $(pkg-config --cflags --libs puzzlefs)
 *     ./list IMAGE [PATH]
 */
#define _XOPEN_SOURCE 700

#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>

#include <puzzlefs.h>

static puzzlefs_status list_entry(const puzzlefs_image *image, const puzzlefs_dirent *entry, puzzlefs_error **error)
{
    puzzlefs_stat stat = { .size = sizeof(stat) };
    char *target;
    puzzlefs_status status = puzzlefs_image_stat(image, entry->ino, &stat, error);

    if (status != PUZZLEFS_OK)
        return status;
    printf("%06" PRIo32 " %5" PRIu32 " %5" PRIu32 " %12" PRIu64 " %s", stat.mode, stat.uid, stat.gid,
           stat.file_size, entry->name);
    if (S_ISLNK(stat.mode)) {
        status = puzzlefs_image_readlink(image, entry->ino, &target, error);
        if (status != PUZZLEFS_OK)
            return status;
        printf(" -> %s", target);
        puzzlefs_string_free(target);
    }
    putchar('\n');
    return PUZZLEFS_OK;
}

static puzzlefs_status list(const puzzlefs_image *image, uint64_t directory, puzzlefs_error **error)
{
    puzzlefs_dirent entry = { .size = sizeof(entry) };
    puzzlefs_status status;
    uint64_t index;

    for (index = 0;; index++) {
        status = puzzlefs_image_readdir(image, directory, index, &entry, error);
        if (status != PUZZLEFS_OK || entry.ino == 0)
            return status;
        status = list_entry(image, &entry, error);
        if (status != PUZZLEFS_OK)
            return status;
    }
}

static puzzlefs_status print(const puzzlefs_image *image, uint64_t file, puzzlefs_error **error)
{
    static char buffer[128 * 1024];
    puzzlefs_status status;
    uint64_t offset = 0;
    size_t done;

    do {
        status = puzzlefs_image_read(image, file, buffer, sizeof(buffer), offset, &done, error);
        if (status != PUZZLEFS_OK)
            return status;
        fwrite(buffer, 1, done, stdout);
        offset += done;
    } while (done == sizeof(buffer));
    return PUZZLEFS_OK;
}

static puzzlefs_status show(const puzzlefs_image *image, const char *path, puzzlefs_error **error)
{
    puzzlefs_stat stat = { .size = sizeof(stat) };
    puzzlefs_status status;
    uint64_t ino;

    status = puzzlefs_image_lookup(image, path, 0, &ino, error);
    if (status == PUZZLEFS_OK)
        status = puzzlefs_image_stat(image, ino, &stat, error);
    if (status != PUZZLEFS_OK)
        return status;
    return S_ISDIR(stat.mode) ? list(image, ino, error) : print(image, ino, error);
}

int main(int argc, char **argv)
{
    puzzlefs_image *image;
    puzzlefs_error *error;
    puzzlefs_status status;

    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: %s IMAGE [PATH]\n", argv[0]);
        return 2;
    }
    status = puzzlefs_image_open(argv[1], NULL, &image, &error);
    if (status == PUZZLEFS_OK)
        status = show(image, argc == 3 ? argv[2] : "/", &error);
    puzzlefs_image_free(image);
    if (status != PUZZLEFS_OK) {
        fprintf(stderr, "%s\n", puzzlefs_error_message(error));
        puzzlefs_error_free(error);
        return 1;
    }
    return fflush(stdout) == 0 ? 0 : 1;
}
