# SPDX-License-Identifier: Apache-2.0
# Misuse: a sentence on stderr, exit 2; what fails: exit 1.
try() {
    "$SOOTHE" score "$@" 2>&1
    echo "exit $?"
}
try a.txt b.txt
try --stream a.txt
try --threshold 2 a.txt
try -t x a.txt
try --nonsense
try no-such-file.txt
try --scorer no-such-scorer a.txt
echo hello >a.txt
try --scorer lexicon --explain a.txt
try train
try train --data d.jsonl
try train --data d.jsonl -o o.gguf --weight a
try train --data d.jsonl -o o.gguf --holdout-fraction 1
try train --data d.jsonl -o o.gguf --bits 40
try train --data no-such-file.jsonl -o o.gguf
try test
try test --data d.jsonl more
[ ! -e o.gguf ] && echo "nothing written"
