# SPDX-License-Identifier: Apache-2.0
# Wrong use gets a sentence and exit code 2, before any model is looked for.
try() { "$SOOTHE" run -m nosuch "$@" 2>&1; echo "exit $?"; }
try
try -p a -f b
try word
try -p a word
try -p a --nonsense
try -p a --method magic | sed 's/there are: fusion,.* (soothe/there are: fusion, … (soothe/'
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
