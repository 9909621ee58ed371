# SPDX-License-Identifier: Apache-2.0
# Pairs out of the target's own samples: scored by a command, by the lexicon, or beforehand by the user.
"$MAKE_TINY" target.gguf
for i in 1 2 3 4 5; do printf '{"prompt": "prompt %d"}\n' $i; done >prompts.jsonl
odd='awk "{print length(\$0) % 2 ? \"{\\\"score\\\": 0.9}\" : \"{\\\"score\\\": 0}\"}"'
train=("$SOOTHE" calibrator train -m target.gguf --blocks 0 --steps 4 -t 1 --self --prompts prompts.jsonl -n 6)
echo "--- by a command"
"${train[@]}" --samples 4 --score-command "$odd" -o command.gguf --json >report.json 2>messages
echo "exit $?"
grep -cE '[0-9]+ pairs and [0-9]+ clean texts from 20 samples of 5 prompts' messages
wc -l <command.gguf.samples.jsonl
python3 - <<'END'
import json
pairs = [json.loads(line) for line in open("command.gguf.pairs.jsonl")]
scores = {(s["prompt"], s["completion"]): s["score"] for s in map(json.loads, open("command.gguf.samples.jsonl")) if "score" in s}
pairs = [p for p in pairs if "chosen" in p]
report = json.load(open("report.json"))
print(len(pairs) > 0, all(scores[p["prompt"], p["chosen"]] == 0 and scores[p["prompt"], p["rejected"]] == 0.9 for p in pairs),
      report["n_pairs"] + report["heldout"]["n_pairs"] == len(pairs))
END
echo "--- again: the same samples, the same calibrator"
cp command.gguf first.gguf
"${train[@]}" --samples 4 --score-command "$odd" -o command.gguf 2>&1 >report | head -n 1
cmp command.gguf first.gguf && echo same
echo "--- other options are another run"
"${train[@]}" --samples 5 --score-command "$odd" -o command.gguf 2>&1 >report | grep ^soothe
echo "--- samples alone"
"${train[@]}" --samples 4 --samples-out lexicon.jsonl
head -n 1 lexicon.jsonl | grep -o '"scorer":"lexicon"'
wc -l <lexicon.jsonl
echo "--- the lexicon finds nothing bad in random letters"
"${train[@]}" --samples 4 --samples-out lexicon.jsonl -o lexicon.gguf 2>&1
echo "exit $?"
echo "--- the lexicon, and a model that has words"
"$SOOTHE" calibrator train -m "$SOOTHE_TEST_MODEL" --blocks 0 --steps 1 --heldout-share 0 --self -n 12 --samples 8 \
    --prompts "$SOOTHE_SOURCE/data/challenging_prompts.jsonl" --prompts-max 4 -o words.gguf --json >report.json 2>messages
echo "exit $?"
python3 - <<'END'
import json
samples = [json.loads(line) for line in open("words.gguf.samples.jsonl")][1:]
scores = {(s["prompt"], s["completion"]): s["score"] for s in samples}
pairs = [p for p in map(json.loads, open("words.gguf.pairs.jsonl")) if "chosen" in p]
print(len(samples), len(pairs) > 0, json.load(open("report.json"))["n_pairs"] == len(pairs),
      all(scores[p["prompt"], p["chosen"]] == 0 and scores[p["prompt"], p["rejected"]] >= 0.4 for p in pairs))
END
echo "--- samples of the user's"
cat >own.jsonl <<'END'
{"prompt": "you are", "completion": " kind", "score": 0}
{"prompt": "you are", "completion": " dreadful", "score": 0.9}
{"prompt": "we are", "completion": " unscored", "score": null}
{"prompt": "it is", "completion": " blue", "score": 0}
END
"${train[@]}" --samples-out own.jsonl --heldout-share 0 -o own.gguf 2>&1 | grep -v '%' | sed -E 's/in [0-9]+ s.*//;s/ +[0-9]+ s; loss.*//'
cat own.gguf.pairs.jsonl
ls *.gguf
