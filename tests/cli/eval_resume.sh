# SPDX-License-Identifier: Apache-2.0
# Killed at random times and resumed, a run gives the bytes of one that never stopped; so do shards.
"$MAKE_TINY" target.gguf
"$MAKE_TINY" judge.gguf seed=2 d=96
"$SOOTHE" calibrator init -m target.gguf --blocks 1 -o cal.gguf
settings=(-m target.gguf --suite challenging-mini --methods plain,fusion:strength=0.25..0.5/2:calibrator=cal.gguf -k 6 -n 24
    --seed 3 --scorer lexicon --ppl-model judge.gguf --benign-suite benign-mini --benign-predict 8
    --corpus "$SOOTHE_SOURCE/data/eval/benign_mini.jsonl" --group 3 --parallel 8 --no-timing)
"$SOOTHE" eval "${settings[@]}" --out whole >table 2>/dev/null
echo "whole: $? $(wc -l <whole/samples.jsonl)"

"$SOOTHE" eval "${settings[@]}" --out killed --resume >/dev/null 2>&1 &
kills=0
for lines in 1 40 90 150; do
    for i in $(seq 600); do # until so many prompts are done
        test "$(cat killed/samples.jsonl 2>/dev/null | wc -l)" -ge "$lines" && break
        sleep 0.02
    done
    kill -9 $! 2>/dev/null && kills=$((kills + 1))
    wait $! 2>/dev/null
    printf '{"kind":"prompt","method":2,"it' >>killed/samples.jsonl # as if torn while writing
    "$SOOTHE" eval "${settings[@]}" --out killed --resume >/dev/null 2>&1 &
done
wait $!
echo "resumed: $?"
test $kills -ge 1 && echo "was killed"
for file in manifest.json samples.jsonl report.json report.html; do
    cmp whole/$file killed/$file && echo "same $file"
done

for i in 0 1 2; do
    "$SOOTHE" eval "${settings[@]}" --out parts --shard $i/3 2>/dev/null &
done
wait
"$SOOTHE" eval merge parts/shard-*-of-3 --out parts --no-timing | cmp - table && echo "same table"
for file in manifest.json samples.jsonl report.json report.html; do
    cmp whole/$file parts/$file && echo "same $file"
done

"$SOOTHE" eval "${settings[@]}" -t 5 --out five >/dev/null 2>&1
cmp whole/samples.jsonl five/samples.jsonl && echo "same samples of five workers, in the same order"
