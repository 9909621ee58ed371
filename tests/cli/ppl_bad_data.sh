# SPDX-License-Identifier: Apache-2.0
# Bad lines are counted, bad files refused, long texts cut with a note.
"$MAKE_TINY" target.gguf
try() {
    "$SOOTHE" ppl -m target.gguf "$@" 2>&1 | grep -vE '^ *[0-9]+ %' | sed -E 's/ {2,}/ /g; s/ $//'
    echo "exit ${PIPESTATUS[0]}"
}
printf '{"text": "some text"}\nbroken\n{"prompt": "p", "chosen": "x"}\n{"prompt": "p", "completion": "x"}\n' >some.jsonl
try --data some.jsonl --json | grep -E '"bad|left out|^exit'
for word in one two three four five six seven eight nine ten; do printf '%s %s ' $word $word; done >words
printf '{"text": "%s"}\n' "$(cat words words words words)" >long.jsonl
try --data long.jsonl -c 64 | grep -E 'cut|texts|^exit'
try --data long.jsonl -c 100000
printf 'broken\n' >broken.jsonl
try --data broken.jsonl
: >empty.jsonl
try --data empty.jsonl
try --data nothing.jsonl
printf '{"text": "x"}\n' >short.jsonl
try --data short.jsonl
cat some.jsonl | "$SOOTHE" ppl -m target.gguf --data - 2>/dev/null | head -n 1 | cut -c 1-48
