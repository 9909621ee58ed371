# SPDX-License-Identifier: Apache-2.0
# Words of a text as features, factors from a model: read, written to a file, and the same from that file.
"$MAKE_TINY" model.gguf qwen2 context=2048
python3 - <<'END'
words = ["sun", "rain", "wind", "snow", "the", "a", "is", "was"]
out = open("weather.jsonl", "w")
for i in range(80):
    text = " ".join(w for k, w in enumerate(words) if (i * (k + 3) + i // (k + 1)) % 3 == 0)
    out.write('{"text": "%s", "label": "%s"}\n' % (text, "bad" if "rain" in text or i % 9 == 0 else "good"))
END
lasso() {
    "$SOOTHE" lasso --data weather.jsonl --target label --positive bad --features-from-text text --min-texts 2 --folds 4 \
        --lambdas 20 --json "$@" 2>stderr || cat stderr
}
lasso -m model.gguf --task "whether the weather is bad" --save-prior prior.csv >a.json
lasso --prior prior.csv >b.json
lasso --prior prior.csv --by-rank --shuffle --seed 3 >c.json
head -n 1 prior.csv
python3 - <<'END'
import json
a, b, c = (json.load(open(f)) for f in ("a.json", "b.json", "c.json"))
fa, fb, fc = (o["prior"]["factors"] for o in (a, b, c))
print(sorted(fa), all(2 <= f <= 5 for f in fa.values()), max(abs(fa[w] - fb[w]) for w in fa) < 1e-8)
print(a["selected"][0]["feature"], a["chosen_power"] == b["chosen_power"], a["prior"]["task"], b["prior"]["file"])
print(sorted(fc.values()) == [2 + 3 * k / 7 for k in range(8)] or sorted(fc.values()), c["prior"]["shuffled"])
END
