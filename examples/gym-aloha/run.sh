#!/bin/sh
# Plays ALOHA's simulation by the daemon and checks what comes of it: examples/gym-aloha/run.sh [DIRECTORY]
#
# Needs Python 3.12, cc, and Mesa's EGL (libegl1 and libgl1-mesa-dri on Debian); the rest comes from PyPI. BUILD is where
# pi0rt and libpi0rt.so are (default: target/release).
set -eu
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
build=${BUILD:-$top/target/release}
out=$(mkdir -p "${1:-out}" && cd "${1:-out}" && pwd)
python=${PYTHON:-$out/venv/bin/python}
if [ ! -x "$python" ]; then
    python3.12 -m venv "$out/venv"
    "$python" -m pip install -q -r "$here/requirements.txt"
fi

rm -rf "$out/synth" "$out/checkpoint" "$out/first"
"$build/pi0rt" synth --preset small --set state_dim=14 --set action_dim=14 --out "$out/synth"
"$python" "$here/checkpoint.py" "$out/synth" "$out/checkpoint"
"$build/pi0rt" serve --checkpoint "$out/checkpoint" --profile aloha_sim --socket "$out/pi0rt.sock" --device cpu &
daemon=$!
trap 'kill $daemon 2>/dev/null; wait $daemon 2>/dev/null || true' EXIT
tries=0
until [ -S "$out/pi0rt.sock" ]; do
    kill -0 $daemon && [ $tries -lt 600 ] || { echo "no daemon" >&2; exit 1; }
    tries=$((tries + 1))
    sleep 0.1
done

"$python" "$here/aloha.py" --library "$build/libpi0rt.so" --header "$top/include/pi0rt.h" --socket "$out/pi0rt.sock" \
    --keep "$out/first" --speed "${SPEED:-0.25}"
# The same observation without a daemon: what went through shared memory is what the file says.
"$build/pi0rt" infer --checkpoint "$out/checkpoint" --profile aloha_sim --device cpu --prompt "Transfer cube" --seed 1 \
    --image "cam_high=$out/first/cam_high.png" --state-file "$out/first/state.txt" --format csv --out "$out/first/infer.csv"
"$python" - "$out/first" <<'END'
import sys
import numpy as np
daemon = np.loadtxt(f"{sys.argv[1]}/chunk.txt")
alone = np.loadtxt(f"{sys.argv[1]}/infer.csv", delimiter=",", skiprows=1)
alone = alone[:, -daemon.shape[1]:]
apart = np.abs(daemon - alone).max()
print(f"the first chunk and `pi0rt infer` are at most {apart:.1e} apart")
sys.exit(0 if apart <= 1e-5 else 1)
END
