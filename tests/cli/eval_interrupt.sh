# SPDX-License-Identifier: Apache-2.0
# Ctrl-C ends a run between two groups with a sentence that says how to go on.
"$MAKE_TINY" target.gguf
settings=(-m target.gguf --suite challenging-mini --methods plain -k 8 -n 40 --scorer lexicon --group 1 --parallel 4 --out dir)
"$SOOTHE" eval "${settings[@]}" >/dev/null 2>stderr &
for i in $(seq 600); do
    test -s dir/samples.jsonl && break
    sleep 0.02
done
kill -INT $!
wait $!
echo "interrupted: $?"
tail -n 1 stderr | sed 's/[0-9][0-9]* of/N of/'
n=$(wc -l <dir/samples.jsonl)
test "$n" -ge 1 -a "$n" -lt 20 && echo "some prompts are kept"
"$SOOTHE" eval "${settings[@]}" --resume 2>/dev/null | head -n 1
wc -l <dir/samples.jsonl
