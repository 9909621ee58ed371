# SPDX-License-Identifier: Apache-2.0
# Two models and their methods over a file with a bad row: the table, the same as JSON, and again from the stored
# likelihoods, whole, killed and resumed.
"$MAKE_TINY" one.gguf
"$MAKE_TINY" two.gguf seed=2 d=96
cat >mine.jsonl <<'END'
{"ctx": "The cat sat", "endings": ["on the mat.", "in a hat", "x"], "label": 0}
{"ctx": "The dog", "endings": ["on the mat."], "label": 0}
{"question": "How many legs?", "choices": ["four", "two"], "answer": "A"}
{"ctx": "Once more", "endings": ["the same", "another"], "label": "1"}
END
"$SOOTHE" utility -m one.gguf --data mine.jsonl 2>&1
echo "exit $?"
run() { "$SOOTHE" utility --models one.gguf,two.gguf --data mine.jsonl --skip-bad --methods plain,word-filter "$@" 2>messages; }
run --out whole.jsonl >table
echo "exit $?"
grep -v '%' messages
cut -c 1-31 table
run --out whole.jsonl >/dev/null
echo "exit $?: $(cat messages)"
run --out whole.jsonl --resume | cmp - table && echo "the same table, nothing measured again: $(wc -l <whole.jsonl) lines"
head -n 9 whole.jsonl >part.jsonl
printf '{"system":1,"ques' >>part.jsonl # as if torn while writing
run --out part.jsonl --resume -t 1 | cmp - table && echo "the same table after a kill"
cmp <(sort part.jsonl) <(sort whole.jsonl) && echo "the same lines"
run --out whole.jsonl --resume --limit 2
echo "exit $?: $(sed 's/settings.*//' messages)"
run --json | python3 -c '
import json, sys
r = json.load(sys.stdin)
print(r["kind"], r["schema"], r["skipped"], [(s["name"], s["form"], s["n"]) for s in r["sets"]])
for s in r["systems"]:
    print(s["name"], s["is"]["model"]["file"], s["is"]["method"], [f["nulls"] for f in s["sets"]])
    for z, f in zip(r["sets"], s["sets"]):
        assert (f["acc_norm"] is None) == (z["form"] == "letter")
        assert f["acc"]["lo"] <= f["acc"]["value"] <= f["acc"]["hi"]
        assert ("against_first" in f) == (s is not r["systems"][0])
first, second = r["systems"][:2]
print("a filter of words that stand nowhere changes nothing:", first["sets"][0]["acc"] == second["sets"][0]["acc"], second["sets"][0]["against_first"])
'
