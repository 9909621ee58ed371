#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains the default success head again from continuations that the model drew (soothe calibrator train --samples-out).
#   make_nado.sh BUILD SAMPLES [OUT]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
samples=$2
out=${3:-models/default.nado.gguf}
model=$("$build/soothe" pull smollm2-135m-instruct --as q8_0)
"$build/soothe" nado train -m "$model" --samples "$samples" --prompts 200 --strength 10 -t 1 -o "$out"
