#!/bin/sh
# Runs the examples of README.md as they stand there, one after the other in one folder, and looks at what they did.
# `make test-readme` says where the library is, by PKG_CONFIG_PATH, LD_LIBRARY_PATH and PATH.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'if mountpoint --quiet "$work/mnt"; then umount --lazy "$work/mnt"; fi; rm -rf "$work"' EXIT
cd "$work"

same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; exit 1; }; }

# The only example in a language, without the lines around it.
example() {
    same "$(grep -c "^\`\`\`$1\$" "$here/../../README.md")" 1
    sed -n "/^\`\`\`$1\$/,/^\`\`\`\$/{/^\`\`\`/!p}" "$here/../../README.md"
}

mkdir -p rootfs/etc
echo 'NAME="A test"' >rootfs/etc/os-release
echo 'Welcome.' >rootfs/etc/motd

example sh >example.sh
sh -eu example.sh >log
grep -q '^-rw.* os-release$' log
grep -qx 'NAME="A test"' log
grep -qx '~ /etc/motd (content, time)' log
same "$(cat somewhere/etc/motd)" 'Welcome to version 2.'
same "$(puzzlefs fsck --quiet elsewhere:v2)" ''

example c >hello.c
# shellcheck disable=SC2046  # a list of flags
gcc -std=c99 -Wall -Wextra -Wpedantic -Wconversion -Werror -o hello hello.c $(pkg-config --cflags --libs puzzlefs)
same "$(./hello)" "$(puzzlefs build --quiet rootfs again:v1)"
mv rootfs away
same "$(./hello 2>&1 || echo failed)" "$(puzzlefs build --quiet rootfs again:v1 2>&1 | sed 's/^puzzlefs: //'; echo failed)"
mv away rootfs

mkdir hello-go
example go >hello-go/main.go
cat >hello-go/go.mod <<END
module example.org/hello
go 1.25.0
require github.com/project-machine/libpuzzlefs/go-bindings v0.0.0
replace github.com/project-machine/libpuzzlefs/go-bindings => $(realpath "$here/../../go-bindings")
END
same "$(gofmt -l hello-go)" ''
(cd hello-go && go vet . && go build -o ../hello-go.out .)
same "$(./hello-go.out)" 'NAME="A test"'

echo 'README.md: its examples passed'
