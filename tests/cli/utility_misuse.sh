# SPDX-License-Identifier: Apache-2.0
# Misuse is told before anything is loaded.
# The list of methods grows: one of it will do.
try() { "$SOOTHE" utility "$@" 2>&1; echo "exit $?"; }
try
try --suite hellaswag-mini more.jsonl
try --suite hellaswag-mini -m a --models b
try --suite hellaswag-mini --models a,,b
try --suite hellaswag-mini --form letter,loud
try --suite hellaswag-mini --limit -1
try --suite hellaswag-mini -t 0
try --suite hellaswag-mini --resume
try --suite hellaswag-mini, -m x.gguf
try --suite hellaswag-mini --methods plain,nosuch | sed 's/; there are: auto, [^(]*(/; there are: auto, … (/'
try --suite hellaswag-mini --methods plain,rad
try --suite hellaswag-mini --methods fusion+best-of-n
try --suite hellaswag-mini --methods cmd+fusion
try --suite other-mini
try --data nothing.jsonl
try --suite hellaswag-mini -m nothing.gguf 2>&1 | sed 's/;.*//'
