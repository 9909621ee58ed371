# SPDX-License-Identifier: Apache-2.0
# Misuse: one sentence on stderr, exit 2, nothing written; what does not fit: exit 1.
try() {
    "$SOOTHE" tune "$@" 2>&1
    echo "exit $?"
}
"$MAKE_TINY" target.gguf
printf '{"prompt": "a", "chosen": " b", "rejected": " c"}\n' >d.jsonl
all="-m target.gguf --data d.jsonl -o x.gguf"
try --objective sft --data d.jsonl -o x.gguf
try --objective sft -m target.gguf -o x.gguf
try --objective sft -m target.gguf --data d.jsonl
try --objective best $all
try --objective sft $all more
try --objective sft $all --full --lora
try --objective sft $all --full --rank 4
try --objective sft $all --merged y.gguf
try --objective sft $all --kappa 1
try --objective sft $all --set-by prompt
try --objective sft $all --lambda 1
try --objective preference $all --kl-texts-per-step 2
try --objective cppl $all --texts-per-step 2
for option in "--tensors q,x" "--blocks 3-2" "--blocks a" "--rank 0" "--rate 2" "--cppl theirs" "--phi x" "--keep q4" \
    "--steps 0" "--seed -1" "--precision f16"; do
    try --objective cppl $all $option
done
try --objective sft $all --blocks 2-4
try --objective preference -m target.gguf --data d.jsonl -o target.gguf
printf '{"text": "abc"}\n' >t.jsonl
try --objective cppl -m target.gguf --data t.jsonl -o x.gguf
try --merge d.jsonl -m target.gguf -o x.gguf
try --merge target.gguf -m target.gguf -o x.gguf
try --merge target.gguf -o x.gguf
try --merge target.gguf -m target.gguf
ls *.gguf
