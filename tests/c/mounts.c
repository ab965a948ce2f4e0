/*
 * What becomes of mounts: callbacks, waiting, unmounting, by whom ever.
 *
 *     mounts LAYOUT DIRECTORY: the layout's tag `v1` is an image with a file `file`
 */
#define _XOPEN_SOURCE 700

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static puzzlefs_error *error;

/* What the callbacks have seen. */
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int ended;
    char line[1024];
};

static void ended(void *data)
{
    struct seen *seen = data;

    pthread_mutex_lock(&seen->lock);
    seen->ended++;
    pthread_cond_broadcast(&seen->changed);
    pthread_mutex_unlock(&seen->lock);
}

static void log_line(const char *line, void *data)
{
    struct seen *seen = data;

    pthread_mutex_lock(&seen->lock);
    snprintf(seen->line, sizeof(seen->line), "%s", line);
    pthread_mutex_unlock(&seen->lock);
}

static int is_mounted(const char *point)
{
    char parent[4096];
    struct stat here, above;

    snprintf(parent, sizeof(parent), "%s/..", point);
    CHECK(stat(point, &here) == 0 && stat(parent, &above) == 0);
    return here.st_dev != above.st_dev;
}

/* Reads the file of the mount; returns an error number. */
static int read_file(const char *point)
{
    char path[4096], buffer[64];
    int file, result;

    snprintf(path, sizeof(path), "%s/file", point);
    file = open(path, O_RDONLY);
    if (file < 0)
        return errno;
    result = read(file, buffer, sizeof(buffer)) < 0 ? errno : 0;
    close(file);
    return result;
}

static puzzlefs_mount *mount_image(const char *name, const char *point, const puzzlefs_mount_options *options)
{
    puzzlefs_image *image;
    puzzlefs_mount *mounted;

    SUCCEED(puzzlefs_image_open(name, NULL, &image, &error));
    SUCCEED(puzzlefs_image_mount(image, point, options, &mounted, &error));
    /* The mount goes on without the handle. */
    puzzlefs_image_free(image);
    CHECK(is_mounted(point) && read_file(point) == 0);
    CHECK(strstr(puzzlefs_mount_point(mounted), point) != NULL);
    return mounted;
}

int main(int argc, char **argv)
{
    struct seen seen = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    puzzlefs_mount_options options = { .size = sizeof(options), .log = log_line, .ended = ended, .data = &seen };
    puzzlefs_mount *mounted, *again;
    puzzlefs_image *image;
    char name[4096];
    int over, file;

    CHECK(argc == 3);
    snprintf(name, sizeof(name), "%s:v1", argv[1]);

    /* Unmounted by its handle. */
    mounted = mount_image(name, argv[2], &options);
    SUCCEED(puzzlefs_mount_wait(mounted, 0, &over, &error));
    CHECK(over == 0);
    SUCCEED(puzzlefs_image_open(name, NULL, &image, &error));
    FAIL(PUZZLEFS_ERR_ALREADY_EXISTS, "already", puzzlefs_image_mount(image, argv[2], NULL, &again, &error));
    CHECK(again == NULL);
    puzzlefs_image_free(image);
    file = open(argv[2], O_RDONLY);
    CHECK(puzzlefs_mount_unmount(mounted, 0, &error) == PUZZLEFS_ERR_IO);
    CHECK(puzzlefs_error_errno(error) == EBUSY);
    puzzlefs_error_free(error);
    close(file);
    SUCCEED(puzzlefs_mount_unmount(mounted, 0, &error));
    SUCCEED(puzzlefs_mount_wait(mounted, -1, &over, &error));
    CHECK(over == 1 && !is_mounted(argv[2]));
    SUCCEED(puzzlefs_mount_unmount(mounted, 0, &error));
    puzzlefs_mount_free(mounted);

    /* By being freed; writable. */
    options.flags = PUZZLEFS_MOUNT_WRITABLE;
    puzzlefs_mount_free(mount_image(name, argv[2], &options));
    CHECK(!is_mounted(argv[2]) && seen.ended == 0);
    options.flags = 0;

    /* By others. */
    mounted = mount_image(name, argv[2], &options);
    CHECK(umount(argv[2]) == 0);
    pthread_mutex_lock(&seen.lock);
    while (seen.ended == 0)
        pthread_cond_wait(&seen.changed, &seen.lock);
    pthread_mutex_unlock(&seen.lock);
    SUCCEED(puzzlefs_mount_wait(mounted, -1, &over, &error));
    CHECK(over == 1 && seen.ended == 1);
    puzzlefs_mount_free(mounted);

    mounted = mount_image(name, argv[2], &options);
    SUCCEED(puzzlefs_unmount(argv[2], PUZZLEFS_UNMOUNT_LAZY, &error));
    SUCCEED(puzzlefs_mount_wait(mounted, -1, &over, &error));
    puzzlefs_mount_free(mounted);
    CHECK(seen.ended == 2 && seen.line[0] == '\0');
    return 0;
}
