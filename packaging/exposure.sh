#!/usr/bin/env bash
# The units as systemd reads them, and how much of the machine the daemon is exposed to: fails above 1.0,
# as installed or with what a card needs.
set -euo pipefail
cd "$(dirname "$0")/systemd"
export SYSTEMD_COLORS=0 SYSTEMD_EMOJI=0

command -v systemd-analyze >/dev/null || { echo "exposure.sh: systemd-analyze is missing (Debian: systemd)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Where nothing is installed, the programs that the units name are not there; all else has to be right.
for unit in pi0rtd.service pi0rtd.socket; do
    sed 's|^ExecStart=.*|ExecStart=/bin/true|' $unit >"$work/$unit"
done
verify() {
    local said
    said=$(systemd-analyze verify --man=no "$@" "$work/pi0rtd.service" "$work/pi0rtd.socket" 2>&1) || { echo "$said" >&2; exit 1; }
    # Warnings are exit status 0.
    ! grep -q pi0rtd <<<"$said" || { echo "$said" >&2; exit 1; }
}
verify

exposure() {
    local overall
    systemd-analyze security --offline=true --no-pager "$work/pi0rtd.service" >"$work/table"
    # In tenths, rounded up.
    overall=$(sed -n 's/.*Overall exposure level for pi0rtd.service: \([0-9.]*\).*/\1/p' "$work/table")
    [ -n "$overall" ] || { cat "$work/table" >&2; echo "exposure.sh: no exposure in what systemd-analyze says" >&2; exit 1; }
    echo "exposure $overall $1"
    if ! awk -v is="$overall" 'BEGIN { exit !(is <= 1.0) }'; then
        grep '^✗' "$work/table" >&2
        echo "exposure.sh: expected at most 1.0" >&2
        exit 1
    fi
}
exposure "as installed"
mkdir "$work/pi0rtd.service.d"
cp examples/ttnn.conf "$work/pi0rtd.service.d"
verify
exposure "with ttnn.conf"
