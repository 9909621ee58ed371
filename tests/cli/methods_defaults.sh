# SPDX-License-Identifier: Apache-2.0
# Every method runs on the real model with no further option, with the shipped files where it needs any.
for method in auto fusion gate+fusion dexperts dexperts:helpers=prefix proxy self-debias gedi nado sasa sasa:form=delta rad best-of-n cfl \
    word-filter bad-words lm-steer safe-prompt cmd control-vector; do
    "$SOOTHE" run -m "$SOOTHE_TEST_MODEL" --method "$method" -n 4 --seed 1 -p "The weather today is" >out 2>err ||
        { echo "$method"; cat err; exit 1; }
    grep -q '[^[:space:]]' out || { echo "$method: nothing said"; exit 1; }
done
