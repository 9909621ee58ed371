# SPDX-License-Identifier: Apache-2.0
# A model pulled to the nearest distribution whose texts end clean, with useful texts in the loss; misuse.
"$MAKE_TINY" target.gguf
for i in 1 2 3 4 5 6 7 8 9 10; do printf '{"prompt": "prompt %d"}\n' $i; done >prompts.jsonl
for i in 1 2 3 4 5 6 7 8 9; do printf '{"text": "some useful text, number %d"}\n' $i; done >useful.jsonl
scorer='command:awk "{print length(\$0) % 2 ? \"{\\\"score\\\": 0.9}\" : \"{\\\"score\\\": 0.1}\"}"'
tune() {
    "$SOOTHE" tune --objective acft -m target.gguf --data useful.jsonl --prompts prompts.jsonl --samples 8 -n 6 \
        --scorer "$scorer" --heldout-share 0.2 --steps 6 -t 1 "$@" 2>messages
    echo "exit $?" >&2
}
tune -o tuned.gguf --epochs 2 --json >report.json
python3 - <<'END'
import json
report = json.load(open("report.json"))
acft = report["acft"]
samples = [json.loads(line) for line in open(acft["samples_file"])][1:]
texts = [json.loads(line) for line in open(acft["kl_file"])]
print(report["objective"], len(samples), acft["n_kl_texts"] == len(texts) == sum(bool(s["completion"].strip()) for s in samples))
print(all(t["weight"] == 0 for t in texts), acft["head"]["samples"] + acft["head"]["held_out_samples"] <= 80,
      0 < acft["head"]["held_out_toxic"] < acft["head"]["held_out_samples"], len(acft["head"]["auc"]))
print(report["heldout"]["nll"] is not None, report["heldout"]["kl"] > 0)
END
echo "--- again: the same model, with the head that is there"
cp tuned.gguf first.gguf
tune -o tuned.gguf --epochs 2 --json >report.json
cmp tuned.gguf first.gguf && echo same
python3 -c 'import json; print(json.load(open("report.json"))["acft"]["head"])'
echo "--- the same head by name; at power 0 it has no say"
tune -o named.gguf --nado tuned.gguf.nado.gguf --samples-out tuned.gguf.samples.jsonl >report
grep -c 'soft labels .* own samples, success head tuned.gguf.nado.gguf$' report
tune -o none.gguf --nado tuned.gguf.nado.gguf --samples-out tuned.gguf.samples.jsonl --power 0 >report
cmp -s none.gguf named.gguf || echo different
echo "--- another model's head"
tune --nado "$SOOTHE_SOURCE/models/default.nado.gguf" -o x.gguf
grep -c '^soothe: success head .* was made for the model of fingerprint' messages
echo "--- misuse"
try() {
    "$SOOTHE" tune --objective acft -m target.gguf -o x.gguf "$@" 2>&1
    echo "exit $?"
}
try --data useful.jsonl
try --prompts prompts.jsonl
try --data useful.jsonl --prompts prompts.jsonl --keep-share 0.5
try --data useful.jsonl --prompts prompts.jsonl --nado x --bellman 1
try --data useful.jsonl --prompts prompts.jsonl --power -1
try --data useful.jsonl --prompts prompts.jsonl --kappa 1
"$SOOTHE" tune --objective sft -m target.gguf -o x.gguf --data useful.jsonl --power 1 2>&1
[ -e x.gguf ] || echo "nothing written"
