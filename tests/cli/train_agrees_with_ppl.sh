# SPDX-License-Identifier: Apache-2.0
# From a model to a measured calibrator: what train says of held-out texts, ppl finds through the engine.
# The file holds weights in F16 (2^-11 relative each), hence the tolerances.
python3 - <<'END'
import json
def write(path, numbers):
    with open(path, "w") as out:
        for i in numbers:
            out.write(json.dumps({"prompt": f"p{i}", "chosen": f" a{i}bb", "rejected": f" a{i}cc"}) + "\n")
            out.write(json.dumps({"text": f"some text number {i} of many"}) + "\n")
write("data.jsonl", range(24))
write("heldout.jsonl", range(100, 106))
END
compare() { # NAME STRENGTH
    "$SOOTHE" ppl -m target.gguf --calibrator out.gguf --exact --strength "$2" --data heldout.jsonl --json >ppl.json || exit 1
    python3 - "$1" <<'END'
import json, sys
train, ppl = json.load(open("train.json")), json.load(open("ppl.json"))
ours, at = train["heldout"], ppl["strengths"][0]
def same(name, x, y, tolerance):
    if x is not None and not abs(x - y) <= tolerance:
        sys.exit(f"{sys.argv[1]}: {name} is {x} by train, {y} by ppl")
same("share of pairs", ours["pairs_right"], at["pairs"]["share"]["value"], 0)
same("KL", ours["kl"], at["kl"]["value"], 2e-3)
same("NLL", ours["nll"], at["clean"]["nll"]["value"], 4e-3)
same("plain NLL", ours["nll_plain"], ppl["plain"]["clean"]["nll"]["value"], 4e-3)
print(f"{sys.argv[1]}: {ours['n_pairs']} pairs, {ours['n_texts']} texts;",
      "learnt" if train["loss"] < 0.3 or ours["nll"] < ppl["plain"]["clean"]["nll"]["value"] - 0.5 else train)
END
}
train() { # NAME STRENGTH OPTIONS
    "$SOOTHE" calibrator train -m target.gguf --data data.jsonl --heldout heldout.jsonl -o out.gguf --steps 60 \
        --rate-blocks 3e-3 --precision f32 -t 1 --json "${@:3}" >train.json || exit 1
    compare "$1" "$2"
}
preference="--rate-fusion 1e-3 --lambda 0.3" # the tiny models learn nothing at the defaults in so few steps
for family in qwen2 llama; do
    "$MAKE_TINY" target.gguf $family
    "$SOOTHE" calibrator init -m target.gguf --blocks 2 -o cal0.gguf
    train "$family, blocks" 1 --calibrator cal0.gguf $preference
    train "$family, paper" 1 --calibrator cal0.gguf --objective paper
done
train "matrix beside the blocks" 1 --calibrator cal0.gguf --own-matrix --bias $preference
train "frozen blocks" 1 --calibrator cal0.gguf --freeze-blocks $preference
train "no blocks" 1 --blocks 0 $preference
"$SOOTHE" calibrator info out.gguf -m target.gguf | grep -E 'kind|form |block_count'
ls *.gguf # no checkpoint is left
