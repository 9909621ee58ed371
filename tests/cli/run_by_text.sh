# SPDX-License-Identifier: Apache-2.0
# A calibrator of another vocabulary follows the text, in full and packed; its vocabulary is its own or its base's.
"$MAKE_TINY" target.gguf llama d=96
"$MAKE_TINY" base.gguf llama sentence-piece seed=2
"$SOOTHE" calibrator init -m base.gguf --blocks 2 -o cut.gguf
"$MAKE_TINY" cal.gguf random-a cut.gguf target.gguf
"$SOOTHE" calibrator pack cal.gguf --base base.gguf -o packed.gguf
say() { "$SOOTHE" run -m target.gguf --seed 1 -t 1 -n 20 -p "the nation" "$@" 2>messages; code=$?; grep -E '^soothe|follows' messages; echo "exit $code"; }
say --calibrator cal.gguf --strength 0.5 | md5sum >full
sed -E "s/[0-9.]+ of/N of/g" messages | grep follows
say --calibrator packed.gguf --base base.gguf --strength 0.5 | md5sum >packed
cmp full packed && echo "packed: the same"
say --method none | grep -v exit >plain
say --calibrator cal.gguf --strength 0 | grep -v -e exit -e follows >zero
cmp plain zero && echo "at 0: plain"
say --calibrator packed.gguf | sed -E 's/[0-9a-f]{12}…/HASH/g'
say --calibrator cut.gguf --base base.gguf | sed -E 's/[0-9a-f]{12}…/HASH/g'
