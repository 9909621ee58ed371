# SPDX-License-Identifier: Apache-2.0
# Two scorers, one of which is a command that says nothing of some texts; the labels are looked at by the test alone.
cat >score.py <<'END'
import json, sys
for line in sys.stdin:
    text = json.loads(line)["text"]
    print(json.dumps({"score": None if "q" in text else 0.9 if "idiot" in text else 0.1}))
END
python3 - >data.jsonl <<'END'
import json
for i in range(400):
    bad = i % 4 == 0
    print(json.dumps({"text": f"{'you idiot' if bad else 'you poet'} number {i} {'q' if i % 10 == 0 else ''}", "label": int(bad), "source": "ab"[i % 2]}))
END
fit() { "$SOOTHE" polar fit --scorer lexicon --band 0.1,0.3 --scorer "command:python3 score.py" --data data.jsonl "$@"; }
fit -o p.gguf 2>err | cut -c 1-26
grep -o 'has no score for some texts' err
sed 's/"label": [01]/"label": null/' data.jsonl >unlabelled.jsonl
"$SOOTHE" polar fit --scorer lexicon --band 0.1,0.3 --scorer "command:python3 score.py" --data unlabelled.jsonl -o q.gguf >/dev/null 2>&1
cmp -s <(strings p.gguf | grep -v "^[0-9a-f]\{64\}") <(strings q.gguf | grep -v "^[0-9a-f]\{64\}") && echo the same without labels
"$SOOTHE" polar test --combined p.gguf --data data.jsonl 2>&1 >/dev/null | grep -o 'set SOOTHE_ALLOW_COMMANDS=1'
export SOOTHE_ALLOW_COMMANDS=1
"$SOOTHE" polar test --combined p.gguf --data data.jsonl --held-out --json 2>/dev/null >figures.json
python3 - <<'END'
import json
o = json.load(open("figures.json"))
rows = {(r["source"], r["scorer"]): r for r in o["figures"]}
print(sorted(o), len(rows))
mine = rows["", "combination"]
print(mine["auc"], mine["scored"] == o["texts"], rows["", "command:python3 score.py"]["scored"] < o["texts"])
lexicon = rows["", "lexicon"]
print(lexicon["true_error"], lexicon["estimated_error"] < 0.2, sorted(lexicon))
END
for scalarisation in linear euclidean chebyshev; do
    fit --scalarisation $scalarisation -o $scalarisation.gguf >/dev/null 2>&1 && echo $scalarisation
done
fit --supervised -o s.gguf >/dev/null 2>&1 && echo supervised
try() {
    "$SOOTHE" "$@" 2>err >/dev/null
    echo "$? $(head -n 1 err | cut -c 1-90)"
}
try polar
try polar fit --data data.jsonl -o x.gguf
try polar fit --scorer lexicon --band 3 --data data.jsonl -o x.gguf
try polar fit --scorer lexicon --data data.jsonl
try polar fit --scorer lexicon --scalarisation cubic --data data.jsonl -o x.gguf
try polar fit --scorer p.gguf --data data.jsonl -o x.gguf
try polar test --combined score.py --data data.jsonl
