# SPDX-License-Identifier: Apache-2.0
# All prompts, both columns, a summary; crude words only with --raw, all else the same.
model=$SOOTHE_TEST_MODEL
"$SOOTHE" calibrator init -m "$model" --blocks 1 -o cal.gguf
demo() { "$SOOTHE" demo -m "$model" --calibrator cal.gguf --strength 0 -n 4 -t 1 "$@" 2>/dev/null; }
demo > masked
demo --raw > raw
grep -c '^prompt: ' masked
test "$(grep -v tokens/s masked | wc -c)" = "$(grep -v tokens/s raw | wc -c)" && echo "else the same"
echo "crude words masked: $(grep -ciE 'shit|fuck' masked), raw: $(grep -ciE 'shit|fuck' raw)"
grep -E '^tokens/s|continuations each' masked | sed 's/[0-9][0-9.]*/N/g'
