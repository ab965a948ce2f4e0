/*
 * Mounts an image, and waits until somebody unmounts it.
 *
 *     cc -o mount mount.c $(pkg-config --cflags --libs puzzlefs)
 *     ./mount IMAGE DIRECTORY [UPPER]
 *
 * What is written to the mount goes to UPPER/upper, if that is given. Ctrl-C unmounts, too.
 */
#define _POSIX_C_SOURCE 200809L

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <puzzlefs.h>

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

static void log_line(const char *line, void *data)
{
    (void)data;
    fprintf(stderr, "%s\n", line);
}

static puzzlefs_status serve(const puzzlefs_mount *mount, puzzlefs_error **error)
{
    const int64_t milliseconds = 200;
    puzzlefs_status status;
    int over;

    printf("mounted on %s\n", puzzlefs_mount_point(mount));
    fflush(stdout);
    do {
        status = puzzlefs_mount_wait(mount, milliseconds, &over, error);
    } while (status == PUZZLEFS_OK && !over && !interrupted);
    return status == PUZZLEFS_OK ? puzzlefs_mount_unmount(mount, 0, error) : status;
}

int main(int argc, char **argv)
{
    puzzlefs_mount_options options = { .size = sizeof(options), .log = log_line };
    struct sigaction action = { .sa_handler = interrupt };
    puzzlefs_image *image;
    puzzlefs_mount *mount = NULL;
    puzzlefs_error *error;
    puzzlefs_status status;

    if (argc != 3 && argc != 4) {
        fprintf(stderr, "usage: %s IMAGE DIRECTORY [UPPER]\n", argv[0]);
        return 2;
    }
    if (argc == 4) {
        options.flags = PUZZLEFS_MOUNT_WRITABLE;
        options.persist = argv[3];
    }
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    status = puzzlefs_image_open(argv[1], NULL, &image, &error);
    if (status == PUZZLEFS_OK)
        status = puzzlefs_image_mount(image, argv[2], &options, &mount, &error);
    puzzlefs_image_free(image);
    if (status == PUZZLEFS_OK)
        status = serve(mount, &error);
    puzzlefs_mount_free(mount);
    if (status != PUZZLEFS_OK) {
        fprintf(stderr, "%s\n", puzzlefs_error_message(error));
        puzzlefs_error_free(error);
        return 1;
    }
    return 0;
}
