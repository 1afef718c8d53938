#!/bin/sh
# Level B: builds pi0rt against TTNN and runs it on TTNN's mock device, which computes nothing but
# refuses what a card refuses: shapes, layouts, program configurations, memory.
#
#   ttnn-bridge/mock.sh SDK DESCRIPTOR [CHECKPOINT]
#
# SDK is TTNN's source tree with its build, or its installation; DESCRIPTOR a cluster descriptor such as
# UMD's tests/cluster_descriptor_examples/wormhole_N150.yaml; CHECKPOINT the model to run, tests/golden
# by default (`pi0rt synth` writes one of full size). Other variables of the build (README.md) are passed on.
set -eu

if [ $# -lt 2 ] || [ $# -gt 3 ]; then
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
sdk=$(realpath -e -- "$1")
descriptor=$(realpath -e -- "$2")
checkpoint=$(realpath -e -- "${3:-$(dirname -- "$0")/../tests/golden}")
cd "$(dirname -- "$0")/.."

if [ -d "$sdk/ttnn/api" ]; then
    export TT_METAL_HOME="$sdk"
    runtime=$sdk
else
    export TTNN_PREFIX="$sdk"
    runtime=$sdk/libexec/tt-metalium
fi
# Directory of TTNN's kernels and chip descriptors.
export TT_METAL_RUNTIME_ROOT="${TT_METAL_RUNTIME_ROOT:-$runtime}"
# Directory of TTNN's logs.
export TT_METAL_LOGS_PATH="${TT_METAL_LOGS_PATH:-$PWD/target}"
mock() {
    TT_METAL_MOCK_CLUSTER_DESC_PATH="$descriptor" "$@"
}

cargo build --release --features ttnn --bin pi0rt
# A mock device can't replay a recording.
${CXX:-c++} -std=c++20 -O1 -shared -fPIC ttnn-bridge/programs.cc -o target/programs.so -ldl
mock env LD_PRELOAD="$PWD/target/programs.so" PROGRAMS="$PWD/target/programs.txt" \
    target/release/pi0rt coverage --ops --checkpoint "$checkpoint" --device ttnn --ttnn trace=off --ttnn queues=1
# Programs from the first upload of inputs on: those of the chunk, not of the weights.
echo "programs launched in the chunk: $(sed '1,/^upload/d' target/programs.txt | grep -c ^program)"
sed '1,/^upload/d' target/programs.txt | grep ^program | sort | uniq -c | sort -rn
mock cargo test --release --features ttnn --test ttnn_mock -- --ignored --nocapture
