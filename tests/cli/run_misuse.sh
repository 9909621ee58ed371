# SPDX-License-Identifier: Apache-2.0
# Wrong use gets a sentence and exit code 2, before any model is looked for.
# The list of methods grows: one of it will do.
try() { "$SOOTHE" run -m nosuch "$@" 2>&1; echo "exit $?"; }
short() { try "$@" | sed 's/; there are: auto, [^(]*(/; there are: auto, … (/'; }
try
try -p a -f b
try word
try -p a word
try -p a --nonsense
short -p a --method magic
try -p a --method none --strength 1
try -p a --method none --base b.gguf
try -p a --method none --compare
try -p a -n 0
try -p a -n 5x
try -p a -t 0
try -p a --temp warm
try -p a --temp -1
try -p a --top-p 1.5
try -p a --strength inf
try -p a --repeat-penalty 0
try -p a --seed 4294967296
