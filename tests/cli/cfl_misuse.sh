# SPDX-License-Identifier: Apache-2.0
# What makes no sense is told before any file is read.
try() {
    "$SOOTHE" cfl "$@" 2>&1
    echo "exit $?"
}
printf '{"words": "none"}\n' >other.jsonl
printf 'good\n' >list.txt
try train
try train --data x.jsonl
try train --data x.jsonl -o t.gguf more
try train --data x.jsonl -o t.gguf --fills guess
try train --data x.jsonl -o t.gguf --n-fills 0
try train --data x.jsonl -o t.gguf --confidence 1
try train --data other.jsonl -o t.gguf --scorer lexicon
try show
try show list.txt
try bake
"$SOOTHE" methods --json | grep -c '"name": "cfl"'
