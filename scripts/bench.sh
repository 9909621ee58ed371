#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The costs that docs/fusion.md quotes, as ratios.   bench.sh BUILD [7b] [batch=N]...   further words go to bench_decode
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
seven=
[ "${2:-}" = 7b ] && seven=7b
shift $(($# > 1 ? 1 + (${#seven} > 0) : $#))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$("$build/soothe" pull smollm2-135m-instruct)
if [ -e models/default.calibrator.gguf ]; then
    echo "== default calibrator on SmolLM2-135M-Instruct"
    "$build/bench/bench_decode" "$model" models/default.calibrator.gguf "$@"
fi
for blocks in 1 2 3; do
    echo "== $blocks blocks, untrained, on SmolLM2-135M-Instruct"
    "$build/soothe" calibrator init -m "$model" --blocks $blocks -o "$work/$blocks.gguf"
    "$build/bench/bench_decode" "$model" "$work/$blocks.gguf" "$@"
done
if [ -n "$seven" ]; then
    echo "== 3 blocks of the 135M beside a random model of a 7B's shape (writes 4 GB)"
    "$build/bench/bench_make_shape" "$model" "$work/7b.gguf" 4096 32 11008 32 "$work/3.gguf" "$work/7b.cal.gguf"
    "$build/bench/bench_decode" "$work/7b.gguf" "$work/7b.cal.gguf" rounds=7 tokens=8 prompt=64
fi
