# SPDX-License-Identifier: Apache-2.0
# The example's job array, with the array's variables set by hand and a soothe that takes small sizes.
mkdir bin
"$MAKE_TINY" target.gguf
"$SOOTHE" calibrator init -m target.gguf --blocks 1 -o cal.gguf
cat >bin/soothe <<END
#!/usr/bin/env bash
# the last of an option counts
exec "$SOOTHE" "\$@" -m target.gguf --methods plain,fusion:calibrator=cal.gguf -k 2 -n 3 --group 1 --scorer lexicon -t 1
END
chmod +x bin/soothe
export PATH=$PWD/bin:$PATH SLURM_ARRAY_TASK_COUNT=2 OUT=results PROMPTS=$SOOTHE_SOURCE/data/eval/benign_mini.jsonl
for i in 0 1; do
    SLURM_ARRAY_TASK_ID=$i bash "$SOOTHE_SOURCE/examples/eval_slurm.sh" 2>/dev/null &
done
wait
"$SOOTHE" eval merge results/shard-* --out results 2>&1 | head -n 1
