/* What the C tests have in common. */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <puzzlefs.h>

/* Whether a sanitizer watches, which ends the program at the first mistake. */
#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Ends the test if the condition does not hold. */
#define CHECK(condition)                                                                                     \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);                          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* Ends the test if the call, which stores its error in `error`, does not succeed. */
#define SUCCEED(call)                                                                                        \
    do {                                                                                                     \
        puzzlefs_status succeed_status = (call);                                                             \
        if (succeed_status != PUZZLEFS_OK || error != NULL) {                                                \
            fprintf(stderr, "%s:%d: %d: %s\n", __FILE__, __LINE__, (int)succeed_status,                      \
                    puzzlefs_error_message(error));                                                          \
            exit(1);                                                                                         \
        }                                                                                                    \
    } while (0)

/* Ends the test if the call does not fail with this status and a message that holds this text. */
#define FAIL(status, text, call)                                                                             \
    do {                                                                                                     \
        puzzlefs_status fail_status = (call);                                                                \
        if (fail_status != (status) || puzzlefs_error_status(error) != (status) ||                           \
            strstr(puzzlefs_error_message(error), (text)) == NULL) {                                         \
            fprintf(stderr, "%s:%d: %d: %s\n", __FILE__, __LINE__, (int)fail_status,                         \
                    puzzlefs_error_message(error));                                                          \
            exit(1);                                                                                         \
        }                                                                                                    \
        puzzlefs_error_free(error);                                                                          \
        error = NULL;                                                                                        \
    } while (0)

#endif
