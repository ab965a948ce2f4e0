#!/bin/sh
# run.sh GROWN: compiles the C tests and examples against the installed library, and runs them: linked dynamically,
# fully static, and with the grown library of the directory GROWN (tools/grown-library) in place of the installed one.
# `make test-c` says where the library is, by PKG_CONFIG_PATH, LD_LIBRARY_PATH and PATH. Wants root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
grown=$(cd "$1/lib" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

compile() { # compile DIR [--static]: all the programs
    mkdir "$1"
    # The static library warns of getaddrinfo and the like, which Rust's standard library has and nobody calls.
    flags=${2:+-Wl,--no-warnings -static}
    for source in "$here"/*.c "$here"/../../examples/c/*.c; do
        # shellcheck disable=SC2046,SC2086  # lists of flags
        gcc -std=c99 -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Werror -pthread -o "$1/$(basename "$source" .c)" \
            "$source" $(pkg-config --cflags --libs ${2:-} puzzlefs) $flags
    done
}

run() { # run DIR: all the tests
    (cd "$1" && "$here/cases.sh" && "$here/images.sh" && "$here/$(basename "$1").sh")
    echo "C tests, $(basename "$1"): passed"
}

"$here/header.sh"
"$here/tree.sh" "$work/tree"
echo '{"config": {"Env": ["A=b"]}, "variant": "v9"}' >"$work/config"

compile "$work/dynamic"
cp -r "$work/dynamic" "$work/grown"
compile "$work/static" --static
run "$work/dynamic"
run "$work/static"
LD_LIBRARY_PATH=$grown run "$work/grown"
