"""What the system says of a path of a tree, as the tools say it of an image:  seen.py stat|ls|xattrs TREE PATH

A directory has the links that POSIX gives it, and no size; security.selinux is the host's.
"""
import os
import stat
import sys


def number_of_links(path, status):
    if not stat.S_ISDIR(status.st_mode):
        return status.st_nlink
    return 2 + sum(entry.is_dir(follow_symlinks=False) for entry in os.scandir(path))


def stat_line(path, shown):
    status = os.lstat(path)
    is_device = stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode)
    device = (os.major(status.st_rdev), os.minor(status.st_rdev)) if is_device else (0, 0)
    size = 0 if stat.S_ISDIR(status.st_mode) else status.st_size
    seconds, nanoseconds = divmod(status.st_mtime_ns, 10**9)
    yield shown + b" %o %d %d %d %d:%d %d %d %d" % (
        status.st_mode, number_of_links(path, status), status.st_uid, status.st_gid, *device, size, seconds, nanoseconds,
    ) + (b" -> " + os.readlink(path) if stat.S_ISLNK(status.st_mode) else b"")


def ls_lines(path, _):
    for name in sorted(os.listdir(path)):
        yield b"%o " % os.lstat(os.path.join(path, name)).st_mode + name


def xattr_lines(path, _):
    for name in sorted(map(os.fsencode, os.listxattr(path, follow_symlinks=False))):
        if name != b"security.selinux":
            yield name + b"=" + os.getxattr(path, name, follow_symlinks=False).hex().encode()


what, tree, path = map(os.fsencode, sys.argv[1:])
lines = {b"stat": stat_line, b"ls": ls_lines, b"xattrs": xattr_lines}[what]
for line in lines(os.path.join(tree, path), path):
    sys.stdout.buffer.write(line + b"\n")
