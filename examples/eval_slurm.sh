#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An evaluation as a Slurm job array: eight processes, each with its share of the prompts, and one that merges them.
#
#     jobs=$(sbatch --parsable examples/eval_slurm.sh)
#     sbatch --dependency=afterok:$jobs --array=0 --wrap "soothe eval merge results/shard-* --out results"
#
# --requeue with --resume: a process that is taken off its machine goes on where it was.
#SBATCH --job-name=soothe-eval
#SBATCH --array=0-7
#SBATCH --cpus-per-task=8
#SBATCH --mem=4G
#SBATCH --time=08:00:00
#SBATCH --requeue
set -euo pipefail
soothe eval -m smollm2-135m-instruct --prompts "${PROMPTS:-rtp.jsonl}" --methods plain,fusion:strength=0.25..1/4 \
    -k 25 -n 20 --seed 1 --out "${OUT:-results}" --resume --threads "${SLURM_CPUS_PER_TASK:-1}" \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
