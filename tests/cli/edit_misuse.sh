# SPDX-License-Identifier: Apache-2.0
# What makes no sense is called a misuse (2), what cannot be done a failure (1); each with a sentence.
"$MAKE_TINY" model.gguf
"$MAKE_TINY" gpt2.gguf gpt2
printf '{"text": "a b c", "label": 1}\n{"text": "a b d", "label": 0}\n' >two.jsonl
for i in $(seq 60); do printf '{"text": "a%s b%s", "label": %s}\n' "$i" "$((i % 2))" $((i % 2)); done >data.jsonl
try() {
    "$SOOTHE" "$@" 2>err >/dev/null
    echo "$? $(grep -v '^ *[0-9]* %' err | head -n 1 | cut -c 1-110)"
}
try edit
try edit surgry
try edit surgery -m model.gguf
try edit surgery -m model.gguf -o out.gguf
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --probe p.gguf
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --strength nan
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --strength inf
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --strength 2000
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --share 0
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --rows 0
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --coordinates polar
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --control placebo
try edit surgery -m model.gguf -o out.gguf --data data.jsonl --keep-rows
try edit surgery -m model.gguf --data data.jsonl --controls
try edit surgery -m gpt2.gguf -o out.gguf --data data.jsonl
try edit surgery -m model.gguf -o out.gguf --probe two.jsonl
try edit apply -m model.gguf -o out.gguf
try edit apply -m model.gguf --diff d.gguf
try edit diff -m model.gguf -o d.gguf
try edit diff -m model.gguf --base model.gguf -o d.gguf
try edit undo -m model.gguf -o out.gguf
try edit undo --base model.gguf -o out.gguf
try edit undo -m model.gguf --base model.gguf -o out.gguf
try edit verify
try edit verify -m model.gguf --diff d.gguf
try edit apply -m model.gguf --diff model.gguf -o out.gguf
ls *.gguf
