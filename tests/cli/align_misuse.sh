# SPDX-License-Identifier: Apache-2.0
# Misuse of soothe align: a sentence on stderr, exit 2, nothing written; and what cannot be aligned: exit 1.
try() {
    "$SOOTHE" align "$@" 2>&1 | grep ^soothe
    echo "exit ${PIPESTATUS[0]}"
}
"$MAKE_TINY" target.gguf
"$MAKE_TINY" other.gguf seed=2 d=96
"$SOOTHE" calibrator init -m target.gguf --blocks 1 -o cal.gguf
"$SOOTHE" calibrator init -m target.gguf --blocks 0 -o matrix.gguf
for i in 1 2 3 4 5 6 7 8; do
    printf '{"prompt": "p%d", "chosen": " kind %d", "rejected": " rude %d"}\n' $i $i $i
done >d.jsonl
before=$(ls)
try --matrix --data d.jsonl -o x.gguf
try -m target.gguf --matrix --data d.jsonl
try -m target.gguf --data d.jsonl -o x.gguf
try -m target.gguf --matrix -o x.gguf
try -m target.gguf --matrix --data d.jsonl -o x.gguf more
try -m target.gguf --matrix --data d.jsonl -o x.gguf --objective best
try -m target.gguf --matrix --data d.jsonl -o x.gguf --map ridge
try -m target.gguf --calibrator cal.gguf -o x.gguf --objective transfer --map cubic
try -m target.gguf --calibrator cal.gguf -o x.gguf --objective ridge --on words
try -m target.gguf --matrix --data d.jsonl -o x.gguf --steps 0
try -m target.gguf --matrix --self -o x.gguf
try -m target.gguf --matrix --data d.jsonl -o x.gguf --base target.gguf
echo "-- cannot be"
try -m target.gguf --calibrator target.gguf --data d.jsonl -o x.gguf
try -m target.gguf --calibrator matrix.gguf --data d.jsonl -o x.gguf
try -m other.gguf --calibrator cal.gguf --objective transfer -o x.gguf
try -m other.gguf --calibrator cal.gguf --objective ridge -o x.gguf
try -m no-such.gguf --matrix --data d.jsonl -o x.gguf
try -m target.gguf --matrix --data d.jsonl -o d.jsonl
[ "$before" = "$(ls)" ] && echo nothing written
