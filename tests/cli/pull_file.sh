# SPDX-License-Identifier: Apache-2.0
# The path, alone, on stdout; the hash is checked; a copy where -o says.
printf 'abc' > model.gguf
hash=ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
export SOOTHE_CACHE="$PWD/cache"
"$SOOTHE" pull "file://$PWD/model.gguf" --sha256 $hash -o copy.gguf
cmp model.gguf copy.gguf && echo same
"$SOOTHE" pull model.gguf --sha256 ${hash%d}e 2>&1
echo "exit $?"
"$SOOTHE" pull "file://$PWD/model.gguf" -o /nonexistent/copy.gguf 2>&1
