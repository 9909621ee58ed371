# SPDX-License-Identifier: Apache-2.0
# Filter, bias and table through soothe run: refused with a sentence, nothing at strength 0, and the words kept back.
"$MAKE_TINY" tiny.gguf context=512
run() {
    "$SOOTHE" run -m tiny.gguf -p "to be or" --temp 0 -n 24 "$@" 2>errors || { echo "exit $?"; cat errors; }
}
run --method none >plain
for method in word-filter bad-words cfl; do
    run --method "$method:strength=0" | cmp - plain && echo "$method at strength 0 is plain"
done
run --method bad-words:strength=-1
run --method word-filter:words=missing.txt
printf 'b*d\n' >list.txt
run --method bad-words:words=list.txt
run --method cfl:table=list.txt
printf 'blue\n' >list.txt
"$SOOTHE" run -m "$SOOTHE_TEST_MODEL" -p "The colour of a clear sky is" --temp 0 -n 6 --method none 2>/dev/null
"$SOOTHE" run -m "$SOOTHE_TEST_MODEL" -p "The colour of a clear sky is" --temp 0 -n 6 --method word-filter:words=list.txt 2>/dev/null
