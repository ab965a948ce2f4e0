/*
 * A process forks: what the child may do, and what it cannot do to its parent.
 *
 *     forks ROOTFS LAYOUT DIRECTORY: the layout's tag `v1` is an image of the first directory
 */
#define _POSIX_C_SOURCE 200809L

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static puzzlefs_error *error;

static void check_file(const puzzlefs_image *image)
{
    char text[6];
    uint64_t ino;
    size_t done;

    SUCCEED(puzzlefs_image_lookup(image, "file", 0, &ino, &error));
    SUCCEED(puzzlefs_image_read(image, ino, text, sizeof(text), 0, &done, &error));
    CHECK(done == sizeof(text) && memcmp(text, "a file", sizeof(text)) == 0);
}

/* The child reads the image, builds one, and frees what it has of its own; the mount is not its. */
static void child(const char *rootfs, const char *layout, puzzlefs_image *image, puzzlefs_mount *mount)
{
    char tag[4200];
    int over;

    check_file(image);
    snprintf(tag, sizeof(tag), "%s:child", layout);
    SUCCEED(puzzlefs_build(rootfs, tag, NULL, NULL, &error));
    FAIL(PUZZLEFS_ERR_INVALID_INPUT, "another process", puzzlefs_mount_wait(mount, 0, &over, &error));
    FAIL(PUZZLEFS_ERR_INVALID_INPUT, "another process", puzzlefs_mount_unmount(mount, 0, &error));
    puzzlefs_mount_free(mount);
    puzzlefs_image_free(image);
}

int main(int argc, char **argv)
{
    puzzlefs_image *image;
    puzzlefs_mount *mount;
    struct stat seen;
    char path[4200];
    pid_t process;
    int status;

    CHECK(argc == 4);
    snprintf(path, sizeof(path), "%s:v1", argv[2]);
    SUCCEED(puzzlefs_image_open(path, NULL, &image, &error));
    check_file(image);
    SUCCEED(puzzlefs_image_mount(image, argv[3], NULL, &mount, &error));

    process = fork();
    CHECK(process >= 0);
    if (process == 0) {
        child(argv[1], argv[2], image, mount);
        _exit(0);
    }
    CHECK(waitpid(process, &status, 0) == process);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);

    /* Nothing of that is to be seen here. */
    check_file(image);
    snprintf(path, sizeof(path), "%s/file", argv[3]);
    CHECK(stat(path, &seen) == 0);
    SUCCEED(puzzlefs_mount_unmount(mount, 0, &error));
    puzzlefs_mount_free(mount);
    puzzlefs_image_free(image);
    return 0;
}
