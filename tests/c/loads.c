/*
 * A program that loads the library when it needs it, and unloads it again, as plugins are.
 *
 *     loads LIBRARY ROOTFS LAYOUT DIRECTORY: the layout's tag `v1` is an image of the first directory
 */
#include <dlfcn.h>
#include <pthread.h>

#include "check.h"

enum { ROUNDS = 20 };

static char **arguments;

/* A function of the library, of the header's type. */
#define FUNCTION(name)                                                                                       \
    __typeof__(&name) name##_;                                                                               \
    *(void **)&name##_ = dlsym(library, #name);                                                              \
    CHECK(name##_ != NULL)

static void *use(void *unused)
{
    char v1[4200], loaded[4200];
    void *library = dlopen(arguments[1], RTLD_NOW | RTLD_LOCAL);
    puzzlefs_image *image;
    puzzlefs_mount *mount;

    if (library == NULL) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    FUNCTION(puzzlefs_build);
    FUNCTION(puzzlefs_image_open);
    FUNCTION(puzzlefs_image_mount);
    FUNCTION(puzzlefs_mount_unmount);
    FUNCTION(puzzlefs_mount_free);
    FUNCTION(puzzlefs_image_free);

    snprintf(v1, sizeof(v1), "%s:v1", arguments[3]);
    snprintf(loaded, sizeof(loaded), "%s:loaded", arguments[3]);
    CHECK(puzzlefs_build_(arguments[2], loaded, NULL, NULL, NULL) == PUZZLEFS_OK);
    CHECK(puzzlefs_image_open_(v1, NULL, &image, NULL) == PUZZLEFS_OK);
    CHECK(puzzlefs_image_mount_(image, arguments[4], NULL, &mount, NULL) == PUZZLEFS_OK);
    CHECK(puzzlefs_mount_unmount_(mount, 0, NULL) == PUZZLEFS_OK);
    puzzlefs_mount_free_(mount);
    puzzlefs_image_free_(image);
    CHECK(dlclose(library) == 0);
    return unused;
}

int main(int argc, char **argv)
{
    CHECK(argc == 5);
    arguments = argv;
    /* From the main thread, and from threads that end after the library is closed. */
    for (int round = 0; round < ROUNDS; round++) {
        pthread_t thread;

        use(NULL);
        CHECK(pthread_create(&thread, NULL, use, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
    return 0;
}
