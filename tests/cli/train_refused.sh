# SPDX-License-Identifier: Apache-2.0
# Files that cannot be trained with or written: one sentence on stderr, exit 1, nothing half-written, nothing lost.
try() {
    "$SOOTHE" calibrator train "$@" -t 1 --steps 2 >out 2>messages
    code=$?
    cat out
    grep ^soothe messages # the engine's own lines aside
    echo "exit $code"
}
for family in llama gemma3; do
    "$MAKE_TINY" $family.gguf $family
    "$SOOTHE" calibrator init -m $family.gguf --blocks 2 -o $family.cal.gguf
done
"$MAKE_TINY" words.gguf other-words
"$MAKE_TINY" wide.gguf d=96 seed=2
"$MAKE_TINY" nan.gguf nan
"$SOOTHE" calibrator init -m wide.gguf --blocks 2 -o wide.cal.gguf
"$SOOTHE" calibrator init -m llama.gguf --blocks 0 -o matrix.gguf
"$SOOTHE" calibrator pack llama.cal.gguf --base llama.gguf -o packed.gguf
head -c 5000 llama.gguf >cut.gguf
for i in 1 2 3 4 5 6 7 8; do
    printf '{"prompt": "p%d", "chosen": " kind %d", "rejected": " rude %d"}\n' $i $i $i
done >d.jsonl
printf '{"text": "only a text"}\n' >texts.jsonl
printf 'no JSON\n' >bad.jsonl
printf '{"prompt": "cut sh' | gzip | head -c 20 >cut.jsonl.gz
: >empty.jsonl
before=$(sha256sum *.gguf *.jsonl)
cal="--calibrator llama.cal.gguf"
try -m cut.gguf $cal --data d.jsonl -o x.gguf
try -m d.jsonl $cal --data d.jsonl -o x.gguf
try -m nan.gguf --blocks 0 --data d.jsonl -o x.gguf
try -m llama.gguf --calibrator cut.gguf --data d.jsonl -o x.gguf
try -m llama.gguf --calibrator llama.gguf --data d.jsonl -o x.gguf
try -m llama.gguf --calibrator matrix.gguf --data d.jsonl -o x.gguf
try -m llama.gguf --calibrator packed.gguf --data d.jsonl -o x.gguf
try -m llama.gguf --calibrator nothing.gguf --data d.jsonl -o x.gguf
try -m gemma3.gguf --calibrator gemma3.cal.gguf --data d.jsonl -o x.gguf
try -m words.gguf $cal --data d.jsonl -o x.gguf
try -m llama.gguf --calibrator wide.cal.gguf --objective paper --data texts.jsonl -o x.gguf
for data in texts bad empty nothing; do
    try -m llama.gguf $cal --data $data.jsonl -o x.gguf
done
try -m llama.gguf $cal --data cut.jsonl.gz -o x.gguf
try -m llama.gguf $cal --data d.jsonl --heldout bad.jsonl -o x.gguf
try -m llama.gguf $cal --data d.jsonl --heldout d.jsonl -o x.gguf
try -m llama.gguf $cal --data d.jsonl -o nowhere/x.gguf | sed 's/nowhere[^:]*/nowhere…/'
try -m llama.gguf $cal --data d.jsonl -o llama.gguf
try -m llama.gguf $cal --data d.jsonl -o x.gguf --checkpoint d.jsonl --fresh
try -m llama.gguf $cal --data d.jsonl -o x.gguf --checkpoint bad.jsonl --fresh
try -m llama.gguf $cal --data d.jsonl -o x.gguf --states bad.jsonl
try -m llama.gguf --blocks 0 --self --prompts nothing.jsonl -o x.gguf
try -m llama.gguf --blocks 0 --self --prompts bad.jsonl -o x.gguf
try -m llama.gguf --blocks 0 --self --prompts d.jsonl -n 4 --score-command 'exit 3' -o x.gguf
try -m llama.gguf --blocks 0 --self --prompts d.jsonl -n 4 --score-command 'echo toxic' -o x.gguf
try -m llama.gguf --blocks 0 --self --prompts d.jsonl -n 4 -o x.gguf --samples-out nowhere/s.jsonl | sed 's/nowhere[^:]*/nowhere…/'
test "$before" = "$(sha256sum *.gguf *.jsonl)" && echo "every file as it was"
ls -A | grep -E '^x|tmp'
exit 0
