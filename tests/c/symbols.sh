#!/bin/sh
# The shared library exports the functions of the header, with their versions, and nothing else.
set -eu

library=$(pkg-config --variable=libdir puzzlefs)/libpuzzlefs.so
header=$(pkg-config --variable=includedir puzzlefs)/puzzlefs.h

declared=$(sed -n 's/^[a-z].*[ *]\(puzzlefs_[a-z_]*\)(.*/T \1@@LIBPUZZLEFS_0.1/p' "$header" | LC_ALL=C sort)
# Some linkers list the version itself too.
exported=$(nm --dynamic --defined-only "$library" | cut -d ' ' -f 2- | grep -v '^A LIBPUZZLEFS_' | LC_ALL=C sort)
[ "$exported" = "$declared" ] || { printf 'declared:\n%s\nexported:\n%s\n' "$declared" "$exported" >&2; exit 1; }

readelf --dynamic "$library" | grep -q 'SONAME.*\[libpuzzlefs\.so\.0\]'
