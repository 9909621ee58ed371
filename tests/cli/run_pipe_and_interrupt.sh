# SPDX-License-Identifier: Apache-2.0
# A closed pipe is no failure, a full disk is one, Ctrl-C leaves what was said and a line break.
model=$SOOTHE_TEST_MODEL
"$SOOTHE" run -m "$model" --method none -n 500 --seed 1 -p "Once upon a time" 2>/dev/null | head -c 4 >/dev/null
echo "closed pipe: ${PIPESTATUS[0]}"
"$SOOTHE" run -m "$model" --method none -n 5 --seed 1 -p "Once upon a time" 2>stderr >/dev/full
echo "full disk: $?"
tail -n 1 stderr
"$SOOTHE" run -m "$model" --method none -n 4000 --temp 1.5 --seed 1 -p "Once upon a time" >out 2>stderr &
for i in $(seq 200); do # until it speaks
    test -s out && break
    sleep 0.1
done
kill -INT $!
wait $!
echo "interrupted: $?"
tail -n 1 stderr
test "$(tail -c 1 out | od -An -c | tr -d ' ')" = '\n' && echo "a line break at the end"
