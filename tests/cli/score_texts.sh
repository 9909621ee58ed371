# SPDX-License-Identifier: Apache-2.0
# The same texts as lines, JSON lines, CSV, from a file and from standard input: the same scores, in order.
printf 'have a nice day\nyou are an idi*t\n\nthank you\n' >lines.txt
printf '{"text": "have a nice day"}\n{"text": "you are an idi*t"}\n{"text": ""}\n{"text": "thank you"}\n' >rows.jsonl
printf 'id,comment\n1,have a nice day\n2,you are an idi*t\n3,""\n4,thank you\n' >table.csv
"$SOOTHE" score --json lines.txt >a 2>summary
"$SOOTHE" score --json <lines.txt 2>/dev/null | cmp - a && echo "standard input: the same"
"$SOOTHE" score --json rows.jsonl 2>/dev/null | cmp - a && echo "JSON lines: the same"
"$SOOTHE" score --json <rows.jsonl 2>/dev/null | cmp - a && echo "JSON lines from standard input: the same"
cat rows.jsonl | "$SOOTHE" score --json - 2>/dev/null | cmp - a && echo "JSON lines from a pipe: the same"
for i in $(seq 500); do cat rows.jsonl; done >many.jsonl
"$SOOTHE" score --json many.jsonl 2>/dev/null >b
"$SOOTHE" score --json <(cat many.jsonl) 2>/dev/null | cmp - b && echo "many JSON lines from a pipe with a name: the same"
"$SOOTHE" score --json <(cat lines.txt) 2>/dev/null | cmp - a && echo "lines from a pipe with a name: the same"
"$SOOTHE" score --json --field comment table.csv 2>/dev/null | cmp - a && echo "CSV: the same"
"$SOOTHE" score --json -t 1 lines.txt 2>/dev/null | cmp - a && echo "one thread: the same"
sed 's/mean.*/mean/' summary
sed -E 's/0\.9[0-9]*/high/; s/0\.0[0-9]*/low/' a
"$SOOTHE" score lines.txt 2>/dev/null | sed -E 's/^0\.9[0-9]*/high/; s/^0\.0[0-9]*/low/'
