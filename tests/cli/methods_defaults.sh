# SPDX-License-Identifier: Apache-2.0
# Every method of the mixer runs on the real model with no further option, the shipped success head among them.
for method in dexperts dexperts:helpers=prefix proxy self-debias gedi nado; do
    "$SOOTHE" run -m "$SOOTHE_TEST_MODEL" --method "$method" -n 4 --seed 1 -p "The weather today is" >out 2>err ||
        { echo "$method"; cat err; exit 1; }
    [ -s out ] || { echo "$method: nothing said"; exit 1; }
done
