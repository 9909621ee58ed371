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
# A word that is copied, so that no processor's rounding decides about it.
says_blue() {
    "$SOOTHE" run -m "$SOOTHE_TEST_MODEL" -p "The sky is blue, blue, blue, blue, blue," --temp 0 -n 4 --method "$1" 2>/dev/null >said
    grep -q blue said && echo "$2: blue" || echo "$2: not blue"
}
says_blue none plain
says_blue word-filter:words=list.txt word-filter
