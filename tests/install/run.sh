#!/bin/sh
# run.sh DIR: installs in the ways that users and packagers do, in DIR, compiles and runs a program with what
# pkg-config says and nothing else, and uninstalls: nothing is left. `make test-install` calls it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
rm -rf "$1"
mkdir -p "$1"
dir=$(cd "$1" && pwd)

same() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'" >&2; exit 1; }; }
files() { find "$1" ! -type d -printf '%P\n' | LC_ALL=C sort; }

# build LIBDIR [FLAG...]: an image by a program that is linked so, with the library of LIBDIR.
build() {
    libdir=$1
    shift
    # shellcheck disable=SC2046  # a list of flags
    cc -o "$dir/build" "$root/examples/c/build.c" $(pkg-config --cflags --libs "$@" puzzlefs) "$@" -Wl,--no-warnings
    rm -rf "$dir/images"
    LD_LIBRARY_PATH=$libdir "$dir/build" "$root/include" "$dir/images:v1" 2>"$dir/log"
}

# A folder of one's own, by who has no cargo, and keeps new files private.
mkdir "$dir/bin"
printf '#!/bin/sh\necho "cargo was called" >&2\nexit 1\n' >"$dir/bin/cargo"
chmod 755 "$dir/bin/cargo"
home=$dir/home/.local
(umask 077 && PATH=$dir/bin:$PATH make --directory="$root" --no-print-directory install PREFIX="$home" >"$dir/log")
installed=$(files "$home")
same "$installed" "$(cat "$here/files")"
same "$(find "$home" -type f ! -perm 644 ! -perm 755)" ''
export PKG_CONFIG_PATH="$home/lib/pkgconfig"
digest=$("$home/bin/puzzlefs" build --quiet "$root/include" "$dir/cli:v1")
same "$(build "$home/lib")" "$digest"
same "$(build /nowhere --static)" "$digest"
same "$(readelf --dynamic "$dir/build" | grep -c NEEDED || true)" 0
grep -q 'puzzlefs_build()' "$home/share/man/man3/libpuzzlefs.3"
make --directory="$root" --no-print-directory uninstall PREFIX="$home" >"$dir/log"
same "$(files "$home")" ''

# A package: into a folder that is not where it will be, for several architectures side by side.
triplet=$(cc -print-multiarch)
package() { make --directory="$root" --no-print-directory "$1" DESTDIR="$dir/package" PREFIX=/usr LIBDIR="/usr/lib/$triplet" >"$dir/log"; }
package install-strip
same "$(files "$dir/package/usr" | sed "s|^lib/$triplet/|lib/|")" "$installed"
same "$(readlink "$dir/package/usr/sbin/mount.puzzlefs")" /usr/bin/puzzlefs
export PKG_CONFIG_PATH="$dir/package/usr/lib/$triplet/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$dir/package"
same "$(pkg-config --modversion puzzlefs)" "$("$dir/package/usr/bin/puzzlefs" --version | cut -d ' ' -f 2)"
same "$(build "$dir/package/usr/lib/$triplet")" "$digest"
same "$(build /nowhere --static)" "$digest"
for file in bin/puzzlefs "lib/$triplet/libpuzzlefs.so" "lib/$triplet/libpuzzlefs.a"; do
    same "$(readelf --sections --wide "$dir/package/usr/$file" | grep -c ' \.debug_line' || true)" 0
done
package uninstall
same "$(files "$dir/package")" ''

echo 'installed, used and uninstalled: in a home folder and, stripped, as a package'
