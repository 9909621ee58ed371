# SPDX-License-Identifier: Apache-2.0
# Methods that judge candidates: what makes no sense is answered with a sentence, and files that do not fit are refused.
"$MAKE_TINY" model.gguf
"$MAKE_TINY" other.gguf seed=2 other-words
python3 - >texts.jsonl <<'PY'
import json
for i in range(40):
    print(json.dumps({"text": " ".join("abcdefgh"[(i * k + k) % 8] for k in range(1, 6)) + f" {i}", "label": i % 2}))
PY
printf '{"prompt": "a b c"}\n{"prompt": "d e"}\n' >prompts.jsonl
"$SOOTHE" probe train -m model.gguf --data texts.jsonl --layers final --pool last -o final.gguf >/dev/null 2>&1 || exit 1
"$SOOTHE" probe train -m model.gguf --data texts.jsonl --layers 1 --pool mean -o mean.gguf >/dev/null 2>&1 || exit 1
try() {
    "$SOOTHE" "$@" 2>err >/dev/null
    echo "$? $(grep -v '^ *[0-9]* %' err | grep -v '^seed' | head -n 1 | cut -c 1-110)"
}
run() {
    try run -m model.gguf -n 4 --seed 1 -p "a b c" --method "$1"
}
try sasa
try sasa fit-delta --prompts prompts.jsonl
try sasa fit-delta -o delta.gguf
try sasa fit-delta -m model.gguf --subspace mean.gguf --prompts prompts.jsonl -o delta.gguf
run sasa:form=odd
run sasa:k=200
run sasa:subspace=mean.gguf
run rad:reward=mean.gguf
run rad:reward=nonsense
run best-of-n:scorer=nonsense
run sasa:subspace=final.gguf+rad:reward=final.gguf
run best-of-n:n=2+best-of-n:n=3
try run -m other.gguf -n 4 -p "a b c" --method sasa:subspace=final.gguf
ls *.gguf
"$SOOTHE" sasa fit-delta -m model.gguf --subspace final.gguf --prompts prompts.jsonl -o delta.gguf --json -n 8 -t 1 | grep -o '"branches":[1-9]' | head -c 11
echo
for method in sasa:subspace=final.gguf:k=4 sasa:subspace=final.gguf:form=delta:delta=delta.gguf rad:reward=final.gguf:k=4 rad:reward=lexicon best-of-n:n=3; do
    "$SOOTHE" run -m model.gguf -n 6 --seed 1 --json -p "a b c" --method "$method" 2>/dev/null | grep -o '"method":"[a-z-]*"'
done
