/*
 * Builds an image of a directory, shows how far it is, and stops cleanly at ctrl-C.
 *
 *     cc -o build build.c $(pkg-config --cflags --libs puzzlefs)
 *     ./build ROOTFS LAYOUT:TAG
 */
#define _POSIX_C_SOURCE 200809L

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include <puzzlefs.h>

static volatile sig_atomic_t interrupted;

static void interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Called from any thread, but never from two at once. */
static int show(const puzzlefs_progress *progress, void *data)
{
    const int *is_terminal = data;

    if (*is_terminal && progress->stage == PUZZLEFS_STAGE_STORE && progress->total > 0)
        fprintf(stderr, "\r%3.0f %%", 100.0 * (double)progress->done / (double)progress->total);
    return interrupted;
}

int main(int argc, char **argv)
{
    int is_terminal = isatty(STDERR_FILENO);
    struct sigaction action = { .sa_handler = interrupt };
    puzzlefs_build_options options = { .size = sizeof(options), .progress = show, .data = &is_terminal };
    puzzlefs_build_result result = { .size = sizeof(result) };
    puzzlefs_error *error;
    puzzlefs_status status;

    if (argc != 3) {
        fprintf(stderr, "usage: %s ROOTFS LAYOUT:TAG\n", argv[0]);
        return 2;
    }
    sigaction(SIGINT, &action, NULL);

    status = puzzlefs_build(argv[1], argv[2], &options, &result, &error);
    if (is_terminal)
        fputc('\r', stderr);
    if (status != PUZZLEFS_OK) {
        fprintf(stderr, "%s\n", puzzlefs_error_message(error));
        puzzlefs_error_free(error);
        return status == PUZZLEFS_ERR_CANCELLED ? 130 : 1;
    }
    fprintf(stderr, "%" PRIu64 " inodes, %" PRIu64 " bytes in, %" PRIu64 " bytes out\n", result.inodes,
            result.bytes_tree, result.bytes_stored);
    puts(result.digest);
    return 0;
}
