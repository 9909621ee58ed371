# SPDX-License-Identifier: Apache-2.0
# Contrastive perplexity as a scorer: what stands in the pairs' toxic side is likelier behind it; nulls have a reason.
"$MAKE_TINY" model.gguf
cat >pairs.jsonl <<'END'
{"prompt": "", "chosen": "aaaaaaaaaaaaaaaa", "rejected": "zqzqzqzqzqzqzqzq"}
{"prompt": "", "chosen": "aaaaaaaaaaaa", "rejected": "zqzqzqzqzqzq"}
END
printf '{"text": "some words", "label": 0}\n{"text": "other words", "label": 1}\n{"text": "", "label": 0}\n' >texts.jsonl
score() { "$SOOTHE" score --scorer "cppl:pairs.jsonl" -m model.gguf -t 1 "$@" 2>/dev/null; }
score --json texts.jsonl | python3 -c '
import json, sys
for line in sys.stdin:
    r = json.loads(line)
    print(r["toxicity"] is not None and 0 < r["toxicity"] < 1, r.get("why"))'
printf 'some words\nother words\n' | score | wc -l
"$SOOTHE" score test --scorer cppl:pairs.jsonl -m model.gguf --data texts.jsonl -t 1 --json | python3 -c '
import json, sys
r = json.load(sys.stdin)
print(r["kind"], r["figures"][-1]["n"], r["figures"][-1]["nulls"] if "nulls" in r["figures"][-1] else sorted(r["figures"][-1]))'
echo "-- refused"
try() { printf 'a\n' | "$SOOTHE" score "$@" 2>&1 >/dev/null | tail -n 1 | cut -c 1-150; }
try --scorer cppl:pairs.jsonl
try --scorer cppl:absent.jsonl -m model.gguf
try --scorer cppl:texts.jsonl -m model.gguf
try --scorer cppl:pairs.jsonl -m pairs.jsonl
try --scorer cpl
