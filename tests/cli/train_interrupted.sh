# SPDX-License-Identifier: Apache-2.0
# Ctrl-C and a polite kill save; the same command goes on, and ends with the bytes of a run that was left alone.
"$MAKE_TINY" target.gguf
"$SOOTHE" calibrator init -m target.gguf --blocks 2 -o cal0.gguf
for i in $(seq 24); do
    printf '{"prompt": "p%d", "chosen": " a%dbb", "rejected": " a%dcc"}\n' $i $i $i
    printf '{"text": "some text number %d of many"}\n' $i
done >data.jsonl
options=(calibrator train -m target.gguf --calibrator cal0.gguf --data data.jsonl --own-matrix --steps 800 -t 1
    --states states.bin)
"$SOOTHE" "${options[@]}" -o whole.gguf >whole.txt 2>/dev/null
echo "whole: $?"
rm states.bin
interrupt() { # SIGNAL
    : >stderr
    "$SOOTHE" "${options[@]}" -o parts.gguf >out 2>stderr &
    for i in $(seq 600); do # until it says something
        test -s stderr && break
        sleep 0.05
    done
    kill -"$1" $!
    wait $!
    echo "$1: $?"
    grep ^soothe stderr | sed -E 's/step [0-9]+ of/step N of/'
    test -s out || test -e parts.gguf && echo "and yet it wrote something"
    ls parts.gguf*
}
interrupt INT
interrupt TERM
"$SOOTHE" "${options[@]}" -o parts.gguf --seed 2 2>&1 | sed -E 's/[0-9a-f]{12}…/HASH/g' # another run
"$SOOTHE" "${options[@]}" -o parts.gguf >parts.txt 2>/dev/null
echo "the rest: $?"
cmp whole.gguf parts.gguf && echo "the same bytes"
grep 'held out' parts.txt | diff - <(grep 'held out' whole.txt) && echo "the same figures"
ls -A | grep -E 'checkpoint|tmp'
exit 0
