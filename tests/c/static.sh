#!/bin/sh
# What run.sh does with the programs that are fully static: an ordinary user can run them, wherever the library is.
set -eu
same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; exit 1; }; }

for program in *; do
    [ -d "$program" ] || [ ! -x "$program" ] || same "$(readelf --dynamic "$program" | grep -c NEEDED || true)" 0
done
cp "$(command -v puzzlefs)" .
install -d -o 65534 user
set -- setpriv --reuid=65534 --regid=65534 --clear-groups

# What cannot be restored is told as the command-line tool tells it.
./build ../tree whole:v1 >log 2>&1
"$@" ./extract whole:v1 user/ours >ours
"$@" ./puzzlefs extract --quiet whole:v1 user/theirs 2>theirs
same "$(cat ours)" "$(cat theirs)"
grep -q ': owner of' ours

# A system that has no threads to give is an error like any other.
status=0
"$@" prlimit --nproc=2 ./extract whole:v1 user/none >log 2>&1 || status=$?
same $status 1
grep -q ': -10: cannot start a thread: Resource temporarily unavailable' log
[ ! -e user/none ]
