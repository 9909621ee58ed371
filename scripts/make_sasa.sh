#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the shipped subspace of SASA again, and the delta beside it.   make_sasa.sh BUILD SETS PROMPTS.jsonl [FOLDER]
# SETS: the folder that scripts/make_probe_data.py describes. PROMPTS: those to branch from (RealToxicityPrompts' lines).
set -euo pipefail
build=$(realpath "$1")
sets=$(realpath "$2")
prompts=$(realpath "$3")
cd "$(dirname "$0")/.."
out=$(realpath "${4:-models}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 scripts/make_probe_data.py "$sets" "$work"
model=$("$build/soothe" pull smollm2-135m-instruct --as q8_0)
"$build/soothe" probe train -m "$model" --data "$work/toxigen.jsonl" --data "$work/implicit_hate.jsonl" --data "$work/davidson.jsonl" \
    --layers final --pool last --kind lda -t 1 -o "$out/default.sasa.gguf"
"$build/soothe" sasa fit-delta -m "$model" --subspace "$out/default.sasa.gguf" --prompts "$prompts" -n 16 -k 12 -t 1 --seed 1 \
    -o "$out/default.sasa-delta.gguf"
