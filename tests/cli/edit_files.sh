# SPDX-License-Identifier: Apache-2.0
# Surgery as a file and as a diff; the diff for one run; undo and verify; the same edit writes the same bytes.
"$MAKE_TINY" model.gguf
"$MAKE_TINY" other.gguf seed=2
for i in $(seq 200); do printf '{"text": "a%s b%s", "label": %s}\n' "$i" "$((i % 2))" $((i % 2)); done >data.jsonl
surgery() { "$SOOTHE" edit surgery -m model.gguf -t 1 "$@" 2>err || cat err; }
say() { "$SOOTHE" run -m "$1" --method none -p "a b" -n 12 --temp 0 -t 1 2>/dev/null; }
tensors() { "$SOOTHE" edit verify -m "$1" --json 2>/dev/null | grep -o '"tensors_sha256": "[0-9a-f]*"'; }
surgery --data data.jsonl --strength 0.8 --share 0.125 -o edited.gguf --diff edit.diff.gguf --keep-rows | grep -c 'gate rows (12.50 %)'
surgery --data data.jsonl --strength 0.8 --share 0.125 -o again.gguf --diff again.diff.gguf --keep-rows >/dev/null
cmp edited.gguf again.gguf && cmp edit.diff.gguf again.diff.gguf && echo same bytes
echo "-- laid over for one run"
say edited.gguf >a; say model.gguf+edit.diff.gguf >b; say model.gguf >c
cmp a b && ! cmp -s a c && echo as the edited file
echo "-- apply, diff"
"$SOOTHE" edit apply -m model.gguf --diff edit.diff.gguf -o applied.gguf && cmp applied.gguf edited.gguf && echo applied
"$SOOTHE" edit diff -m edited.gguf --base model.gguf -o rows.diff.gguf
"$SOOTHE" edit apply -m model.gguf --diff rows.diff.gguf -o applied.gguf
[ "$(tensors applied.gguf)" = "$(tensors edited.gguf)" ] && echo the same tensors
echo "-- undo"
"$SOOTHE" edit undo -m edited.gguf --diff edit.diff.gguf -o back.gguf && [ "$(tensors back.gguf)" = "$(tensors model.gguf)" ] && echo byte for byte
"$SOOTHE" edit undo -m edited.gguf --base model.gguf -o back.gguf && cmp back.gguf model.gguf
"$SOOTHE" edit undo -m edited.gguf --diff rows.diff.gguf -o never.gguf; echo $?
echo "-- verify"
"$SOOTHE" edit verify -m edited.gguf --base model.gguf --diff edit.diff.gguf | sed 's/tensors [0-9a-f]*…/tensors H…/'
"$SOOTHE" edit verify -m edited.gguf --base other.gguf | sed 1d; echo "${PIPESTATUS[0]}"
"$SOOTHE" edit verify -m model.gguf | sed 1d; echo "${PIPESTATUS[0]}"
echo "-- refused"
try() { "$SOOTHE" "$@" >/dev/null 2>err; echo "$? $(tail -n 1 err)"; }
try run -m edited.gguf+edit.diff.gguf --method none -p "a b" -n 2
try run -m other.gguf+edit.diff.gguf --method none -p "a b" -n 2
try run -m model.gguf+absent.gguf --method none -p "a b" -n 2
try edit apply -m other.gguf --diff edit.diff.gguf -o never.gguf
try edit apply -m model.gguf --diff edit.diff.gguf -o model.gguf
try edit apply -m model.gguf --diff edit.diff.gguf -o /dev/full
try edit apply -m model.gguf --diff edit.diff.gguf -o no/such/folder.gguf
try edit surgery -m other.gguf --data data.jsonl --layer 9 -o never.gguf
echo "-- strength 0"
surgery --data data.jsonl --strength 0 -o zero.gguf >/dev/null
[ "$(tensors zero.gguf)" = "$(tensors model.gguf)" ] && echo byte for byte
ls *.gguf
