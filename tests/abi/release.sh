#!/usr/bin/env bash
# Keeps the client library and the header of a release in tests/abi/releases, to test that today's
# daemon serves it (tests/ipc/releases.rs).
#
#   tests/abi/release.sh [COMMIT]     default: HEAD; the version is that of its Cargo.toml
#
# Run it when a version is released, and commit the result once: a release doesn't change. The library
# is built for size, without symbols, and without paths of the build machine.
set -euo pipefail
cd "$(dirname "$0")/../.."

commit=${1:-HEAD}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/source"
git archive "$commit" | tar -x -C "$scratch/source"

machine=$(uname -m)
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$scratch/source/Cargo.toml" | head -1)
kept=tests/abi/releases/$version

flags="--remap-path-prefix=$scratch/source=pi0rt -Clink-arg=-Wl,--build-id=none"
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
    flags+=" --remap-path-prefix=$crates=crates"
done
(
    cd "$scratch/source"
    export CARGO_PROFILE_RELEASE_OPT_LEVEL=z CARGO_PROFILE_RELEASE_LTO=fat CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 \
        CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_PROFILE_RELEASE_STRIP=symbols RUSTFLAGS="$flags"
    cargo build --quiet --locked --release --lib --no-default-features --features client --target-dir "$scratch/target"
)
library=$scratch/target/release/libpi0rt.so
objcopy --remove-section=.comment "$library"
if strings -n 4 "$library" | grep -nF -e "$HOME" -e "$scratch" -e "$PWD" -e /registry/ -e crates.io -e "$(uname -n)/"; then
    echo "release: the library names a place of this machine" >&2
    exit 1
fi
mkdir -p "$kept/include"
cp "$scratch/source/include/pi0rt.h" "$kept/include/"
cp "$library" "$kept/libpi0rt-$machine.so"
chmod 644 "$kept/libpi0rt-$machine.so"
echo "release: $version of $(git rev-parse --short "$commit"), $(stat -c %s "$kept/libpi0rt-$machine.so") bytes for $machine"
