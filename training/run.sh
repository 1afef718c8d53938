#!/bin/sh
# Trains both policies, one core each, and counts their successes: ./run.sh [DIRECTORY]
#
# On two quiet cores this takes about an hour and a half. An interrupted run goes on where it was.
set -eu
out=$(mkdir -p "${1:-out}" && cd "${1:-out}" && pwd)
cd "$(dirname "$0")"
python=${PYTHON:-python3}

# Recorded once, for both.
$python -m tabletop.record --out "$out"
$python -m tabletop.train pi0 --out "$out/pi0" --resume >"$out/pi0.log" 2>&1 &
first=$!
$python -m tabletop.train pi05 --out "$out/pi05" --resume >"$out/pi05.log" 2>&1 &
second=$!
trap 'kill $first $second 2>/dev/null' INT TERM
wait $first
wait $second
for model in pi0 pi05; do
    $python -m tabletop.evaluate "$out/$model/checkpoint" --episodes 200 --conditions all --json "$out/$model/success.json"
done
