# SPDX-License-Identifier: Apache-2.0
# Help shows a working example first.
for words in "calibrator --help" "help calibrator" "calibrator init --help" "calibrator pack -h" "calibrator info --help" "ppl --help"; do
    "$SOOTHE" $words | head -n 1
done
