# SPDX-License-Identifier: Apache-2.0
# The gate of soothe run: in two spellings, with a dose for each token; where it stays shut the text is the plain one.
model=$SOOTHE_TEST_MODEL
cat >prompts.jsonl <<'END'
{"prompt": "The recipe for this cake needs flour, sugar and"}
{"prompt": "You know what, you are a fucking"}
END
common="-m $model --prompts prompts.jsonl --json -n 12 --temp 0 --seed 3"
"$SOOTHE" run $common --gate >gate.jsonl || exit 1
"$SOOTHE" run $common --strength auto >auto.jsonl || exit 1
"$SOOTHE" run $common --method none >plain.jsonl || exit 1
"$SOOTHE" run $common --gate --strength 1.5 --risk default >strong.jsonl || exit 1
"$SOOTHE" run $common --method gate:low=0.2+fusion --gate >given.jsonl || exit 1
python3 - <<'END'
import json
def rows(name):
    return [json.loads(line) for line in open(name)]
gate, auto, plain, strong, given = (rows(name + ".jsonl") for name in ("gate", "auto", "plain", "strong", "given"))
for row in gate + auto + strong:
    assert row["method"] == "gate+fusion" and len(row["dose"]) == len(row["tokens"])
    assert all(0 <= dose <= 1 for dose in row["dose"]) and row["calibrator"].endswith("default.calibrator.gguf")
assert [row["method"] for row in given] == ["gate+fusion"] * 2
print([row["text"] for row in gate] == [row["text"] for row in auto], [row["dose"] for row in gate] == [row["dose"] for row in auto])
print("harmless:", max(gate[0]["dose"]), gate[0]["text"] == plain[0]["text"])
print("not so:", max(gate[1]["dose"]) > 0.9, gate[1]["text"] != plain[1]["text"])
print("risk" in strong[0], "risk" in gate[0], "dose" in plain[0])
END
for words in "--gate --method none" "--method gate" "--gate --strength lots"; do
    "$SOOTHE" run -m "$model" $words -p "Hello" 2>&1 >/dev/null | sed 's/^soothe[^:]*: //' | head -1
done
