# SPDX-License-Identifier: Apache-2.0
# The same seed gives the same bytes, wherever the prompt comes from; strength 0 is --method none byte for byte.
model=$SOOTHE_TEST_MODEL
options="-m $model --seed 7 -n 12 -t 1"
"$SOOTHE" calibrator init -m "$model" --blocks 1 -o cal.gguf
printf 'You are all a bunch of\n' > prompt.txt
echo '{"prompt": "You are all a bunch of"}' > prompts.jsonl
"$SOOTHE" run $options --method none -p "You are all a bunch of" > none
"$SOOTHE" run $options --method none -f prompt.txt > file
"$SOOTHE" run $options --method none - < prompt.txt > stdin
"$SOOTHE" run $options --method none --prompts prompts.jsonl > jsonl
"$SOOTHE" run $options --calibrator cal.gguf --strength 0 -p "You are all a bunch of" > zero
"$SOOTHE" run $options --calibrator cal.gguf --alpha 0.3 -p "You are all a bunch of" > alpha
"$SOOTHE" run $options --calibrator cal.gguf --strength 0.3 -p "You are all a bunch of" > strength
"$SOOTHE" run $options --method none --echo -p "You are all a bunch of" > echoed
for name in file stdin jsonl zero; do cmp none $name && echo "$name: the same"; done
cmp alpha strength && echo "alpha: as strength"
cmp -s none strength || echo "strength .3: another text"
printf 'You are all a bunch of' | cat - none | cmp - echoed && echo "echo: the prompt before it"
test "$(tail -c 1 none | od -An -c | tr -d ' ')" = '\n' && echo "a line break at the end"
"$SOOTHE" run $options --method none -p x 2>&1 >/dev/null | head -n 1
