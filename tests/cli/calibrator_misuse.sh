# SPDX-License-Identifier: Apache-2.0
# Misuse: a sentence on stderr, exit 2, nothing written.
try() {
    "$SOOTHE" calibrator "$@" 2>&1
    echo "exit $?"
}
"$MAKE_TINY" target.gguf
try frobnicate
try init --blocks 3 -o x.gguf
try init -m target.gguf --blocks 3
try init -m target.gguf --blocks three -o x.gguf
try init -m target.gguf extra -o x.gguf
try pack -o x.gguf --base target.gguf
try pack a.gguf b.gguf -o x.gguf
try pack a.gguf --base target.gguf
try pack a.gguf --base target.gguf --type q3_1 -o x.gguf
try info
try info a.gguf b.gguf
try info a.gguf --base target.gguf
"$SOOTHE" calibrator >/dev/null 2>&1
echo "exit $?"
ls *.gguf
