# SPDX-License-Identifier: Apache-2.0
# Bad rows end the command by name of their line; with --skip-bad they are counted and left out.
{
    echo '{"text": "a nice day", "label": 0}'
    echo '{"text": "you idiot", "label": 2}'
    echo 'no JSON'
    echo '{"label": 1}'
    echo '{"text": "you moron", "label": 1}'
    echo '{"text": "thank you", "label": true}'
} >rows.jsonl
try() {
    "$SOOTHE" score "$@" 2>&1 | sed -E 's/mean toxicity.*/mean/; s/^(\{"toxicity":0\.[09]).*/\1…/; s/( +[01]\.[0-9]{4})+$//'
}
try --json rows.jsonl
try --json --skip-bad rows.jsonl
try test --data rows.jsonl
try test --data rows.jsonl --skip-bad
try train --data rows.jsonl -o o.gguf
# A row that nobody labelled is no clean one.
printf 'text,label\nhave a nice day,neither\nyou idiot,rude\nwhatever,\n' >labels.csv
"$SOOTHE" score test --scorer lexicon --positive rude --data labels.csv 2>&1 >/dev/null | head -n 1
"$SOOTHE" score test --scorer lexicon --positive rude --skip-bad --data labels.csv --json 2>/dev/null | grep -m 1 '"n"'
