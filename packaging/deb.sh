#!/usr/bin/env bash
# Builds the Debian packages pi0rtd, libpi0rt0 and libpi0rt-dev into target/deb.
#
#   packaging/deb.sh [--features LIST]
#
#   --features LIST  further features of the daemon, such as ttnn
#
# Needs cargo, of whatever origin, and Debian's build-essential and debhelper; looks at the result with lintian if that
# is there.
set -euo pipefail
cd "$(dirname "$0")/.."
. packaging/build.sh
needs dpkg-buildpackage dh

work=$out/deb
rm -rf "$work"
mkdir -p "$work/pi0rt"
cp -r packaging/debian "$work/pi0rt/debian"
maintainer=$(sed -n 's/^Maintainer: //p' packaging/debian/control)
cat >"$work/pi0rt/debian/changelog" <<END
pi0rt ($version) unstable; urgency=medium

  * Version $version.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END

export PI0RT_SOURCE=$PWD PI0RT_BUILD=$build
if ! (cd "$work/pi0rt" && dpkg-buildpackage --build=binary --no-sign) >"$work/log" 2>&1; then
    tail -n 40 "$work/log" >&2
    die "dpkg-buildpackage failed, all it said is in $work/log"
fi
rm -r "$work/pi0rt"
if command -v lintian >/dev/null; then
    lintian --fail-on error "$work"/*.changes || die "lintian finds errors"
fi
ls "$work"/*.deb
