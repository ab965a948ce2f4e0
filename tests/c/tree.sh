#!/bin/sh
# tree.sh DIRECTORY: makes a small tree that has everything that a tree can have. Wants root.
set -eu
mkdir "$1"
cd "$1"

echo 'a file' >file
ln file 'another name'
ln -s file link
ln -s '../dangling and / long' dangling
mkdir dir dir/sub empty
: >dir/sub/empty
head -c 300000 /dev/urandom >dir/random
seq 100000 >dir/text
cp dir/text dir/object.o
truncate -s 3M dir/hole
echo data | dd of=dir/hole bs=1 seek=1000000 conv=notrunc status=none
mkfifo fifo
mknod char c 1 3
mknod block b 259 1048575
python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind("socket")'
touch "$(printf 'not UTF-8 \377 and\na line')" "$(printf '%0255d' 0)"

setfattr -n user.text -v value file
setfattr -n user.empty file
setfattr -n user.binary -v 0x00ff00 dir
setfattr -n trusted.secret -v value link --no-dereference
setfattr -n security.selinux -v 'system_u:object_r:etc_t:s0' file
setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 dir/text

chown 1234:4294967294 dir/random
chown -h 1:2 link
chmod 6755 dir/random
chmod 1777 dir/sub
chmod 0 empty
touch -h -d '1969-12-31T23:59:58.25Z' link
touch -d '2100-01-01T00:00:00.999999999Z' file
touch -d '2001-02-03T04:05:06.7Z' dir
