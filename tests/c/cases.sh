#!/bin/sh
# What run.sh does with the programs that it has put into the current folder, however they are linked.
set -eu
same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; exit 1; }; }

# The same image as the command-line tool's, and what is in it.
same "$(./build ../tree layout:v1 2>log)" "$(puzzlefs build --quiet ../tree cli:v1)"
grep -q '^[0-9]* inodes' log
./tree layout:v1 ../tree
same "$(./list layout:v1 dir/text | sha256sum)" "$(sha256sum <../tree/dir/text)"
same "$(./list layout:v1 | wc -l)" 13
./list layout:v1 | grep -q '^120777 .* link -> file$'
same "$(./read-all layout:v1 8)" "$(find ../tree -type f -printf '%s\n' | awk '{sum += $1} END {print NR " files, " sum " bytes"}')"
same "$(./read-all layout:none 2>&1 || echo "failed with $?")" "no image tagged 'none' in layout 'layout' (it has: v1)
failed with 1"

set -- --exclude '*.o' --exclude dir/sub --one-file-system --owner 12:34 --clamp-mtime=1000000000 \
    --architecture riscv64 --os plan9 --config ../config --annotation org.example.a=one=1 --annotation org.example.b=two \
    --created 1234567890 --author Ada --created-by 'a test' --comment 'with everything' --quiet ../tree
same "$(./options ../tree layout:packs packs ../config)" \
    "$(puzzlefs build --compression=zstd:7 --pack-size 2M --selinux "$@" cli:packs)"
same "$(./options ../tree layout:chunks chunks ../config)" \
    "$(puzzlefs build --compression=none --layout blob-per-chunk "$@" cli:chunks)"

# The next step: a change in an upperdir.
mkdir upper
echo new >upper/new
same "$(./step layout:v1 upper layout:v2 'a step' 2>log)" \
    "$(puzzlefs delta --quiet --base cli:v1 --created-by 'a step' upper cli:v2)"
grep -q "are the base's; 4 bytes new" log

mkdir misused
./build ../tree misused/layout:v1 >/dev/null 2>&1
./misuse ../tree misused/layout
./progress ../tree watched extracted
./tree watched:v1 extracted
./threads ../tree layout

# A mount, until it is unmounted or told to end.
mkdir mnt
./mounts layout mnt
for how in umount ctrl-c; do
    ./mount layout:v1 mnt kept >"log-$how" & process=$!
    trap 'kill $process' EXIT
    until grep -qs '^mounted on /.*/mnt$' "log-$how"; do kill -0 $process; sleep 0.02; done
    cmp mnt/dir/text ../tree/dir/text
    echo new >"mnt/$how"
    if [ $how = umount ]; then puzzlefs umount mnt; else kill -s INT $process; fi
    wait $process
    trap - EXIT
done
same "$(ls kept/upper)" "$(printf 'ctrl-c\numount')"

# Ctrl-C: no tag, and what was there before is whole.
before=$(find layout | sort)
status=0
timeout --preserve-status --signal=INT 1 ./build /usr layout:interrupted >log 2>&1 || status=$?
same $status 130
same "$(find layout | sort)" "$before"
same "$(./fsck layout)" ''

# What is damaged is told as the command-line tool tells it.
manifest=$(jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "v1").digest' layout/index.json)
pack=$(jq -r '.layers[1:] | max_by(.size).digest' "layout/blobs/sha256/${manifest#sha256:}")
printf damaged | dd of="layout/blobs/sha256/${pack#sha256:}" bs=1 seek=1000 conv=notrunc status=none
same "$(./fsck layout || echo failed)" "$(puzzlefs fsck --quiet layout || echo failed)"
same "$(./fsck layout | wc -l)" 1
