# SPDX-License-Identifier: Apache-2.0
# Misuse: a sentence on stderr, exit 2.
try() {
    "$SOOTHE" ppl "$@" 2>&1
    echo "exit $?"
}
try -m x.gguf
try -m x.gguf --data d.jsonl --strength 1
try -m x.gguf --data d.jsonl --base b.gguf
try -m x.gguf --data d.jsonl --calibrator c.gguf --strength 0,,1
try -m x.gguf --data d.jsonl --calibrator c.gguf --strength 0,nan
try -m x.gguf --data d.jsonl --calibrator c.gguf --strength 0,1,
try -m x.gguf --data d.jsonl -c 3
try -m x.gguf --data d.jsonl -t -1
try -m x.gguf --data d.jsonl --limit -1
try -m x.gguf --data d.jsonl more.jsonl
try -m x.gguf --data d.jsonl --nonsense
