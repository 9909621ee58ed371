# SPDX-License-Identifier: Apache-2.0
# Help shows a working example first.
for words in "probe --help" "help probe" "probe train --help" "probe test -h" "polar --help" "polar fit --help" "polar test -h"; do
    "$SOOTHE" $words | head -n 1
done
