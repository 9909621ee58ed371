# SPDX-License-Identifier: Apache-2.0
# Misuse is told before anything is loaded.
try() { "$SOOTHE" eval "$@" 2>&1; echo "exit $?"; }
try
try --suite challenging-mini
try --suite challenging-mini --out x y
try --suite challenging-mini --out x -k 0
try --suite challenging-mini --out x --top-p 2
try --suite challenging-mini --out x --shard 3/3
try --suite challenging-mini --out x --shard 1
try --suite challenging-mini --out x --methods plain,nosuch | sed 's/there are: fusion,.* (soothe/there are: fusion, … (soothe/'
try merge
try merge a
try rescore
try rescore a
try rescore a b --scorer lexicon
try show
