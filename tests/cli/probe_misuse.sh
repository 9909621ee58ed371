# SPDX-License-Identifier: Apache-2.0
# What makes no sense is called a misuse (2), what cannot be done a failure (1); each with a sentence.
"$MAKE_TINY" model.gguf
"$MAKE_TINY" other.gguf seed=2 other-words
printf '{"text": "a b c", "label": 1}\n' >one.jsonl
try() {
    "$SOOTHE" "$@" 2>err >/dev/null
    echo "$? $(grep -v '^ *[0-9]* %' err | head -n 1 | cut -c 1-100)"
}
try probe
try probe tarin
try probe train --data one.jsonl
try probe train -o x.gguf
try probe train --data one.jsonl -o x.gguf --pool median
try probe train --data one.jsonl -o x.gguf --layers 1,x
try probe train -m model.gguf --data one.jsonl -o x.gguf --layers 9
try probe train -m model.gguf --data one.jsonl -o x.gguf
try probe test --data one.jsonl
try probe test -m model.gguf --probe model.gguf --data one.jsonl
ls *.gguf
