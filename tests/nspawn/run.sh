#!/usr/bin/env bash
# The packages as a user meets them: installed, started, killed, hung, stopped, rebooted and purged under systemd, in a
# container with a Debian of its own. Needs root, debootstrap, systemd-container and what packaging/deb.sh needs; takes
# 2 GB below --dir and some minutes.
#
#   tests/nspawn/run.sh --run [--dir DIR] [--built] [--keep]
#
#   --run      because it boots a system: not by accident
#   --dir DIR  where it is put; default: a new directory in /tmp. One that is named stays, and spares the next run a download.
#   --built    with the packages and the daemon that the last run has built
#   --keep     leaves the container's files, too
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
    # A daemon whose card can be told to hang.
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
