# SPDX-License-Identifier: Apache-2.0
# A probe learns to see "zz" at the end of a text; the same run writes the same bytes; the table and JSON say the same.
"$MAKE_TINY" model.gguf
python3 - > data.jsonl <<'END'
import json, random
random.seed(4)
for i in range(240):
    text = "".join(random.choice("abcdefghijklmnopqrstuvwxy") for _ in range(12))
    print(json.dumps({"text": text[:10] + "zz" if i % 2 else text, "label": i % 2, "source": "letters"}))
print(json.dumps({"text": "no label"}))
END
"$SOOTHE" probe train -m model.gguf --data data.jsonl -o p.gguf 2>&1 | grep -o 'line 241.*'
"$SOOTHE" probe train -m model.gguf --data data.jsonl --skip-bad -t 1 -o p.gguf >table 2>err || cat err
"$SOOTHE" probe train -m model.gguf --data data.jsonl --skip-bad -t 1 --json -o again.gguf >figures.json 2>/dev/null
cmp p.gguf again.gguf && echo same bytes
grep -o '1 bad rows left out' err
"$SOOTHE" probe test -m model.gguf --probe p.gguf --data data.jsonl --skip-bad --held-out --json -t 1 >test.json 2>/dev/null
python3 - <<'END'
import json
train, test = json.load(open("figures.json")), json.load(open("test.json"))
print(sorted(train))
print([layer["layer"] for layer in train["layers"]], train["kind"], train["pool"])
print(train["sources"] == test["sources"], train["layer"] == test["layer"])
best = train["sources"][-1]["auc"]
print(sorted(best), best["all"] > 0.95, best["1"] < 0.8)
assert f'{best["all"]:.3f}' in open("table").read()
END
"$SOOTHE" probe train -m model.gguf --data data.jsonl --skip-bad --kind logistic --pool token --layers 2,final -o l.gguf 2>/dev/null |
    head -n 3 | cut -c 1-6
