#!/usr/bin/env bash
# Checks that each public header compiles alone, in every supported language version, with all warnings.
set -euo pipefail
cd "$(dirname "$0")/.."

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
echo '#include <pi0rt.h>' | tee "$scratch/h.c" >"$scratch/h.cpp"
echo '#include <pi0rt.hpp>' >"$scratch/hpp.cpp"
warnings=(-Wall -Wextra -Werror -pedantic -Iinclude -fsyntax-only)

checked=0
check() { "$@" && checked=$((checked + 1)); }
for cc in gcc clang; do
    command -v "$cc" >/dev/null || { echo "headers: $cc not found, left out"; continue; }
    for std in c99 c11 c17 c2x; do check "$cc" -std=$std "${warnings[@]}" "$scratch/h.c"; done
done
for cxx in g++ clang++; do
    command -v "$cxx" >/dev/null || { echo "headers: $cxx not found, left out"; continue; }
    for std in c++11 c++17 c++20 c++2b; do check "$cxx" -std=$std "${warnings[@]}" "$scratch/h.cpp"; done
    for std in c++17 c++20 c++23; do
        # The name in compilers of 2022.
        [ $std != c++23 ] || std=c++2b
        check "$cxx" -std=$std "${warnings[@]}" "$scratch/hpp.cpp"
        check "$cxx" -std=$std -fno-exceptions -fno-rtti "${warnings[@]}" "$scratch/hpp.cpp"
    done
    said=$("$cxx" -std=c++11 "${warnings[@]}" "$scratch/hpp.cpp" 2>&1) && { echo "headers: C++11 is enough?"; exit 1; }
    [[ $said == *"pi0rt.hpp needs C++17 or later"* ]] || { echo "headers: no word on C++17: $said"; exit 1; }
done
[ "$checked" -gt 0 ] || { echo "headers: no compiler found"; exit 1; }
echo "headers: $checked compilations, no warning"
