#!/usr/bin/env bash
# Tests the packages as a user has them: installed, started, killed, hung, stopped, rebooted and purged under systemd, in
# a container with its own Debian. Needs root, debootstrap, systemd-container and the tools of packaging/deb.sh; takes
# 2 GB below --dir and some minutes.
#
#   tests/nspawn/run.sh --run [--dir DIR] [--built] [--keep]
#
#   --run      required, since the script boots a system
#   --dir DIR  directory of the container; default: a new one in /tmp. A given one is kept, which saves the next run a download.
#   --built    uses the packages and the daemon built by the last run
#   --keep     keeps the container's files, too
set -euo pipefail
cd "$(dirname "$0")/../.."
here=$PWD/tests/nspawn

die() { echo "run.sh: $*" >&2; exit 1; }
usage() { sed -n '6s/^# */usage: /p' "$here/run.sh" >&2; exit 2; }
run='' built='' keep='' dir=''
while [ $# -gt 0 ]; do
    case $1 in
        --run) run=yes ;;
        --built) built=yes ;;
        --keep) keep=yes ;;
        --dir) dir=${2:?what follows --dir}; shift ;;
        *) usage ;;
    esac
    shift
done
[ -n "$run" ] || usage
[ "$(id -u)" = 0 ] || die "only root can make a container"
for program in debootstrap systemd-nspawn nsenter; do
    command -v $program >/dev/null || die "$program is missing (Debian: debootstrap, systemd-container, util-linux)"
done
. "$here/container.sh"

build() {
    step "Building"
    packaging/deb.sh >"$dir/deb.log" 2>&1 || { tail -n 20 "$dir/deb.log" >&2; die "packaging/deb.sh failed: $dir/deb.log"; }
    # A daemon with an emulated card that can hang.
    cargo build --release --locked --features ttnn-emulated --bin pi0rtd --target-dir target/nspawn >"$dir/emulated.log" 2>&1 ||
        { tail -n 20 "$dir/emulated.log" >&2; die "cargo build failed: $dir/emulated.log"; }
}
[ -n "$built" ] || build
make_root
mkdir "$root/root/packages"
cp target/deb/*.deb "$root/root/packages"
rm -f "$root"/root/packages/*-dbgsym_*
install -m 755 target/nspawn/release/pi0rtd "$root/usr/local/lib/pi0rtd-emulated"
install -m 644 -t "$root/usr/local/src" "$here/across.c"
boot
within useradd --create-home arm
within useradd --create-home guest
files >"$dir/before"

. "$here/installed.sh"
. "$here/lives.sh"
. "$here/purged.sh"

printf '\n'
[ $failures = 0 ] || die "$failures checks failed"
echo "all of it holds"
