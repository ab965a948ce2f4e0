#!/bin/sh
# Compiles the tool in each language against the installed library, and runs one suite on all of them, then some tables
# of hostile images (tests/bad_input); or, named as arguments, these tables alone.
# `make test-suite` says where the library is, by PKG_CONFIG_PATH, LD_LIBRARY_PATH and PATH, and where cargo puts what
# it builds, by CARGO_TARGET_DIR. Wants root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# shellcheck disable=SC2046  # a list of flags
gcc -std=c99 -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Werror -o "$work/c" "$here/tool.c" \
    $(pkg-config --cflags --libs puzzlefs)
(cd "$here/go" && go build -o "$work/go" .)
(cd "$here" && cargo build --quiet --release --locked --example suite-tool)
cp "$CARGO_TARGET_DIR/release/examples/suite-tool" "$work/rust"

# An ordinary user runs the tools too, who may not be able to enter the folder where the library is.
cp "$(pkg-config --variable=libdir puzzlefs)/libpuzzlefs.so.0" "$work"
export LD_LIBRARY_PATH="$work"

if [ $# = 0 ]; then
    for language in c go rust; do
        echo "one suite, $language:"
        TOOL=$work/$language bats "$here/suite.bats"
    done
    set -- layouts::descriptors messages::pointers metadata::directories metadata::extents
fi

echo 'hostile images, by the command and each of these:'
(cd "$here" && PUZZLEFS_TOOLS=$work/c:$work/go:$work/rust \
    cargo test --quiet --release --locked --test bad_input -- "$@")
