#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the shipped edit again (models/default.surgery.gguf): Model Surgery on SmolLM2-135M-Instruct.
#   make_surgery.sh BUILD RTP [OUT.gguf]
# RTP: the folder that scripts/make_surgery_data.py describes.
set -euo pipefail
build=$(realpath "$1")
rtp=$(realpath "$2")
cd "$(dirname "$0")/.."
out=${3:-models/default.surgery.gguf}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 scripts/make_surgery_data.py "$rtp" "$work/texts.jsonl"
model=$("$build/soothe" pull smollm2-135m-instruct --as q8_0)
"$build/soothe" edit surgery -m "$model" --data "$work/texts.jsonl" -c 64 -t 1 --strength 0.72 --share 0.14 --blocks 20- --diff "$out"
