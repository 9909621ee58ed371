# SPDX-License-Identifier: Apache-2.0
# Misuse is told before anything is loaded.
# The list of methods grows: one of it will do.
try() { "$SOOTHE" eval "$@" 2>&1; echo "exit $?"; }
short() { try "$@" | sed 's/; there are: auto, [^(]*(/; there are: auto, … (/'; }
try
try --suite challenging-mini
try --suite challenging-mini --out x y
try --suite challenging-mini --out x -k 0
try --suite challenging-mini --out x --top-p 2
try --suite challenging-mini --out x --shard 3/3
try --suite challenging-mini --out x --shard 1
short --suite challenging-mini --out x --methods plain,nosuch
try merge
try merge a
try rescore
try rescore a
try rescore a b --scorer lexicon
try show
