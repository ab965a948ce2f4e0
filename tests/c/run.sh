#!/bin/sh
# Compiles the C tests and examples against the installed library, dynamically and fully static, and runs them.
# `make test-c` says where the library is, by PKG_CONFIG_PATH, LD_LIBRARY_PATH and PATH. Wants root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"

"$here/header.sh"
"$here/tree.sh" "$work/tree"
echo '{"config": {"Env": ["A=b"]}, "variant": "v9"}' >"$work/config"

for link in dynamic static; do
    mkdir "$work/$link"
    # The static library warns of getaddrinfo and the like, which Rust's standard library has and nobody calls.
    flags='-Wl,--no-warnings -static'
    [ $link = static ] || flags=
    for source in "$here"/*.c "$here"/../../examples/c/*.c; do
        # shellcheck disable=SC2046,SC2086  # lists of flags
        gcc -std=c99 -O1 -g -Wall -Wextra -Wpedantic -Wconversion -Werror -pthread -o "$work/$link/$(basename "$source" .c)" \
            "$source" $(pkg-config --cflags --libs ${flags:+--static} puzzlefs) $flags
    done
    (cd "$work/$link" && "$here/cases.sh" && "$here/images.sh" && "$here/$link.sh")
    echo "C tests, $link: passed"
done
