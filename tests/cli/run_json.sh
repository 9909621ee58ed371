# SPDX-License-Identifier: Apache-2.0
# Each line parses; the tokens' texts make up the text; the text is that of the plain output.
model=$SOOTHE_TEST_MODEL
"$SOOTHE" calibrator init -m "$model" --blocks 1 -o cal.gguf
cat > prompts.jsonl <<'END'
{"prompt": "Ein Gr\u00fc\u00dfchen \ud83d\ude00 an"}

{"prompt": {"text": "Two plus two", "toxicity": 0.1}}
{"prompt": "\"Quoted\\ and\nbroken"}
END
"$SOOTHE" run -m "$model" --calibrator cal.gguf --strength 0.1 --prompts prompts.jsonl --json -n 9 --seed 3 > out.jsonl
"$SOOTHE" run -m "$model" --calibrator cal.gguf --compare --strength 0.1 --mask --json -n 9 --seed 3 -p "What the fuck" > compared.jsonl
python3 - <<'END'
import json, math
rows = [json.loads(line) for line in open("out.jsonl", encoding="utf-8")]
print([row["prompt"] for row in rows])
for row in rows:
    assert "".join(token["text"] for token in row["tokens"]) == row["text"]
    assert all(token["logprob"] <= 0 and math.isfinite(token["logprob"]) for token in row["tokens"])
    assert row["finish"] in ("stop", "length") and row["seed"] == 3 and row["method"] == "fusion"
    assert len(row["tokens"]) == row["timings"]["tokens"] <= 9 and abs(row["strength"] - 0.1) < 1e-6
print(sorted(rows[0]))
row = json.loads(open("compared.jsonl").read())
print(row["prompt"], sorted(set(row) - set(rows[0])), sorted(row["plain"]), row["plain"]["strength"])
END
