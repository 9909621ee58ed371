# SPDX-License-Identifier: Apache-2.0
# LM-Steer in the output head: says what the method says, is recorded, and taken back with or without the base.
"$MAKE_TINY" model.gguf
"$MAKE_TINY" untied.gguf qwen2
"$MAKE_TINY" other.gguf seed=2
"$MAKE_TINY" gemma.gguf gemma
for i in $(seq 12); do printf '{"prompt": "p%s", "chosen": " a%sbb", "rejected": " a%scc"}\n' "$i" "$i" "$i"; done >data.jsonl
for m in model untied gemma; do
    "$SOOTHE" calibrator train -m $m.gguf --objective lm-steer --data data.jsonl --steps 20 --rank 4 -t 1 -o $m.steer.gguf >/dev/null 2>&1 || echo no steer
done
fold() { "$SOOTHE" edit lm-steer -m "$1.gguf" --steer "$1.steer.gguf" "${@:2}"; }
say() { "$SOOTHE" run -m "$1" --method "$2" -p "p3" -n 40 --temp 0 -t 1 2>/dev/null; }
tensors() { "$SOOTHE" edit verify -m "$1" --json 2>/dev/null | grep -o '"tensors_sha256": "[0-9a-f]*"'; }
for m in model untied; do
    echo "-- $m"
    before=$(sha256sum <$m.gguf)
    fold $m --strength 400 -o $m.out.gguf | sed 's/changed by [0-9.]* %/changed by X %/'
    say $m.gguf none >plain; say $m.gguf "lm-steer:file=$m.steer.gguf,strength=400" >method; say $m.out.gguf none >folded
    cmp method folded && ! cmp -s plain folded && echo as the method
    "$SOOTHE" edit verify -m $m.out.gguf --base $m.gguf | sed 1d
    "$SOOTHE" edit undo -m $m.out.gguf -o back.gguf 2>&1 && [ "$(tensors back.gguf)" = "$(tensors $m.gguf)" ] && echo byte for byte
    "$SOOTHE" edit undo -m $m.out.gguf --base $m.gguf -o back.gguf && cmp back.gguf $m.gguf
    "$SOOTHE" edit diff -m $m.out.gguf --base $m.gguf -o $m.diff.gguf 2>&1
    fold $m --strength 400 --type f16 -o $m.f16.gguf | grep -c 'f32 -> f16'
    "$SOOTHE" run -m $m.f16.gguf --method none -p p -n 2 --seed 1 >/dev/null 2>&1 || echo does not load
    fold $m --strength 0 --type f16 -o zero.gguf && [ "$(tensors zero.gguf)" = "$(tensors $m.gguf)" ] && echo byte for byte
    [ "$before" = "$(sha256sum <$m.gguf)" ] && echo original as it was
done
fold model --json -o j.gguf | python3 -c 'import json, sys; r = json.load(sys.stdin); print(r["added"], r["from"], r["rows"], r["width"], r["type"], r["bytes"] - r["bytes_before"] >= 300 * 64 * 4)'
echo "-- refused"
try() { "$SOOTHE" edit lm-steer "$@" >/dev/null 2>err; echo "$? $(tail -n 1 err | cut -c 1-150)"; }
try -m model.gguf
try -m model.gguf -o never.gguf more
try -m model.gguf -o never.gguf --steer model.steer.gguf --strength nan
try -m model.gguf -o never.gguf --steer model.steer.gguf --type q9_0
try -m model.gguf -o never.gguf --steer model.steer.gguf --type q4_k
try -m other.gguf -o never.gguf --steer model.steer.gguf
try -m model.gguf -o never.gguf --alignment model.gguf
try -m model.gguf -o never.gguf --steer absent.gguf
try -m model.gguf -o never.gguf --steer model.gguf
try -m gemma.gguf -o never.gguf --steer gemma.steer.gguf
try -m model.gguf -o model.gguf --steer model.steer.gguf
try -m model.gguf -o /dev/full --steer model.steer.gguf
try -m model.gguf -o no/such/folder.gguf --steer model.steer.gguf
ls *.gguf
