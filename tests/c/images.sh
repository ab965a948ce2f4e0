#!/bin/sh
# The same tags, configuration, differences and garbage as with the command-line tool. See run.sh.
set -eu

./build ../tree images-layout:v1 >log 2>&1
./options ../tree images-layout:packs packs ../config >log
cp -r images-layout images-cli
{
    puzzlefs config images-cli:v1 --tag c --platform linux/amd64 --clear config.env --clear manifest.annotations \
        --entrypoint /bin/sh --entrypoint -c --cmd true --env A=1=2 --env B= --label a=b=c --label d= --volume /v \
        --volume /w --expose 80/tcp --expose 53 --annotation org.example.c=d --user 0:0 --workdir /tmp \
        --stop-signal SIGINT --config ../config --architecture riscv64 --os plan9 --author Ada --created-by 'a test' \
        --comment 'with everything' --created -1
    puzzlefs config images-cli:c --tag d --created-by 'puzzlefs config' >log
    puzzlefs tag images-cli:c d
    puzzlefs untag images-cli:c
    puzzlefs tags --json images-cli
    # The tree has no backslash, and one name that the command escapes.
    puzzlefs diff images-cli:v1 images-cli:packs | sed 's/not UTF-8 \\xff and\\na/not UTF-8 \xff and\na/'
    puzzlefs gc --json --grace 0 --dry-run images-cli
    puzzlefs gc --json --grace 0 images-cli
} | tr -d ' \n' >expected
./images images-layout ../config | tr -d ' \n' >seen
diff seen expected
grep -q '"removed":\["sha256:' expected
