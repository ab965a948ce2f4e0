#!/bin/sh
# run.sh GROWN ADDRESS THREAD: compiles the C tests and examples against the installed library, and runs them: linked
# dynamically, fully static, and with other builds of the library, which are in these directories: a grown one
# (tools/grown-library), and two with sanitizers (tools/sanitized-library).
# `make test-c` says where the library is, by PKG_CONFIG_PATH, LD_LIBRARY_PATH and PATH. Wants root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
grown=$(realpath "$1/lib") address=$(realpath "$2/lib") thread=$(realpath "$3/lib")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

# compile DIR COMPILER [FLAG...]: all the programs. $libraries is what they are linked with.
compile() {
    directory=$1
    shift
    mkdir "$directory"
    for source in "$here"/*.c "$here"/../../examples/c/*.c; do
        # shellcheck disable=SC2086  # a list of flags
        "$@" -std=c99 -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Werror -pthread -Wl,--as-needed \
            -o "$directory/$(basename "$source" .c)" "$source" $libraries
    done
}

# run DIR LIBRARIES: all the tests, with the shared library of that directory.
run() {
    (
        [ -z "$2" ] || export LD_LIBRARY_PATH="$2"
        cd "$1"
        "$here/cases.sh"
        "$here/images.sh"
        [ ! -e "$here/$(basename "$1").sh" ] || "$here/$(basename "$1").sh"
    )
    echo "C tests, $(basename "$1"): passed"
}

"$here/header.sh"
"$here/tree.sh" "$work/tree"
echo '{"config": {"Env": ["A=b"]}, "variant": "v9"}' >"$work/config"

libraries=$(pkg-config --cflags --libs puzzlefs)
compile "$work/dynamic" gcc
cp -r "$work/dynamic" "$work/grown"
run "$work/dynamic" ''
run "$work/grown" "$grown"

# The static library warns of getaddrinfo and the like, which Rust's standard library has and nobody calls.
libraries="$(pkg-config --cflags --libs --static puzzlefs) -Wl,--no-warnings"
compile "$work/static" gcc -static
run "$work/static" ''

# The sanitizer's part of the program has to fit to that of the library: for threads it is rustc's.
libraries="-L$address $(pkg-config --cflags --libs puzzlefs)"
compile "$work/address" gcc -fsanitize=address
run "$work/address" "$address"
runtime=$(ls "$(rustc --print sysroot)"/lib/rustlib/*/lib/librustc*_rt.tsan.a)
libraries="-L$thread $(pkg-config --cflags --libs puzzlefs) -Wl,--whole-archive $runtime -Wl,--no-whole-archive -lm -lresolv"
compile "$work/thread" clang -fsanitize=thread -fno-sanitize-link-runtime -rdynamic
run "$work/thread" "$thread"
