#!/usr/bin/env bash
# Installs what has been built: libraries, headers, pkg-config and CMake files, manual pages, and
# pi0rt and pi0rtd where they were built too.
#
#   packaging/install.sh [--build DIR] [--libdir DIR] [--service] PREFIX [DESTDIR]
#
#   --build DIR    where cargo has put the libraries; default target/release
#   --libdir DIR   for libraries, below PREFIX; default lib
#   --service      also what makes pi0rtd a service: units, user, directories, /etc/pi0rt/pi0rtd.toml
#   DESTDIR        goes before every path, for packages
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "install.sh: $*" >&2; exit 1; }
usage() { sed -n '5s/^# */usage: /p' packaging/install.sh >&2; exit 2; }

build=target/release
libdir=lib
service=
while [[ ${1-} == --* ]]; do
    [ "$1" != --service ] || { service=yes; shift; continue; }
    [ $# -ge 2 ] || usage
    case $1 in
        --build) build=$2 ;;
        --libdir) libdir=$2 ;;
        *) usage ;;
    esac
    shift 2
done
[ $# -eq 1 ] || [ $# -eq 2 ] || usage
prefix=${1%/} destdir=${2-}
[[ $prefix/ == /* ]] || die "PREFIX is $prefix, expected an absolute path"
[[ $libdir != /* && "/$libdir/" != */../* ]] || die "--libdir is $libdir, expected a path below PREFIX"
for library in libpi0rt.so libpi0rt.a; do
    [ -f "$build/$library" ] || die "$build/$library is missing: cargo build --release, or --build DIR"
done

[ -z "$service" ] || [ -f "$build/pi0rtd" ] || die "$build/pi0rtd is missing, which --service is for"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
soname=$(readelf -d "$build/libpi0rt.so" | sed -n 's/.*SONAME.*\[libpi0rt\.so\.\(.*\)\]/\1/p')
[ -n "$soname" ] || die "$build/libpi0rt.so has no SONAME"
# What `rustc --print native-static-libs` names for the static library.
private="-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc"
# From the CMake files back to PREFIX.
up=$(sed 's|[^/]\{1,\}|..|g' <<<"$libdir/cmake/pi0rt")

root=$destdir$prefix
lib=$root/$libdir
fill() {
    sed -e "s|@PREFIX@|${prefix:-/}|" -e "s|@LIBDIR@|$libdir|" -e "s|@VERSION@|$version|" -e "s|@PRIVATE@|$private|" \
        -e "s|@SOVERSION@|$soname|" -e "s|@MAJOR@|${version%%.*}|" -e "s|@UP@|$up|" "$1" >"$2"
    chmod 644 "$2"
}

install -d "$lib/pkgconfig" "$lib/cmake/pi0rt" "$root/include" "$root/share/man/man3"
install -m 755 "$build/libpi0rt.so" "$lib/libpi0rt.so.$version"
ln -sf "libpi0rt.so.$version" "$lib/libpi0rt.so.$soname"
ln -sf "libpi0rt.so.$soname" "$lib/libpi0rt.so"
install -m 644 "$build/libpi0rt.a" "$lib/libpi0rt.a"
install -m 644 include/pi0rt.h include/pi0rt.hpp "$root/include"
fill packaging/pi0rt.pc.in "$lib/pkgconfig/pi0rt.pc"
fill packaging/cmake/pi0rt-config.cmake.in "$lib/cmake/pi0rt/pi0rt-config.cmake"
fill packaging/cmake/pi0rt-config-version.cmake.in "$lib/cmake/pi0rt/pi0rt-config-version.cmake"
install -m 644 packaging/man/*.3 "$root/share/man/man3"
for program in pi0rt pi0rtd; do
    [ -f "$build/$program" ] || continue
    install -D -m 755 "$build/$program" "$root/bin/$program"
    # Those of a program, and of its files.
    for page in packaging/man/"$program".[158] packaging/man/"$program"[-.]*.[158]; do
        [ ! -f "$page" ] || install -D -m 644 "$page" "$root/share/man/man${page##*.}/${page##*/}"
    done
done
# The demo's policies.
if [ -f "$build/pi0rt" ]; then
    for policy in demo/*/; do
        [ ! -f "$policy/model.safetensors" ] || install -D -m 644 -t "$root/share/pi0rt/$policy" "$policy"/*
    done
fi
# A program for another machine can't say them.
if "$build/pi0rt" completions bash >/dev/null 2>&1; then
    completions() {
        install -d "$root/share/${2%/*}"
        "$build/pi0rt" completions "$1" >"$root/share/$2"
        chmod 644 "$root/share/$2"
    }
    completions bash bash-completion/completions/pi0rt
    completions fish fish/vendor_completions.d/pi0rt.fish
    completions zsh zsh/site-functions/_pi0rt
fi
if [ -n "$service" ]; then
    units=$root/lib/systemd/system
    install -d "$units"
    for unit in pi0rtd.service pi0rtd.socket; do
        sed "s|/usr/bin/pi0rt|$prefix/bin/pi0rt|" "packaging/systemd/$unit" >"$units/$unit"
        chmod 644 "$units/$unit"
    done
    install -D -m 644 packaging/systemd/pi0rtd.sysusers "$root/lib/sysusers.d/pi0rtd.conf"
    install -D -m 644 packaging/systemd/pi0rtd.tmpfiles "$root/lib/tmpfiles.d/pi0rtd.conf"
    install -D -m 644 -t "$root/share/doc/pi0rtd/examples" packaging/systemd/examples/*.conf packaging/udev/70-pi0rt.rules
    # What somebody has edited stays.
    [ -e "$destdir/etc/pi0rt/pi0rtd.toml" ] || install -D -m 644 packaging/pi0rtd.toml "$destdir/etc/pi0rt/pi0rtd.toml"
fi
echo "installed pi0rt $version in $root"
