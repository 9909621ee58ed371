# SPDX-License-Identifier: Apache-2.0
# Rounds of ACFT by either schedule: each model begins at the last, heads are of the models that the schedule says.
"$MAKE_TINY" target.gguf
for i in $(seq 20); do printf '{"prompt": "prompt %d"}\n' "$i"; done >prompts.jsonl
for i in $(seq 9); do printf '{"text": "some useful text, number %d"}\n' "$i"; done >useful.jsonl
export SAMPLES=8 PREDICT=6
export SCORE_COMMAND='awk "{print length(\$0) % 2 ? \"{\\\"score\\\": 0.9}\" : \"{\\\"score\\\": 0.1}\"}"'
for schedule in sequential parallel; do
    "$SOOTHE_SOURCE/scripts/acft_rounds.sh" "$SOOTHE" target.gguf prompts.jsonl useful.jsonl "$schedule" "$schedule" 3 \
        --steps 3 -t 1 2>"$schedule.log"
    echo "exit $?"
    ls "$schedule" | grep -E '^(lm|head|samples)-[0-9][.a-z]*(gguf|jsonl)$' | tr '\n' ' '
    echo
done
for pair in lm-1:lm-2 lm-2:lm-3; do
    cmp -s "parallel/${pair%:*}.gguf" "parallel/${pair#*:}.gguf" || echo "$pair differ"
done
cmp -s sequential/head-0.gguf parallel/head-0.gguf && echo "the first head is the same"
cmp -s sequential/head-1.gguf parallel/head-1.gguf || echo "the second is of another model"
"$SOOTHE_SOURCE/scripts/acft_rounds.sh" "$SOOTHE" target.gguf prompts.jsonl useful.jsonl x both 1 2>&1
echo "exit $?"
