# All of the library, by a tool in one of the languages that it is for: TOOL. What is expected is what others say: the
# puzzlefs command, the file system, tar, jq. run.sh runs it for each language. Wants root.

bats_require_minimum_version 1.5.0

# Lines of a report of the puzzlefs command, as the tools print it.
BUILT='"digest \(.descriptor.digest)", "verity \(.verity)", "size \(.descriptor.size)",
    ((del(.bytes), .bytes) | to_entries[] | select(.value | type == "number") | "\(.key) \(.value)")'
COUNTED='to_entries[] | select(.value | type == "number") | "\(.key) \(.value)"'

setup_file() {
    cd "$BATS_FILE_TMPDIR"
    chmod 755 . "$BATS_RUN_TMPDIR"
    "$BATS_TEST_DIRNAME/../c/tree.sh" tree
    head -c 6000000 /dev/urandom >tree/dir/more
    echo '{"config": {"Env": ["A=b"]}, "variant": "v9"}' >config.json
    puzzlefs build --quiet tree images:v1
    cp -a tree changed
    echo changed >changed/file
    rm changed/dir/text
    puzzlefs build --quiet --base images:v1 changed images:v2
    mkdir plain
    printf 'what is damaged is read as it is %0100000d' 0 >plain/file
    puzzlefs build --quiet --compression=none plain damaged:v1
    damage damaged 1000
}

setup() { cd "$BATS_TEST_TMPDIR"; ln -s "$BATS_FILE_TMPDIR"/* .; }

teardown() {
    for point in mnt full; do
        if mountpoint --quiet "$point"; then umount --lazy "$point"; fi
    done
}

same() { diff <(printf '%s\n' "$2") <(printf '%s\n' "$1"); }
tool() { "$TOOL" "$@"; }

# The manifest's digest of a tag.
digest() {
    jq -r --arg tag "${1#*:}" '.manifests[] |
        select(.annotations["org.opencontainers.image.ref.name"] == $tag).digest' "${1%:*}/index.json"
}

# Overwrites bytes at an offset of the greatest blob of a layout.
damage() {
    local blob
    blob=$(find "$1/blobs/sha256" -type f -printf '%s %p\n' | sort -n | tail -1 | cut -d ' ' -f 2)
    printf '\0\1\2\3\4\5\6\7' | dd of="$blob" bs=1 seek="$2" conv=notrunc status=none
}

# What Python sees of paths of a tree: in the form of `tool stat`, `tool ls` or `tool xattrs`.
seen() { python3 "$BATS_TEST_DIRNAME/seen.py" "$@"; }

@test "version" {
    same "$(tool version)" "$(pkg-config --modversion puzzlefs)"
}

@test "build: each option reaches the library" {
    local options default number=0
    default=$(digest images:v1)
    cp -a tree/. copy
    mkdir copy/mnt
    ln -s copy/mnt mnt
    mount -t tmpfs tmpfs copy/mnt
    touch copy/mnt/file
    while read -ra options; do
        number=$((number + 1))
        same "$(tool build "${options[@]}" copy "tool$number:v1")" \
            "$(puzzlefs build --quiet --json "${options[@]}" copy "cli$number:v1" | jq -r "$BUILT")"
        case ${options[*]} in
            '') default=$(digest "tool$number:v1") ;;
            --threads=1 | --memory-limit=*) same "$(digest "tool$number:v1")" "$default" ;;
            *) [ "$(digest "tool$number:v1")" != "$default" ] ;;
        esac
    done <<'OPTIONS'

--threads=1
--memory-limit=33554432
--exclude=*.o --exclude=dir/sub
--exclude=random
--one-file-system
--selinux
--owner=0:0
--owner=12:4294967294
--clamp-mtime=0
--clamp-mtime=1000000000
--compression=none
--compression=zstd:1
--compression=zstd:-7
--layout=blob-per-chunk
--pack-size=4194304
--config=config.json
--architecture=riscv64
--os=plan9
--annotation=org.example.a=one=1 --annotation=org.example.b=
--created=0
--created=1234567890
--author=Ada
--created-by=somebody
--comment=words
OPTIONS
}

@test "build: on a base" {
    same "$(tool build --base=images:v1 changed mine:v2)" \
        "$(puzzlefs build --quiet --json --base=images:v1 changed cli:v2 | jq -r "$BUILT")"

    cp -a plain/. silent
    cp -a silent/file silent/other
    touch -d @1 silent/file
    touch -r silent/file mtime
    puzzlefs build --quiet silent base:v1
    printf WHAT | dd of=silent/file conv=notrunc status=none
    touch -r mtime silent/file
    tool build --base=base:v1 silent mine:seen
    tool build --base=base:v1 --trust-mtime silent mine:trusted
    same "$(tool cat mine:seen file | head -c 4)" WHAT
    same "$(tool cat mine:trusted file | head -c 4)" what

    tool build --base=damaged:v1 tree mine:v3
    run -1 --separate-stderr tool build --base=damaged:v1 --verify-base tree mine:v4
    [[ $stderr = 'Corrupt: '* ]]
}

@test "delta: the namespace of the marks" {
    mkdir -p upper/dir
    setfattr -n user.overlay.opaque -v y upper/dir
    for marks in auto trusted user; do
        same "$(tool delta --base=images:v1 --marks=$marks upper "tool:$marks")" \
            "$(puzzlefs delta --quiet --json --base=images:v1 --marks=$marks upper "cli:$marks" | jq -r "$BUILT")"
    done
    same "$(tool ls tool:user dir)" ''
    same "$(tool ls tool:trusted dir)" "$(tool ls images:v1 dir)"
}

@test "convert and canonicalize" {
    mkdir first second
    echo one >first/file
    seq 1000 >second/numbers
    umoci init --layout ordinary
    umoci new --image ordinary:v1
    for layer in first second; do
        tar -C $layer -cf $layer.tar .
        umoci raw add-layer --image ordinary:v1 $layer.tar
    done
    for options in '' --squash --author=Ada; do
        tag=v1${options%%=*}
        # shellcheck disable=SC2086  # no word, or one
        same "$(tool convert $options ordinary:v1 "tool:$tag")" \
            "$(puzzlefs convert --quiet --json $options ordinary:v1 "cli:$tag" | jq -r "$BUILT")"
        # shellcheck disable=SC2086
        same "$(tool canonicalize ${options#--squash} "tool:$tag" "tool:plain")" \
            "$(puzzlefs canonicalize --quiet --json ${options#--squash} "cli:$tag" "cli:plain" | jq -r "$BUILT")"
    done
    [ "$(digest tool:v1)" != "$(digest tool:v1--squash)" ]
    same "$(tool cat tool:v1 numbers)" "$(seq 1000)"
}

@test "config: each option reaches the library" {
    local options default number=0
    puzzlefs build --quiet --config=config.json --annotation=org.example.a=1 changed tool:v1
    cp -a tool cli
    echo '{"config": {"User": "5"}}' >other.json
    while read -ra options; do
        number=$((number + 1))
        same "$(tool config --tag="n$number" "${options[@]}" tool:v1)" \
            "$(puzzlefs config --tag="n$number" --json "${options[@]}" cli:v1 |
                jq -r '"digest \(.descriptor.digest)", "verity \(.verity)", "size \(.descriptor.size)"')"
        [ "$(digest "tool:n$number")" != "${default-}" ]
        : "${default:=$(digest "tool:n$number")}"
    done <<'OPTIONS'
--comment=alone
--clear=config.env --clear=manifest.annotations
--entrypoint=/bin/sh --entrypoint=-e
--cmd=ls --cmd=-l
--env=A=c=d --env=E=
--label=a=1 --label=b=x=y
--volume=/data --volume=/more
--expose=80 --expose=53/udp
--user=1:2
--workdir=/home
--stop-signal=SIGINT
--annotation=org.example.a=2 --annotation=org.example.b=x=y
--config=other.json
--architecture=riscv64
--os=plan9
--created=0
--author=Ada
--created-by=somebody
--comment=words
OPTIONS
    # Without --tag it is the image's own.
    same "$(tool config --user=3 tool:v1 | head -1)" "digest $(digest tool:v1)"
}

@test "an image of an index, by its platform" {
    puzzlefs build --quiet --architecture=riscv64 changed many:riscv
    puzzlefs build --quiet --architecture=s390x tree many:s390
    index=$(jq -c '{schemaVersion, mediaType: "application/vnd.oci.image.index.v1+json", manifests:
        [.manifests[] | .platform = {os: "linux", architecture: (.annotations[] | {riscv: "riscv64", s390: "s390x"}[.])} |
        del(.annotations)]}' many/index.json)
    sum=$(printf %s "$index" | sha256sum | cut -d ' ' -f 1)
    printf %s "$index" >"many/blobs/sha256/$sum"
    jq -c --arg digest "sha256:$sum" --argjson size "${#index}" '.manifests += [{
        mediaType: "application/vnd.oci.image.index.v1+json", digest: $digest, size: $size,
        annotations: {"org.opencontainers.image.ref.name": "all"}}]' many/index.json >index.json
    mv index.json many/index.json
    for pair in riscv64:riscv s390x:s390; do
        platform=linux/${pair%:*} tag=${pair#*:}
        same "$(tool inspect --platform="$platform" many:all)" "$(tool inspect many:"$tag")"
        tool build --base=many:all --platform="$platform" tree "built:$tag"
        tool build --base=many:"$tag" tree "built:again"
        same "$(digest "built:$tag")" "$(digest built:again)"
        tool canonicalize --platform="$platform" many:all "bare:$tag"
        tool canonicalize many:"$tag" bare:again
        same "$(digest "bare:$tag")" "$(digest bare:again)"
        cp -a many copy
        tool config --platform="$platform" --user=1 --tag="$tag" copy:all
        same "$(tool inspect copy:"$tag" | jq -r .config.architecture)" "${pair%:*}"
        rm -r copy
    done
}

@test "tags, tag, untag, gc" {
    cp -a images/. mine
    tool tag mine:v1 latest
    tool untag mine:v2
    tool tag "mine@$(digest mine:v1)" other
    same "$(digest mine:latest) $(digest mine:other)" "$(digest images:v1) $(digest images:v1)"
    same "$(tool tags mine)" "$(puzzlefs tags --json mine | jq -c .)"
    same "$(tool tags mine | jq -r '[.[].tag] | join(" ")')" 'v1 latest other'
    for options in --dry-run '--grace=0 --dry-run' '' --grace=1000000 --grace=0; do
        rm -rf copy
        cp -a mine copy
        rm -rf copy-of-cli
        cp -a mine copy-of-cli
        # shellcheck disable=SC2086  # words
        same "$(tool gc $options copy)" "$(puzzlefs gc --quiet --json $(echo $options | sed 's/=\([0-9]*\)/=\1s/') copy-of-cli | jq -c .)"
        same "$(find copy -printf '%P\n' | sort)" "$(find copy-of-cli -printf '%P\n' | sort)"
    done
    same "$(tool gc --grace=0 mine | jq '.removed | length > 0')" true
    tool untag "mine@$(digest mine:v1)"
    same "$(tool tags mine)" '[]'
}

@test "stat, ls, xattrs, cat: what the file system says" {
    local path
    while IFS= read -r -d '' path; do
        same "$(tool stat images:v1 "$path")" "$(seen stat tree "$path")"
        same "$(tool xattrs images:v1 "$path")" "$(seen xattrs tree "$path")"
        if [ -d "tree/$path" ] && [ ! -L "tree/$path" ]; then
            same "$(tool ls images:v1 "$path")" "$(seen ls tree "$path")"
        elif [ -f "tree/$path" ]; then
            same "$(tool cat images:v1 "$path" | sha256sum)" "$(sha256sum <"tree/$path")"
        fi
    done < <(find tree/ -mindepth 1 -printf '%P\0'; printf '.\0')
    same "$(tool stat --follow images:v1 link | cut -d ' ' -f 2-)" "$(tool stat images:v1 file | cut -d ' ' -f 2-)"
}

@test "inspect, diff, fsck, check: what the command says" {
    same "$(tool inspect images:v1)" "$(puzzlefs inspect --json images:v1 | jq -c .)"
    same "$(tool diff images:v1 images:v2)" "$(puzzlefs diff --json images:v1 images:v2 |
        jq -r '(.changes[] | [.change, .how[]?, .path] | join(" ")), (.added | del(.bytes) | to_entries[] | "\(.key) \(.value)")')"
    same "$(tool diff images:v1 images:v2 | grep text)" 'removed /dir/text'
    same "$(tool diff images:v1 images:v1)" "$(printf '%s 0\n' blobs data metadata)"
    cp -aL damaged harmful
    # Tags as other tools may write them, and more than a line shows.
    jq -c '.manifests[0] as $it | .manifests = [range(0; 102) as $n | $it | .annotations["org.opencontainers.image.ref.name"]
        = "\($n)\n\t\r\u001b[2J\u007f\u009b\u2028" + "é" * 50]' damaged/index.json >harmful/index.json
    for target in images images:v1 damaged harmful; do
        same "$(tool fsck $target)" "$(puzzlefs fsck --quiet $target; puzzlefs fsck --quiet --json $target | jq -r "$COUNTED")"
    done
    tool check images:v1 "$(digest images:v1)"
    run -1 --separate-stderr tool check images:v1 "$(digest images:v2)"
    [[ $stderr = 'Corrupt: '* ]]
}

@test "fsck repairs, from the first layout that has a good copy" {
    local copy
    for copy in mended expected other; do cp -aL damaged $copy; done
    puzzlefs build --quiet --compression=none plain good:v1
    same "$(tool fsck --repair-from=other --repair-from=good mended)" \
        "$(puzzlefs fsck --quiet --repair --from other --from good expected; puzzlefs fsck --quiet --json good | jq -r "$COUNTED")"
    diff -r mended good
    same "$(tool fsck mended)" "$(puzzlefs fsck --quiet --json good | jq -r "$COUNTED")"
}

@test "digests are checked, unless not wanted" {
    run -1 --separate-stderr tool cat damaged:v1 file
    [[ $stderr = 'Corrupt: '* ]]
    run -1 --separate-stderr tool extract damaged:v1 out
    [[ $stderr = 'Corrupt: '* ]]
    same "$(tool cat --no-verify damaged:v1 file | wc -c)" "$(wc -c <plain/file)"
    tool extract --no-verify damaged:v1 out
}

@test "extract" {
    same "$(tool extract images:v1 out)" "$(puzzlefs extract --quiet --json images:v1 out-of-cli | jq -r "$COUNTED")"
    same "$(puzzlefs build --quiet out again:v1)" "$(digest images:v1)"
    tool extract --no-same-owner images:v1 mine
    same "$(find mine ! -uid 0 -o ! -gid 0)" ''

    install -d -o 65534 user
    nobody() { setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
    same "$(nobody "$TOOL" extract images:v1 user/out)" "$(nobody puzzlefs extract --quiet --json images:v1 user/out-of-cli 2>log |
        jq -r "(.lost[] | \"lost \(.what) \(.count) \(.first)\"), ($COUNTED)")"
}

@test "export" {
    puzzlefs export --quiet --output cli.tar images:v1
    same "$(tool export images:v1 tool.tar)" "$(printf '%s\n' "entries $(tar -tf cli.tar | wc -l)" \
        "bytes $(puzzlefs build --quiet --json tree again:v1 | jq .bytes.read)" 'sockets 1')"
    cmp tool.tar cli.tar
}

# [image=IMAGE] mounted OPTION...: mounts with the options; `unmounted` ends it.
mounted() {
    [ -p stdin ] || mkfifo stdin
    : >stdout
    "$TOOL" mount "$@" "${image-images:v1}" mnt <stdin >stdout 2>stderr 3>&- & process=$!
    exec {end}>stdin
    until grep -qx "$(realpath mnt)" stdout; do kill -0 $process; sleep 0.02; done
}

unmounted() {
    exec {end}>&-
    wait $process
    ! mountpoint --quiet mnt
}

@test "mount: each option reaches the library" {
    local options wanted
    mkdir mnt
    while IFS='|' read -r options wanted; do
        # shellcheck disable=SC2086  # words
        mounted $options
        cmp mnt/dir/text tree/dir/text
        echo "$options"
        [[ ",$(findmnt --noheadings --raw --output OPTIONS mnt | tr -d '\n')," == $wanted ]]
        unmounted
    done <<'OPTIONS'
|*,allow_other,*
--allow-other|*,allow_other,*
--owner-only|!(*,allow_other,*)
--owner-only --default-permissions|*,default_permissions*
--nosuid|!(*,nodev,*|*,noexec,*)
--nosuid|*,nosuid,*
--nodev|*,nodev,*
--noexec|*,noexec,*
--threads=1|!(*,nosuid,*|*,nodev,*|*,noexec,*)
OPTIONS
    mounted --source=a-source
    same "$(findmnt --noheadings --output SOURCE mnt)" a-source
    unmounted

    mounted --uid-map=0:1000:1+1234:5:1 --gid-map=0:2000:1
    same "$(stat --format='%u %g' mnt/file mnt/dir/random | tr '\n' ' ')" '1000 2000 5 65534 '
    unmounted

    mounted --writable
    echo new >mnt/new
    unmounted
    mounted --persist=kept
    echo kept >mnt/new
    unmounted
    mounted --persist=kept
    same "$(cat mnt/new kept/upper/new | tr '\n' ' ')" 'kept kept '
    unmounted
}

@test "mount: what cannot be read is told, and unmount" {
    mkdir mnt
    image=damaged:v1 mounted
    run cat mnt/file
    [ "$status" = 1 ]
    grep -q '^log: .*file' stderr
    exec {held}<mnt/file
    run -1 --separate-stderr tool unmount mnt
    [[ $stderr = 'Io: '* ]]
    tool unmount --lazy mnt
    ! mountpoint --quiet mnt
    exec {held}<&-
    unmounted
}

@test "kinds of errors" {
    local kind arguments message
    mkdir mnt full
    mount -t tmpfs -o size=1M tmpfs full
    cp -a images/. newer
    echo '{"imageLayoutVersion": "2.0.0"}' >newer/oci-layout
    install -d -m 700 closed
    while IFS='|' read -r kind arguments message; do
        # shellcheck disable=SC2086  # words
        run -1 --separate-stderr tool $arguments
        echo "$arguments: $stderr"
        # shellcheck disable=SC2053  # a pattern
        [[ $stderr == $kind:\ $message ]]
        same "$output" ''
    done <<'ERRORS'
InvalidInput|build tree images|'images' names no image: *
InvalidInput|build --threads=257 tree mine:v1|257 threads: *
InvalidInput|build --memory-limit=1048576 tree mine:v1|it needs * MiB of memory, and the limit is 1 MiB
InvalidInput|extract --threads=257 images:v1 out|257 threads: *
InvalidInput|mount --threads=257 images:v1 mnt|257 threads: *
InvalidInput|build --trust-mtime tree mine:v1|*no base image*
InvalidInput|build --compression=zstd:23 tree mine:v1|a compression level of 23: *
InvalidInput|config --clear=nothing images:v1|'nothing' is nothing to be cleared: *
InvalidInput|mount --uid-map=0:0:0 images:v1 mnt|'0:0:0' maps no numbers: *
InvalidInput|tag images:v1 -|'-' is no tag: *
NotFound|build nothing mine:v1|cannot open the directory 'nothing': No such file or directory
NotFound|stat images:none .|no image tagged 'none' in layout 'images' (it has: v1, v2)
NotFound|stat images:v1 dir/none|'dir/none' in the image: there is no 'none'
NotFound|unmount mnt|nothing is mounted on '*/mnt'
AlreadyExists|extract images:v1 tree|'tree' is not empty; *
Corrupt|cat damaged:v1 file|the data blob sha256:*: it does not have this digest: *
Unsupported|inspect newer:v1|the layout 'newer' is of version 2.0.0; *
Changed|build /sys/module/kernel/parameters mine:v1|'/sys/module/kernel/parameters/*' changed while it was read
NoSpace|build tree full/images:v1|*: No space left on device*
Cancelled|build --cancel tree mine:v1|*cancel*
ERRORS
    run -1 --separate-stderr setpriv --reuid=65534 --regid=65534 --clear-groups "$TOOL" build closed mine:v1
    [[ $stderr = 'PermissionDenied: '* ]]
}

@test "what is no argument is told" {
    for arguments in nothing 'build --unknown tree mine:v1' 'build tree' 'tag images:v1 a b' 'inspect'; do
        # shellcheck disable=SC2086  # words
        run -2 tool $arguments
    done
}
