# SPDX-License-Identifier: Apache-2.0
# Trains a success head, uses it, and says what is wrong with samples and options.
"$MAKE_TINY" model.gguf
"$MAKE_TINY" other.gguf seed=2
for prompt in a b c d e f g h i j; do
    printf '{"prompt":"%s","completion":"xyz","score":1}\n{"prompt":"%s","completion":"uvw","score":0}\n' $prompt $prompt
done >samples.jsonl
try() {
    "$SOOTHE" "$@" 2>err >out
    echo "$? $(head -n 1 out)$(grep '^soothe:' err | head -n 1 | cut -c 1-110)"
}
try nado --help
try nado train --help
try nado train --samples samples.jsonl
try nado train -o x.gguf
try nado train --samples samples.jsonl -o x.gguf --rank 0
try nado train -m model.gguf --samples samples.jsonl -o x.gguf word
head -n 2 samples.jsonl | sed 's/"score":1/"score":7/' >bad.jsonl
try nado train -m model.gguf --samples bad.jsonl -o x.gguf -t 1
grep '"score":0' samples.jsonl >clean.jsonl
try nado train -m model.gguf --samples clean.jsonl -o x.gguf -t 1
printf '{"soothe_samples":{"model":"0123"}}\n' >foreign.jsonl
try nado train -m model.gguf --samples foreign.jsonl -o x.gguf -t 1
try nado train -m model.gguf --samples samples.jsonl -o head.gguf -t 1 --rank 2
"$SOOTHE" run -m model.gguf -p ab -n 4 -t 1 --method nado:file=head.gguf >out 2>err # what a random model says is its own
echo "$?"
try run -m other.gguf -p ab -n 4 -t 1 --method nado:file=head.gguf
try run -m model.gguf -p ab -n 4 -t 1 --method nado:file=model.gguf
ls *.gguf
