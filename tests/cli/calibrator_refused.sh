# SPDX-License-Identifier: Apache-2.0
# What cannot be cut, packed or shown: a sentence on stderr, exit 1, nothing half-written.
try() {
    "$SOOTHE" calibrator "$@" >out 2>messages
    code=$?
    cat out
    grep ^soothe messages # the engine's own lines aside
    echo "exit $code"
}
"$MAKE_TINY" target.gguf
"$MAKE_TINY" other.gguf seed=2
"$SOOTHE" calibrator init -m target.gguf --blocks 2 -o cal.gguf
"$SOOTHE" calibrator pack cal.gguf --base target.gguf -o small.gguf
head -c 5000 cal.gguf >cut.gguf
printf 'not a model, and long enough to be none' >text.gguf
: >empty.gguf
try init -m target.gguf --blocks 5 -o x.gguf
try init -m target.gguf --blocks -1 -o x.gguf
try init -m empty.gguf --blocks 1 -o x.gguf
try init -m text.gguf --blocks 1 -o x.gguf
try init -m target.gguf --blocks 1 -o nowhere/x.gguf 2>&1 | sed 's/nowhere[^:]*/nowhere…/'
try pack cal.gguf -o x.gguf
try pack cal.gguf --base other.gguf -o x.gguf | sed -E 's/[0-9a-f]{12}…/HASH/g'
try pack small.gguf --base target.gguf -o x.gguf
try pack target.gguf --base target.gguf -o x.gguf
try pack nothing.gguf --base target.gguf -o x.gguf
for file in target.gguf text.gguf empty.gguf nothing.gguf; do
    try info $file
done
try info cut.gguf
ls *.gguf
