#!/usr/bin/env bash
# Builds target/pi0rt-VERSION-MACHINE-linux.tar.gz: the programs, the library, and install.sh.
#
#   packaging/tarball.sh [--features LIST]
#
#   --features LIST  further features of the daemon, such as ttnn
#
# Unpacked, `packaging/install.sh --build build [--service] PREFIX` installs it; docs/install.md has the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/build.sh
needs tar gzip strip

name=pi0rt-$version-$(uname -m)-linux
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$name/build" "$work/$name/packaging"
cp -r LICENSE README.md CHANGELOG.md Cargo.toml include examples docs "$work/$name"
cp -r packaging/{cmake,man,systemd,udev,install.sh,pi0rt.pc.in,pi0rtd.toml} "$work/$name/packaging"
cp "$build"/{pi0rt,pi0rtd,libpi0rt.so,libpi0rt.a} "$work/$name/build"
strip "$work/$name/build"/{pi0rt,pi0rtd}
strip --strip-unneeded "$work/$name/build/libpi0rt.so"
strip --strip-debug "$work/$name/build/libpi0rt.a"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$work" -czf "$out/$name.tar.gz" "$name"
ls "$out/$name.tar.gz"
