# What deb.sh and tarball.sh have in common: they source it, in the source tree. Reads the arguments, builds, and says
# where the build is, its version and its time.
script=${0##*/}
die() { echo "$script: $*" >&2; exit 1; }
needs() {
    for program; do
        command -v "$program" >/dev/null || die "$program is missing"
    done
}

features=
if [ $# -eq 2 ] && [ "$1" = --features ]; then
    features=$2
elif [ $# -gt 0 ]; then
    sed -n '4s/^# */usage: /p' "packaging/$script" >&2
    exit 2
fi
needs cargo readelf

out=${CARGO_TARGET_DIR:-target}
# The library is the client's half alone: built in the same place, either would be made anew each time.
cargo build --release --locked --bins ${features:+--features "$features"} --target-dir "$out"
cargo build --release --locked --lib --no-default-features --features client --target-dir "$out/client"
out=$(cd "$out" && pwd)
build=$out/package
rm -rf "$build"
mkdir "$build"
cp "$out"/release/{pi0rt,pi0rtd} "$out"/client/release/{libpi0rt.so,libpi0rt.a} "$build"

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
# Files have the commit's time, so that one commit gives one package.
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
