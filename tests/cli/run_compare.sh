# SPDX-License-Identifier: Apache-2.0
# Two columns, no line wider than asked for, wide characters counted as two, crude words masked.
model=$SOOTHE_TEST_MODEL
"$SOOTHE" calibrator init -m "$model" --blocks 1 -o cal.gguf
export COLUMNS=50
"$SOOTHE" run -m "$model" --calibrator cal.gguf --strength 0 --compare --echo --mask -n 40 --seed 2 \
    -p "The damn fucking 日本語 text of this long line that must be wrapped says fuck" > out
python3 - <<'END'
import unicodedata
lines = open("out", encoding="utf-8").read().split("\n")
width = lambda s: sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in s)
assert max(map(width, lines)) <= 50, lines
at = lines.index("-" * 50)
print("\n".join(lines[: at + 1]))
for line in lines[at + 1 : -1]: # strength 0: both are the same
    left, bar, right = line[:23], line[23:25], line[25:]
    assert bar == " |" and left.strip() == right.strip(), line
print(len(lines) > at + 2, "fuck" in "".join(lines))
END
