#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the shipped probe again, and prints its figures.   make_probe.sh BUILD SETS [OUT.gguf]
# SETS: the folder that scripts/make_probe_data.py describes.
set -euo pipefail
build=$(realpath "$1")
sets=$(realpath "$2")
cd "$(dirname "$0")/.."
out=${3:-models/default.probe.gguf}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 scripts/make_probe_data.py "$sets" "$work"
model=$("$build/soothe" pull smollm2-135m-instruct --as q8_0)
"$build/soothe" probe train -m "$model" --data "$work/toxigen.jsonl" --data "$work/implicit_hate.jsonl" --data "$work/davidson.jsonl" \
    --layers 14,16 --pool mean -t 1 -o "$out"
"$build/soothe" probe test -m "$model" --probe "$out" --data "$work/hatecheck.jsonl" -t 1
