# SPDX-License-Identifier: Apache-2.0
# Every way in which two files do not belong together: one sentence on stderr, nothing on stdout, exit 1.
"$MAKE_TINY" target.gguf
"$MAKE_TINY" other-words.gguf other-words
"$MAKE_TINY" wide.gguf d=96
"$MAKE_TINY" seed.gguf seed=2
"$MAKE_TINY" nan.gguf nan
"$SOOTHE" calibrator init -m target.gguf --blocks 2 -o cal.gguf
"$SOOTHE" calibrator init -m target.gguf --blocks 0 -o matrix.gguf
"$SOOTHE" calibrator init -m nan.gguf --blocks 2 -o nan-cal.gguf
"$SOOTHE" calibrator init -m wide.gguf --blocks 2 -o wide-cal.gguf
"$SOOTHE" calibrator pack cal.gguf --base target.gguf -o delta.gguf
head -c 5000 cal.gguf >cut-header.gguf
head -c $(($(stat -c %s cal.gguf) - 100)) cal.gguf >cut-data.gguf
head -c $(($(stat -c %s target.gguf) - 100)) target.gguf >cut-target.gguf
printf 'not a model, and long enough to be none' >text.gguf
: >empty.gguf
printf '{"text": "some text to be read"}\n' >data.jsonl

try() { # TARGET CALIBRATOR [options]
    "$SOOTHE" ppl -m "$1" --calibrator "$2" --strength 1 --data data.jsonl "${@:3}" 2>messages
    code=$?
    # the engine's own lines and the progress aside
    grep ^soothe messages | sed -E 's/[0-9a-f]{12}…/HASH/g; s/byte [0-9]+, the file has [0-9]+ bytes/byte N, the file has N bytes/'
    echo "exit $code"
}
try target.gguf nothing.gguf
try target.gguf empty.gguf
try target.gguf text.gguf
try target.gguf cut-header.gguf
try target.gguf cut-data.gguf
try target.gguf target.gguf
try target.gguf nan-cal.gguf
try other-words.gguf cal.gguf
try wide.gguf cal.gguf
try target.gguf wide-cal.gguf
try seed.gguf matrix.gguf
try seed.gguf delta.gguf
try seed.gguf delta.gguf --base wide.gguf
try nothing.gguf cal.gguf 2>&1 | sed 's/; models: .*//'
try empty.gguf cal.gguf
try text.gguf cal.gguf
try cut-target.gguf cal.gguf
try cal.gguf cal.gguf
try nan.gguf cal.gguf
