#!/usr/bin/env bash
# Compares the ABI of the client library with the one kept in tests/abi/libpi0rt.abi.
#
#   tests/abi/check.sh           fails on any difference
#   tests/abi/check.sh --renew   keeps today's as the baseline, if it is compatible
#
# Additions (a function, a status, a field at a struct's end) are compatible: renew the baseline in the
# commit that makes them. Changes that break existing programs need another PI0RT_ABI_VERSION and
# another SONAME, and the baseline must be removed by hand.
set -euo pipefail
cd "$(dirname "$0")/../.."

baseline=tests/abi/libpi0rt.abi
for tool in abidw abidiff; do
    if ! command -v $tool >/dev/null; then
        echo "abi: $tool is not installed (Debian: abigail-tools), nothing was compared" >&2
        [ -z "${PI0RT_REQUIRE_TOOLS-}" ] || exit 1
        exit 0
    fi
done

target=${CARGO_TARGET_DIR:-target}
cargo build --quiet --profile abi --no-default-features --features client --lib
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Without everything that depends on the machine, the compiler's version or private types.
abidw --no-corpus-path --no-comp-dir-path --no-show-locs --no-elf-needed --no-architecture \
    --type-id-style hash \
    "$target/abi/libpi0rt.so" | awk -f tests/abi/reachable.awk >"$scratch/today.abi"
# Without debug information there would be no types, and nothing to differ.
for struct in client_options policy_info frame observation completion chunk action_info; do
    grep -q "class-decl name='pi0rt_$struct' size-in-bits" "$scratch/today.abi" ||
        { echo "abi: pi0rt_$struct is not in the debug information of $target/abi/libpi0rt.so" >&2; exit 1; }
done

# The comparison itself must work: a moved field has to be noticed.
sed "s|layout-offset-in-bits='128'|layout-offset-in-bits='160'|" "$scratch/today.abi" >"$scratch/other.abi"
if abidiff "$scratch/other.abi" "$scratch/today.abi" >/dev/null; then
    echo "abi: abidiff doesn't notice a field that has moved" >&2
    exit 1
fi

if [ ! -e $baseline ] && [ "${1-}" = --renew ]; then
    cp "$scratch/today.abi" $baseline
fi
# Bits of the result: 1 and 2 errors, 4 a difference, 8 a certainly incompatible one.
result=0
abidiff $baseline "$scratch/today.abi" || result=$?
case "$((result & 3)),$((result & 8)),$((result & 4)),${1-}" in
    0,0,0,*) echo "abi: as in $baseline" ;;
    0,0,4,--renew) cp "$scratch/today.abi" $baseline && echo "abi: $baseline renewed" ;;
    0,0,4,*) echo "abi: differs from $baseline; if nothing that exists breaks: tests/abi/check.sh --renew" >&2; exit 1 ;;
    0,8,*) echo "abi: programs that exist would break (see $0)" >&2; exit 1 ;;
    *) echo "abi: abidiff failed with $result" >&2; exit 1 ;;
esac
