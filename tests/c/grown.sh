#!/bin/sh
# What run.sh does with the programs that are linked with the shared library, under one whose structures have grown
# since, and which has injected defects (tools/grown-library): nothing is printed, and nothing left behind.
set -eu
same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; exit 1; }; }

./build ../tree defects:v1 >log 2>&1
same "$(./faults ../tree defects faulty 2>&1)" ''
same "$(puzzlefs fsck --quiet defects)" ''
same "$(puzzlefs gc --json --dry-run --grace 0 defects | jq .leftovers.count)" 0
