# SPDX-License-Identifier: Apache-2.0
# The shipped LM-Steer folded into the real model's head: the token it says next is the method's behind nearly every
# prefix of some sentences. The two differ by the rounding of the new head alone, so it is others at near ties only.
model=$SOOTHE_TEST_MODEL
"$SOOTHE" edit lm-steer -m "$model" -o folded.gguf >/dev/null || exit 1
python3 - >prompts.jsonl <<'END'
import json
for text in ("The weather today is quite bad, and the roads to the north are closed until",
             "I went to the market and bought some bread, a bottle of milk and a",
             "She opened the door and said that nobody had been there since the end of"):
    words = text.split()
    for n in range(2, len(words) + 1):
        print(json.dumps({"prompt": " ".join(words[:n])}))
END
say() { "$SOOTHE" run -m "$1" --method "$2" --prompts prompts.jsonl -n 1 --temp 0 --json 2>/dev/null; }
say "$model" none >plain.json && say "$model" lm-steer >method.json && say folded.gguf none >folded.json || exit 1
python3 - <<'END'
import json
def tokens(name):
    return [json.loads(line)["tokens"][0]["id"] for line in open(name)]
plain, method, folded = map(tokens, ("plain.json", "method.json", "folded.json"))
def agree(x, y):
    return sum(a == b for a, b in zip(x, y)) / len(x)
same, steered = agree(method, folded), agree(plain, method)
print("as the method" if same > 0.9 and steered < 0.8 else f"{same} the method's, {steered} the plain model's")
END
