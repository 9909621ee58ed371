# SPDX-License-Identifier: Apache-2.0
# A model learns; what is written is read again by the engine and by --merge; a run that was stopped goes on.
for i in $(seq 12); do
    printf '{"prompt": "p%s", "chosen": " good%s", "rejected": " bad%s"}\n{"text": "plain words %s"}\n' $i $i $i $i
done >d.jsonl
"$MAKE_TINY" t.gguf
tune() {
    "$SOOTHE" tune --objective "$1" -m t.gguf --data d.jsonl --steps 12 --rank 4 --rate 5e-3 -t 1 "${@:2}" 2>/dev/null
}
tune preference --lora --merged m.gguf -o l.gguf | sed 's/[0-9.]* s, [0-9]* tokens.*//; s/[0-9]*\.[0-9]*/X/g'
"$SOOTHE" tune --merge l.gguf -m t.gguf -o again.gguf
"$SOOTHE" tune --merge l.gguf -m t.gguf --strength 0 -o none.gguf
for f in t none m again; do
    "$SOOTHE" run -m $f.gguf -p "p3" -n 6 --temp 0 --strength 0 -t 1 --json 2>/dev/null | sha256sum | cut -c1-8 >$f.sum
done
cmp t.sum none.sum && echo "strength 0: the model"
cmp m.sum again.sum && echo "merged twice: the same"
tune sft --json -o s.gguf | grep -o '"objective": "sft"\|"lora": false'
tune cppl --phi log --set-by chosen --pairs-per-step 3 -o c.gguf | grep -c "sets$"
# killed in the middle: the same command goes on, to the same bytes
long="--steps 400 --lora"
tune sft $long -o whole.gguf >/dev/null
"$SOOTHE" tune --objective sft -m t.gguf --data d.jsonl --rank 4 --rate 5e-3 -t 1 $long -o part.gguf --checkpoint-every 1 \
    >/dev/null 2>&1 &
pid=$!
while [ ! -e part.gguf.checkpoint ] && kill -0 $pid; do sleep 0.02; done
kill -9 $pid
wait $pid 2>/dev/null
[ ! -e part.gguf ] && ls part.*
tune sft $long -o part.gguf --json | grep -c '"first_step": 0,'
cmp whole.gguf part.gguf && echo "the same bytes"
ls part.*
