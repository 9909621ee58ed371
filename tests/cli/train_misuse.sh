# SPDX-License-Identifier: Apache-2.0
# Misuse: one sentence on stderr, exit 2, nothing written.
try() {
    "$SOOTHE" calibrator train "$@" 2>&1
    echo "exit $?"
}
"$MAKE_TINY" target.gguf
"$SOOTHE" calibrator init -m target.gguf --blocks 2 -o cal0.gguf
printf '{"prompt": "a", "chosen": " b", "rejected": " c"}\n' >d.jsonl
all="-m target.gguf --calibrator cal0.gguf --data d.jsonl -o x.gguf"
try --calibrator cal0.gguf --data d.jsonl -o x.gguf
try -m target.gguf --calibrator cal0.gguf --data d.jsonl
try -m target.gguf --calibrator cal0.gguf -o x.gguf
try -m target.gguf --data d.jsonl -o x.gguf
try -m target.gguf --blocks 3 --data d.jsonl -o x.gguf
try $all --blocks 0
try $all d.jsonl
try $all --objective best
try $all --precision f16
try $all --steps many
try $all --steps -1
try $all --frobnicate
for option in "--pairs-per-step 1025" "--texts-per-step -1" "--max-length 3" "--threads -1" "--rate-blocks 2" \
    "--rate-fusion nan" "--kappa 0" "--lambda -1" "--clip inf" "--heldout-share 1" "--default-strength -1" "--seed -1"; do
    try $all $option
done
for option in --own-matrix --bias --freeze-blocks "--pairs-per-step 4" "--rate-fusion .1" "--states s.bin"; do
    try $all --objective paper $option
done
try -m target.gguf --blocks 0 --objective paper --data d.jsonl -o x.gguf
try -m target.gguf --blocks 0 --self -o x.gguf
try $all --prompts d.jsonl
try $all --score-command cat
try -m target.gguf --blocks 0 --self --prompts d.jsonl -o x.gguf --clean-to .5
try -m target.gguf --blocks 0 --self --prompts d.jsonl -o x.gguf --toxic-from nan
try -m target.gguf --blocks 0 --self --prompts d.jsonl -o x.gguf --samples 0
ls *.gguf
for option in "--calibrator cal0.gguf" --bias --own-matrix "--rank -1"; do
    try -m target.gguf --objective lm-steer --data d.jsonl -o x.gguf $option
done
