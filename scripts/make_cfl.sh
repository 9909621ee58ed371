#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures the shipped table of words again (models/default.cfl.gguf), and prints what the fairness test looks at.
#   make_cfl.sh SETS [BUILD [WORK]]
# SETS holds the sets that scripts/make_cfl_data.py names; about a minute on one core.
set -euo pipefail
sets=$(realpath "$1")
cd "$(dirname "$0")/.."
build=$(realpath "${2:-build}")
work=${3:-$(mktemp -d)}
mkdir -p "$work"
scripts/make_cfl_data.py "$sets" "$work/texts.jsonl"
SOOTHE_MODELS=models "$build/soothe" cfl train --data "$work/texts.jsonl" --sentences 100 --confidence 0.99 -o models/default.cfl.gguf
SOOTHE_MODELS=models "$build/soothe" cfl show models/default.cfl.gguf female black gay hispanic african --scorer default
