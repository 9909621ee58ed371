# SPDX-License-Identifier: Apache-2.0
# A table from a few sentences: a word that raises the score, its company that does not, and the same bytes again.
for i in $(seq 12); do
    printf '{"text": "All crappy neighbours came home %s"}\n{"text": "All lovely cousins came home %s"}\n' "$i" "$i"
done >texts.jsonl
"$SOOTHE" cfl train --data texts.jsonl --scorer lexicon -o a.gguf
"$SOOTHE" cfl show a.gguf Crappy neighbours --scorer lexicon
"$SOOTHE" cfl train --data texts.jsonl --scorer lexicon -t 1 -o b.gguf --json
cmp a.gguf b.gguf && echo "the same bytes"
"$SOOTHE" cfl train --data texts.jsonl --scorer lexicon --seed 2 -o c.gguf >/dev/null
echo "They came home crappy" | "$SOOTHE" score --scorer a.gguf
# A tiny model has no tokens that are words: said so, and nothing is written.
"$MAKE_TINY" tiny.gguf
"$SOOTHE" cfl train --data texts.jsonl --scorer lexicon --fills model -m tiny.gguf -o d.gguf 2>&1 || echo "exit $?"
ls *.gguf
