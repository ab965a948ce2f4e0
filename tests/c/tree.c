/*
 * An image holds what lstat, readdir, readlink, read and getxattr tell of a directory. Several threads compare at once,
 * with one open image.
 *
 *     tree IMAGE DIRECTORY
 */
#define _GNU_SOURCE

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"

#define THREADS 4

struct place {
    const puzzlefs_image *image;
    const char *directory;
    uint64_t inodes;
};

static void compare(struct place *place, uint64_t ino, const char *path);

static void compare_stat(const puzzlefs_stat *stat, const struct stat *disk)
{
    CHECK(stat->mode == disk->st_mode);
    CHECK(stat->uid == disk->st_uid && stat->gid == disk->st_gid);
    CHECK(stat->mtime_seconds == disk->st_mtim.tv_sec);
    CHECK(stat->mtime_nanoseconds == (uint32_t)disk->st_mtim.tv_nsec);
    CHECK(stat->rdev_major == major(disk->st_rdev) && stat->rdev_minor == minor(disk->st_rdev));
    /* What a directory's size and number of links are, differs between file systems. */
    if (!S_ISDIR(disk->st_mode)) {
        CHECK(stat->file_size == (uint64_t)disk->st_size);
        CHECK(stat->nlink == disk->st_nlink);
    }
}

static void compare_content(struct place *place, uint64_t ino, const char *path)
{
    /* An odd size, so that reads do not end where extents and frames do. */
    static const size_t sizes[] = { 65537, 1 };
    char ours[65537], theirs[65537];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t offset = 0;
    size_t done;
    puzzlefs_error *error;

    CHECK(file >= 0);
    do {
        SUCCEED(puzzlefs_image_read(place->image, ino, ours, sizes[0], offset, &done, &error));
        CHECK(pread(file, theirs, sizes[0], (off_t)offset) == (ssize_t)done);
        CHECK(memcmp(ours, theirs, done) == 0);
        offset += done;
    } while (done == sizes[0]);
    if (offset > 0) {
        SUCCEED(puzzlefs_image_read(place->image, ino, ours, sizes[1], offset - 1, &done, &error));
        CHECK(done == 1 && pread(file, theirs, 1, (off_t)offset - 1) == 1 && ours[0] == theirs[0]);
    }
    close(file);
}

static void compare_link(struct place *place, uint64_t ino, const char *path)
{
    char theirs[4096];
    ssize_t length = readlink(path, theirs, sizeof(theirs));
    puzzlefs_error *error;
    char *ours;

    SUCCEED(puzzlefs_image_readlink(place->image, ino, &ours, &error));
    CHECK(length == (ssize_t)strlen(ours) && memcmp(ours, theirs, (size_t)length) == 0);
    puzzlefs_string_free(ours);
}

static void compare_xattrs(struct place *place, uint64_t ino, const char *path)
{
    char names[65536], value[65536];
    ssize_t length = llistxattr(path, names, sizeof(names));
    puzzlefs_xattr xattr = { .size = sizeof(xattr) };
    uint64_t ours = 0, theirs = 0;
    puzzlefs_error *error;

    CHECK(length >= 0);
    for (const char *name = names; name < names + length; name += strlen(name) + 1)
        theirs += strcmp(name, "security.selinux") != 0;
    for (;; ours++) {
        SUCCEED(puzzlefs_image_xattr(place->image, ino, ours, &xattr, &error));
        if (xattr.value == NULL)
            break;
        CHECK(strlen(xattr.name) == xattr.name_length);
        length = lgetxattr(path, xattr.name, value, sizeof(value));
        CHECK(length == (ssize_t)xattr.value_length && memcmp(value, xattr.value, xattr.value_length) == 0);
    }
    CHECK(ours == theirs);
}

static void compare_directory(struct place *place, uint64_t ino, const char *path)
{
    puzzlefs_dirent entry = { .size = sizeof(entry) };
    char previous[256] = "", below[4096];
    puzzlefs_error *error;
    uint64_t ours = 0, theirs = 0;
    DIR *directory = opendir(path);

    CHECK(directory != NULL);
    for (const struct dirent *next; (next = readdir(directory)) != NULL;)
        theirs += strcmp(next->d_name, ".") != 0 && strcmp(next->d_name, "..") != 0;
    closedir(directory);
    for (;; ours++) {
        SUCCEED(puzzlefs_image_readdir(place->image, ino, ours, &entry, &error));
        if (entry.ino == 0)
            break;
        CHECK(strlen(entry.name) == entry.name_length && strcmp(previous, entry.name) < 0);
        snprintf(previous, sizeof(previous), "%s", entry.name);
        CHECK(snprintf(below, sizeof(below), "%s/%s", path, entry.name) < (int)sizeof(below));
        compare(place, entry.ino, below);
    }
    CHECK(ours == theirs);
}

static void compare(struct place *place, uint64_t ino, const char *path)
{
    puzzlefs_stat stat = { .size = sizeof(stat) };
    const char *inside = path + strlen(place->directory);
    puzzlefs_error *error;
    struct stat disk;
    uint64_t found;

    place->inodes++;
    CHECK(lstat(path, &disk) == 0);
    SUCCEED(puzzlefs_image_lookup(place->image, inside, PUZZLEFS_LOOKUP_NOFOLLOW, &found, &error));
    SUCCEED(puzzlefs_image_stat(place->image, ino, &stat, &error));
    CHECK(found == ino && stat.ino == ino);
    compare_stat(&stat, &disk);
    compare_xattrs(place, ino, path);
    if (S_ISREG(disk.st_mode))
        compare_content(place, ino, path);
    if (S_ISLNK(disk.st_mode))
        compare_link(place, ino, path);
    if (S_ISDIR(disk.st_mode))
        compare_directory(place, ino, path);
}

static void *run(void *data)
{
    struct place *place = data;

    compare(place, 1, place->directory);
    return NULL;
}

int main(int argc, char **argv)
{
    struct place places[THREADS];
    pthread_t threads[THREADS];
    puzzlefs_image *image;
    puzzlefs_error *error;

    CHECK(argc == 3);
    SUCCEED(puzzlefs_image_open(argv[1], NULL, &image, &error));
    for (int i = 0; i < THREADS; i++) {
        places[i] = (struct place){ .image = image, .directory = argv[2] };
        CHECK(pthread_create(&threads[i], NULL, run, &places[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        CHECK(pthread_join(threads[i], NULL) == 0);
        CHECK(places[i].inodes > 1 && places[i].inodes == places[0].inodes);
    }
    puzzlefs_image_free(image);
    return 0;
}
