# SPDX-License-Identifier: Apache-2.0
# Every bad input gets a sentence and exit code 1.
try() { "$SOOTHE" run "$@" 2>&1; echo "exit $?"; }
"$MAKE_TINY" target.gguf llama
"$MAKE_TINY" other.gguf llama other-words
"$SOOTHE" calibrator init -m other.gguf --blocks 1 -o other.cal.gguf
"$SOOTHE" calibrator init -m target.gguf --blocks 1 -o cal.gguf
echo hello > text.gguf
head -c 20000 target.gguf > cut.gguf
head -c 20000 cal.gguf > cut.cal.gguf
export SOOTHE_MODELS=/nonexistent
echo "== target"
try -m text.gguf --method none -p a
try -m cut.gguf --method none -p a
try -m cal.gguf --method none -p a
echo "== calibrator"
try -m target.gguf -p a
try -m target.gguf --calibrator nosuch.gguf -p a
try -m target.gguf --calibrator text.gguf -p a
try -m target.gguf --calibrator cut.cal.gguf -p a
try -m target.gguf --calibrator target.gguf -p a
try -m target.gguf --calibrator other.cal.gguf -p a | sed 's/sha256 [^)]*)/sha256 ...)/'
echo "== prompt"
try -m target.gguf --method none -p ""
try -m target.gguf --method none -
try -m target.gguf --method none -f nosuch.txt
try -m target.gguf --method none -p "$(printf 'a\377b')"
try -m target.gguf --method none -p "$(printf '%300s' x)" | grep -v '^seed'
try -m target.gguf --method none --chat -p hello
echo "== lines of JSON"
for line in '{"text": "a"}' '{"prompt": 3}' '{"prompt": ""}' '{"prompt"' '{"prompt": "a\u0000b"}' ''; do
    echo "$line" | try -m target.gguf --method none --prompts - | sed 's/no JSON: .*/no JSON: .../'
done
