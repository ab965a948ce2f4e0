/*
 * Reads all files of an image with several threads, which share the open image.
 *
 *     cc -o read-all read-all.c $(pkg-config --cflags --libs puzzlefs) -pthread
 *     ./read-all IMAGE [THREADS]
 */
#define _XOPEN_SOURCE 700

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <puzzlefs.h>

enum { MAX_THREADS = 64 };

/* What the threads share. */
struct work {
    const puzzlefs_image *image;
    pthread_mutex_t lock;
    /* The regular files, and the next one to be read. */
    uint64_t *files;
    size_t count, room, next;
    uint64_t bytes;
    /* The first error. */
    puzzlefs_error *error;
};

static void add_file(struct work *work, uint64_t ino)
{
    if (work->count == work->room) {
        work->room = work->room * 2 + 1024;
        work->files = realloc(work->files, work->room * sizeof(*work->files));
        if (work->files == NULL)
            abort();
    }
    work->files[work->count++] = ino;
}

/* Finds all files below a directory; one with two names is found twice. */
static puzzlefs_status find_files(struct work *work, uint64_t directory)
{
    puzzlefs_dirent entry = { .size = sizeof(entry) };
    puzzlefs_status status;
    uint64_t index;

    for (index = 0;; index++) {
        status = puzzlefs_image_readdir(work->image, directory, index, &entry, &work->error);
        if (status != PUZZLEFS_OK || entry.ino == 0)
            return status;
        if (S_ISREG(entry.mode))
            add_file(work, entry.ino);
        else if (S_ISDIR(entry.mode) && (status = find_files(work, entry.ino)) != PUZZLEFS_OK)
            return status;
    }
}

/* Reads a file; returns how many bytes it has. */
static uint64_t read_file(const puzzlefs_image *image, uint64_t ino, puzzlefs_error **error)
{
    char buffer[64 * 1024];
    uint64_t offset = 0;
    size_t done = sizeof(buffer);

    while (done == sizeof(buffer) &&
           puzzlefs_image_read(image, ino, buffer, sizeof(buffer), offset, &done, error) == PUZZLEFS_OK)
        offset += done;
    return offset;
}

static void *read_files(void *argument)
{
    struct work *work = argument;

    pthread_mutex_lock(&work->lock);
    while (work->next < work->count && work->error == NULL) {
        uint64_t ino = work->files[work->next++], bytes;
        puzzlefs_error *error = NULL;

        pthread_mutex_unlock(&work->lock);
        bytes = read_file(work->image, ino, &error);
        pthread_mutex_lock(&work->lock);
        work->bytes += bytes;
        if (work->error == NULL)
            work->error = error;
        else
            puzzlefs_error_free(error);
    }
    pthread_mutex_unlock(&work->lock);
    return NULL;
}

static void read_all(struct work *work, int threads)
{
    pthread_t started[MAX_THREADS];
    int count = 0;

    while (count < threads && pthread_create(&started[count], NULL, read_files, work) == 0)
        count++;
    if (count == 0)
        read_files(work);
    while (count > 0)
        pthread_join(started[--count], NULL);
}

int main(int argc, char **argv)
{
    struct work work = { .lock = PTHREAD_MUTEX_INITIALIZER };
    int threads = argc == 3 ? atoi(argv[2]) : 4;
    puzzlefs_image *image = NULL;
    uint64_t root;
    int failed;

    if (argc < 2 || argc > 3 || threads < 1 || threads > MAX_THREADS) {
        fprintf(stderr, "usage: %s IMAGE [THREADS]\n", argv[0]);
        return 2;
    }
    if (puzzlefs_image_open(argv[1], NULL, &image, &work.error) == PUZZLEFS_OK &&
        puzzlefs_image_lookup(image, "/", 0, &root, &work.error) == PUZZLEFS_OK) {
        work.image = image;
        if (find_files(&work, root) == PUZZLEFS_OK)
            read_all(&work, threads);
    }
    failed = work.error != NULL;
    if (failed)
        fprintf(stderr, "%s\n", puzzlefs_error_message(work.error));
    else
        printf("%zu files, %" PRIu64 " bytes\n", work.count, work.bytes);
    puzzlefs_error_free(work.error);
    puzzlefs_image_free(image);
    free(work.files);
    return failed;
}
