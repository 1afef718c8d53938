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
# π0's learning rate was meant for 14000 steps at first.
{
    $python -m tabletop.train pi0 --out "$out/pi0" --resume --steps 14000 --until 5000
    $python -m tabletop.train pi0 --out "$out/pi0" --resume --steps 10000
} >"$out/pi0.log" 2>&1 &
first=$!
{
    $python -m tabletop.train pi05 --out "$out/pi05" --resume --steps 14000 --until 1500
    $python -m tabletop.train pi05 --out "$out/pi05" --resume --steps 8000 --until 5000
    $python -m tabletop.train pi05 --out "$out/pi05" --resume --steps 6500
} >"$out/pi05.log" 2>&1 &
second=$!
trap 'kill $first $second 2>/dev/null' INT TERM
wait $first
wait $second
for model in pi0 pi05; do
    $python -m tabletop.goldens "$out/$model/checkpoint"
    $python -m tabletop.evaluate "$out/$model/checkpoint" --episodes 200 --conditions all --json "$out/$model/success.json"
done
