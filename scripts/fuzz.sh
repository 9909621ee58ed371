#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# libFuzzer on every file reader, SECONDS_EACH (60) each; findings stay in fuzz/findings.
# The engine leaks a few bytes each time its loader refuses a model, so leaks are not looked for where it loads one;
# `make asan` looks for them over the corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
CC=clang CXX=clang++ scripts/setup.sh build-fuzz -DSOOTHE_FUZZ=ON -DSOOTHE_BENCH=OFF \
    -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++
cmake --build build-fuzz
mkdir -p fuzz/findings
export LSAN_OPTIONS="suppressions=$PWD/tests/leaks.supp" OMP_WAIT_POLICY=passive
for source in fuzz/fuzz_*.c; do
    name=$(basename "$source" .c)
    mkdir -p "build-fuzz/corpus/$name"
    leaks=1
    [ "$name" != fuzz_calibrator ] && [ "$name" != fuzz_alignment ] || leaks=0
    ASAN_OPTIONS=detect_leaks=$leaks "build-fuzz/fuzz/$name" -max_total_time="${SECONDS_EACH:-60}" \
        -artifact_prefix=fuzz/findings/ -print_final_stats=1 -rss_limit_mb=4096 -timeout=30 "build-fuzz/corpus/$name" "fuzz/corpus/${name#fuzz_}"
done
