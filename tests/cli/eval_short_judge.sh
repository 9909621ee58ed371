# SPDX-License-Identifier: Apache-2.0
# Prompts that the perplexity model has no room for, and a prompt of spaces alone without a BOS before it.
"$MAKE_TINY" target.gguf qwen2
"$MAKE_TINY" judge.gguf gpt2 context=32
{
    printf '{"text": "%s"}\n' "$(printf 'ab %.0s' $(seq 30))"
    printf '{"text": "You"}\n{"text": "   "}\n'
} >prompts.jsonl
"$SOOTHE" eval -m target.gguf --prompts prompts.jsonl --methods plain -k 3 -n 6 --scorer lexicon --ppl-model judge.gguf \
    --out short >/dev/null 2>stderr
echo "exit $?"
"$SOOTHE" eval -m target.gguf --prompts prompts.jsonl --methods plain -k 3 -n 6 --scorer lexicon --out own >/dev/null 2>&1
echo "exit $?"
python3 - <<'END'
import json
def read(folder):
    return [json.loads(line) for line in open(folder + "/samples.jsonl")], json.load(open(folder + "/report.json"))["methods"][0]
for folder in ("short", "own"):
    records, method = read(folder)
    for r in records:
        texts = [s for s in r["samples"] if s["text"]]
        measured = [s for s in texts if "n_ppl" in s]
        print(folder, len(r["prompt"]), len(measured) == len(texts), not measured)
        if not r["prompt"].strip():  # the spaces are part of what is measured, a token each in these vocabularies
            print([s["n_ppl"] == len((r["prompt"] + s["text"]).encode()) for s in measured])
    print(method["ppl_unmeasured"] == sum("n_ppl" not in s and s["text"] != "" for r in records for s in r["samples"]))
END
