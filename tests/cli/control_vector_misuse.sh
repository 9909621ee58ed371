# SPDX-License-Identifier: Apache-2.0
# soothe control-vector: misuse is one sentence and exit 2; what it writes is used, and refused elsewhere.
"$MAKE_TINY" target.gguf
"$MAKE_TINY" other.gguf d=32
printf '{"prompt": "a", "chosen": " b", "rejected": " c"}\n' >d.jsonl
printf '{"text": "a"}\n' >texts.jsonl
try() {
    "$SOOTHE" "$@" 2>&1 >/dev/null
    echo "exit $?"
}
try control-vector -m target.gguf --data d.jsonl
try control-vector -m target.gguf -o v.gguf
try control-vector -m target.gguf --data d.jsonl -o v.gguf more
try control-vector -m target.gguf --data d.jsonl -o v.gguf --limit 0
try control-vector -m target.gguf --data texts.jsonl -o v.gguf
"$SOOTHE" control-vector -m target.gguf --data d.jsonl -o v.gguf 2>/dev/null | head -n 1
"$SOOTHE" run -m target.gguf --method control-vector:file=v.gguf -p a -n 2 --seed 1 2>&1 >/dev/null | head -n 1
try run -m other.gguf --method control-vector:file=v.gguf -p a -n 2 | sed 's/ (fingerprint.*//'
try run -m target.gguf --method control-vector:file=d.jsonl -p a -n 2
