# SPDX-License-Identifier: Apache-2.0
# A copy in another type, made once; it is still the same base; a wrong type or file leaves nothing behind.
"$MAKE_TINY" tiny.gguf llama
export SOOTHE_CACHE="$PWD/cache"
path=$("$SOOTHE" pull tiny.gguf --as bf16)
basename "$path"
touch -d '2030-01-01' "$path"
before=$(stat -c %Y "$path")
"$SOOTHE" pull tiny.gguf --as bf16 >/dev/null
[ "$(stat -c %Y "$path")" = "$before" ] && echo 'made once'
"$SOOTHE" run -m "$path" -p hello -n 2 --temp 0 --method none >/dev/null && echo runs
"$SOOTHE" pull tiny.gguf --as q9_0 2>&1 | tail -1
head -c 3000 tiny.gguf > cut.gguf
"$SOOTHE" pull cut.gguf --as bf16 >/dev/null 2>&1
echo "exit $?"
ls *.gguf
