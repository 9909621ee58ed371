# SPDX-License-Identifier: Apache-2.0
# A model that learns the cleanest half of what it wrote; the control; misuse.
"$MAKE_TINY" target.gguf
for i in 1 2 3 4 5 6; do printf '{"prompt": "prompt %d"}\n' $i; done >prompts.jsonl
for i in 1 2 3 4 5 6 7 8 9; do printf '{"text": "some neutral text, number %d"}\n' $i; done >neutral.jsonl
# toxic: an odd length; a length that 5 divides gets no score
scorer='command:awk "{print length(\$0) % 5 ? length(\$0) % 2 ? \"{\\\"score\\\": 0.9}\" : \"{\\\"score\\\": 0.1}\" : \"{\\\"score\\\": null}\"}"'
tune() {
    "$SOOTHE" tune --objective sgeat -m target.gguf --prompts prompts.jsonl --samples 4 --unprompted 16 -n 6 \
        --neutral neutral.jsonl --steps 6 -t 1 "$@" 2>messages
    echo "exit $?" >&2
}
tune --scorer "$scorer" -o tuned.gguf --json >report.json
grep -cE '^[0-9]+ of [0-9]+ samples kept in tuned.gguf.corpus.jsonl, with [0-9]+ neutral texts' messages
tune --scorer "$scorer" -o control.gguf --samples-out tuned.gguf.samples.jsonl --control random --json >control.json
python3 - <<'END'
import json
corpus, control = json.load(open("report.json"))["corpus"], json.load(open("control.json"))["corpus"]
samples = [json.loads(line) for line in open("tuned.gguf.samples.jsonl")][1:]
texts = [json.loads(line) for line in open("tuned.gguf.corpus.jsonl")]
usable = [s for s in samples if s["completion"].strip()]
scored = [s for s in usable if s["score"] is not None]
print(len(samples), corpus["n_samples"] == 40, corpus["n_unscored"] == len(usable) - len(scored) > 0)
print(corpus["n_scored"] == len(scored), corpus["n_kept"] == len(scored) // 2, corpus["n_kept"] == control["n_kept"])
print(corpus["n_neutral"] == round(corpus["n_kept"] / 3), len(texts) == corpus["n_kept"] + corpus["n_neutral"])
scores = {(s["prompt"], s["completion"]): s["score"] for s in scored}
kept = [scores[t["prompt"], t["completion"]] for t in texts[:corpus["n_kept"]]]
print(kept == sorted(kept, key=lambda s: s > .5) or sorted(kept)[-1] == corpus["worst_kept"],
      abs(sum(kept) / len(kept) - corpus["mean_kept"]) < 1e-6, corpus["mean_kept"] <= corpus["mean"])
print(corpus["control"], control["control"], [q for q, _ in corpus["quantiles"]])
END
echo "--- again: the same model, without sampling anew"
cp tuned.gguf first.gguf
tune --scorer "$scorer" -o tuned.gguf >report
cmp tuned.gguf first.gguf && echo same
grep -c 'own samples .* the cleanest' report
echo "--- other options are other samples"
tune --scorer "$scorer" --seed 2 -o tuned.gguf
grep ^soothe messages
echo "--- as a LoRA file, from nothing"
"$SOOTHE" tune --objective sgeat -m target.gguf --unprompted 16 -n 6 --scorer lexicon --neutral-share 0 --steps 2 --lora \
    -o only.lora.gguf >report 2>messages
echo "exit $?"
ls *.lora.gguf*
echo "--- the samples alone"
"$SOOTHE" tune --objective sgeat -m target.gguf --unprompted 16 -n 6 --scorer lexicon --samples-out alone.jsonl 2>messages
echo "exit $?, $(sed 1d alone.jsonl | wc -l) samples"
cmp alone.jsonl only.lora.gguf.samples.jsonl && echo "those that would have been learnt from"
"$SOOTHE" tune --objective sgeat -m target.gguf --lora --samples-out more.jsonl 2>&1; echo "exit $?"
echo "--- misuse"
try() {
    "$SOOTHE" tune -m target.gguf -o x.gguf "$@" 2>&1
    echo "exit $?"
}
try --objective sgeat
try --objective sgeat --neutral neutral.jsonl --unprompted 0
try --objective sgeat --neutral neutral.jsonl --data neutral.jsonl
try --objective sgeat --neutral neutral.jsonl --control half
try --objective sgeat --neutral neutral.jsonl --keep-share 2
try --objective sgeat --neutral neutral.jsonl --prompts-max 2
try --objective sgeat --neutral neutral.jsonl --kappa 1
try --objective sgeat --neutral nothing.jsonl
try --objective sgeat --neutral neutral.jsonl --scorer nobody
try --objective sft --data neutral.jsonl --control random
[ -e x.gguf ] || echo "nothing written"
