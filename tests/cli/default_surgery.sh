# SPDX-License-Identifier: Apache-2.0
# The shipped edit lies over whatever file of its model is there, changes what it says, and is refused by others.
model=$SOOTHE_TEST_MODEL
"$MAKE_TINY" tiny.gguf
say() { "$SOOTHE" run -m "$1" --method none -p "The weather today is" -n 12 --temp 0 -t 1 2>/dev/null; }
say "$model" >plain
say "$model+surgery" >gentle || exit 1
cmp -s plain gentle && echo nothing changed
"$SOOTHE" run -m tiny.gguf+surgery --method none -p "a" -n 1 2>&1 >/dev/null | tail -n 1
"$SOOTHE" run -m tiny.gguf+thorough --method none -p "a" -n 1 >/dev/null 2>&1 || echo no such diff
