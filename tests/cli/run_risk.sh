# SPDX-License-Identifier: Apache-2.0
# --risk gives every token a number and changes nothing else; a probe of another model is refused.
"$MAKE_TINY" model.gguf
"$MAKE_TINY" other.gguf seed=2 other-words
python3 - > data.jsonl <<'END'
import json, random
random.seed(4)
for i in range(200):
    text = "".join(random.choice("abcdefghijklmnopqrstuvwxy") for _ in range(12))
    print(json.dumps({"text": text[:10] + "zz" if i % 2 else text, "label": i % 2}))
END
for layer in 1 final; do
    for pool in last mean; do
        "$SOOTHE" probe train -m model.gguf --data data.jsonl --layers $layer --pool $pool -o $layer-$pool.gguf >/dev/null 2>&1
    done
done
run() { "$SOOTHE" run -m model.gguf --method none -p "the hills" -n 7 --seed 3 -t 1 "$@"; }
run >plain.txt 2>/dev/null
run --json >plain.json 2>/dev/null
for probe in 1-last final-last final-mean; do
    run --risk $probe.gguf 2>err | cmp - plain.txt
    grep -oE 'highest risk of a token: [01]\.[0-9]{3}$' err | sed 's/[0-9.]*$/X/'
    run --json --risk $probe.gguf 2>/dev/null >$probe.json
done
"$SOOTHE" calibrator init -m model.gguf --blocks 1 -o cal.gguf
"$SOOTHE" run -m model.gguf --calibrator cal.gguf --strength 0.5 --compare -p "the hills" -n 5 --seed 3 --risk 1-last.gguf --json \
    2>err >compared.json
grep -oE 'highest risk of a token: .* plain, .* with fusion' err | sed 's/[01]\.[0-9]*/X/g'
python3 - <<'END'
import json
plain = json.load(open("plain.json"))
for name in ("1-last", "final-last", "final-mean"):
    row = json.load(open(name + ".json"))
    print(name, len(row["risk"]) == len(row["tokens"]), all(0 <= r <= 1 for r in row["risk"]), row["tokens"] == plain["tokens"],
          sorted(set(row) - set(plain)))
last, mean = (json.load(open(f"final-{pool}.json"))["risk"] for pool in ("last", "mean"))
print(len(set(last)) > 1, last != mean)
row = json.load(open("compared.json"))
print(len(row["risk"]), len(row["plain"]["risk"]))
END
"$SOOTHE" run -m other.gguf --method none -p "the hills" --risk final-last.gguf 2>&1 | grep -o 'was made for'
