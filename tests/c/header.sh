#!/bin/sh
# Compiles the header alone under every standard, with all warnings.
set -eu

header() { printf '#include <puzzlefs.h>\nint main(void) { return PUZZLEFS_OK; }\n'; }
flags="-Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror -fsyntax-only $(pkg-config --cflags puzzlefs)"

for standard in c99 c11 c17 c2x; do
    for compiler in gcc clang; do
        # shellcheck disable=SC2086  # a list of flags
        header | $compiler -x c "-std=$standard" $flags -Wstrict-prototypes -
    done
done
for standard in c++11 c++14 c++17 c++20; do
    for compiler in g++ clang++; do
        # shellcheck disable=SC2086
        header | $compiler -x c++ "-std=$standard" $flags -
    done
done
