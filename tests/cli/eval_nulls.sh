# SPDX-License-Identifier: Apache-2.0
# A scorer that gives some texts no score: these are counted, and count nowhere else. A further scorer on stored texts.
"$MAKE_TINY" target.gguf
cat >judge.py <<'END'
import hashlib, json, sys
for line in sys.stdin:  # a third without a score, a third 0.25, a third 0.75
    kind = hashlib.sha256(json.loads(line)["text"].encode()).digest()[0] % 3
    print(json.dumps({"score": [None, 0.25, 0.75][kind]}))
END
"$SOOTHE" eval -m target.gguf --suite challenging-mini --methods plain -k 3 -n 6 --group 7 --out dir \
    --scorer "command:python3 judge.py" --scorer lexicon 2>/dev/null >/dev/null
cat >check.py <<'END'
import json
records = [json.loads(line) for line in open("dir/samples.jsonl")]
report = json.load(open("dir/report.json"))
m = report["methods"][0]
scores = [[s["scores"][0] for s in r["samples"]] for r in records]
greedy = [r["greedy"]["scores"][0] for r in records]
known = [[x for x in row if x is not None] for row in scores]
near = lambda a, b: abs(a - b) < 1e-5
mean = lambda x: sum(x) / len(x)
print("some are null:", 0 < sum(len(k) for k in known) < 60)
print("nulls", m["nulls"] == sum(x is None for row in scores for x in row) + sum(x is None for x in greedy))
print("unscored", m["unscored_prompts"] == sum(not k for k in known))
print("reasons", sum(m["null_reasons"].values()) == m["nulls"])
print("emt", near(m["emt"]["value"], mean([max(k) for k in known if k])))
print("tp", near(m["tp"]["value"], mean([max(k) >= 0.5 for k in known if k])))
print("mean", near(m["mean"]["value"], mean([mean(k) for k in known if k])))
print("greedy1", near(m["greedy1"]["value"], mean([x >= 0.5 for x in greedy if x is not None])))
print("splits", sum(s["nulls"] for s in m["splits"].values()) <= m["nulls"], m["emt"]["lo"] <= m["emt"]["value"] <= m["emt"]["hi"])
import math
nll = sum(s["nll"] for r in records for s in r["samples"] if "nll" in s)
n = sum(s["n_ppl"] for r in records for s in r["samples"] if "nll" in s)
print("ppl", abs(m["ppl"]["value"] / math.exp(nll / n) - 1) < 1e-5)
print("others", [o["spec"] for o in m["other_scorers"]], [o["nulls"] for o in m["other_scorers"]])
END
python3 check.py
echo "== rescore"
cp dir/samples.jsonl before
"$SOOTHE" eval rescore dir --scorer lexicon 2>&1
"$SOOTHE" eval rescore dir --scorer "command:sed 's/.*/{\"score\": 0.5}/'" 2>&1 | tail -n 3 | cut -c 1-60
python3 check.py | tail -n 1
cmp before dir/samples.jsonl && echo "samples untouched"
cp -r dir copy
sed -i '1s/"text":"/"text":"a /' copy/samples.jsonl
"$SOOTHE" eval report copy 2>&1 | sed 's/rescore-[0-9a-f]*/rescore-X/'
echo "== the reasons of a further scorer, during the run and afterwards"
cat >mute.py <<'END'
import json, sys
for line in sys.stdin:
    print(json.dumps({"score": None, "why": "not today"}))
END
"$SOOTHE" eval -m target.gguf --suite challenging-mini --limit 2 --methods plain -k 3 -n 4 --out mute --scorer lexicon \
    --scorer "command:python3 mute.py" >/dev/null 2>&1
"$SOOTHE" eval rescore mute --scorer "command:python3 mute.py #again" >/dev/null 2>&1
python3 -c '
import json
print([o["null_reasons"] for o in json.load(open("mute/report.json"))["methods"][0]["other_scorers"]])'
echo "== perplexity of the first sample only"
"$SOOTHE" eval -m target.gguf --suite challenging-mini --limit 2 --methods plain -k 3 -n 4 --scorer lexicon --ppl-samples 1 \
    --out first >/dev/null 2>&1
grep -o '"n_ppl":' first/samples.jsonl | wc -l
echo "== a scorer that fails altogether"
"$SOOTHE" eval -m target.gguf --suite challenging-mini --limit 2 --methods plain -k 1 -n 2 --out other --scorer "command:exit 3" 2>&1
echo "exit $?"
echo "== a report of a version without the later figures"
python3 - <<'END'
import json
report = json.load(open("first/report.json"))
for key in ("empty", "tokens_per_sample", "ppl_unmeasured"):
    del report["methods"][0][key]
json.dump(report, open("first/report.json", "w"))
END
"$SOOTHE" eval show first >shown && grep -c plain shown
