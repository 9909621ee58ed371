#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Several rounds of ACFT (docs/methods/acft.md): each begins at the model that the last one wrote.
#   acft_rounds.sh SOOTHE MODEL.gguf PROMPTS.jsonl USEFUL.jsonl FOLDER sequential|parallel ROUNDS [options of soothe tune]
# sequential  round i: samples of model i-1, a success head on them, model i by that head
# parallel    round i, three jobs at once: head i on samples of model i-2, model i by head i-1, samples of model i-1.
#             A head is then two models old when it is used, and no job waits for another
# SCORE_COMMAND judges samples (reads {"text"}, writes {"score"} lines); without, the built-in lexicon.
# SAMPLES, PREDICT: continuations of a prompt and their tokens (8, 20). What is in FOLDER already is not made again.
set -euo pipefail
soothe=$1 model=$2 prompts=$3 useful=$4 folder=$5 schedule=$6 rounds=$7
shift 7
mkdir -p "$folder"
[ -e "$folder/lm-0.gguf" ] || ln -s "$(realpath "$model")" "$folder/lm-0.gguf"

samples() { # N MODEL: samples-N.jsonl of a model
    [ -e "$folder/samples-$1.jsonl" ] && return
    local by=()
    [ -n "${SCORE_COMMAND:-}" ] && by=(--score-command "$SCORE_COMMAND")
    "$soothe" calibrator train -m "$2" --self --prompts "$prompts" --samples "${SAMPLES:-8}" -n "${PREDICT:-20}" \
        --seed "$((1 + $1))" "${by[@]}" --samples-out "$folder/raw-$1.jsonl" >&2
    # without soothe's first line they are the user's own, whatever made them
    tail -n +2 "$folder/raw-$1.jsonl" >"$folder/samples-$1.part"
    mv "$folder/samples-$1.part" "$folder/samples-$1.jsonl"
}

success_head() { # N MODEL SAMPLES: head-N.gguf
    [ -e "$folder/head-$1.gguf" ] || "$soothe" nado train -m "$2" --samples "$3" -o "$folder/head-$1.gguf" >&2
}

tune() { # N HEAD SAMPLES [options]: lm-N.gguf of lm-(N-1).gguf
    local n=$1 by=$2 from=$3
    shift 3
    [ -e "$folder/lm-$n.gguf" ] || "$soothe" tune --objective acft -m "$folder/lm-$((n - 1)).gguf" --data "$useful" \
        --prompts "$prompts" --nado "$by" --samples-out "$from" -o "$folder/lm-$n.gguf" "$@" >&2
}

at() { # the samples' model of round N: lm-(N), or the first
    echo "$folder/lm-$(($1 > 0 ? $1 : 0)).gguf"
}

if [ "$schedule" = sequential ]; then
    for ((i = 1; i <= rounds; i++)); do
        samples $((i - 1)) "$(at $((i - 1)))"
        success_head $((i - 1)) "$(at $((i - 1)))" "$folder/samples-$((i - 1)).jsonl"
        tune "$i" "$folder/head-$((i - 1)).gguf" "$folder/samples-$((i - 1)).jsonl" "$@"
    done
elif [ "$schedule" = parallel ]; then
    samples 0 "$(at 0)"
    success_head 0 "$(at 0)" "$folder/samples-0.jsonl"
    for ((i = 1; i <= rounds; i++)); do
        jobs=()
        tune "$i" "$folder/head-$((i - 1)).gguf" "$folder/samples-$((i - 1)).jsonl" "$@" &
        jobs+=($!)
        if ((i < rounds)); then
            success_head "$i" "$(at $((i - 2)))" "$folder/samples-$((i - 1)).jsonl" &
            jobs+=($!)
            samples "$i" "$(at $((i - 1)))" &
            jobs+=($!)
        fi
        for job in "${jobs[@]}"; do
            wait "$job"
        done
    done
else
    echo "the schedule is sequential or parallel, not \"$schedule\"" >&2
    exit 2
fi
echo "$folder/lm-$rounds.gguf"
