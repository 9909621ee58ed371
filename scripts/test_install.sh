#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs a build into a fresh folder, builds examples/ against the installed copy through both
# find_package and pkg-config, and runs what came out.   test_install.sh BUILD
set -euo pipefail
build=$(cd "$1" && pwd)
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" >"$work/log"
for file in include/soothe.h include/llama.h share/man/man1/soothe.1 bin/soothe; do
    test -e "$work/prefix/$file" || { echo "not installed: $file"; exit 1; }
done
cmake -S "$source/examples" -B "$work/example" -DCMAKE_PREFIX_PATH="$work/prefix" >>"$work/log"
cmake --build "$work/example" >>"$work/log"
pc=$(dirname "$(find "$work/prefix" -name soothe.pc)")
# shellcheck disable=SC2046
cc -std=c11 "$source/examples/generate.c" -o "$work/by-pkg-config" $(PKG_CONFIG_PATH=$pc pkg-config --cflags --libs soothe)
calibrator=$work/none.gguf
"$work/prefix/bin/soothe" calibrator init -m "$SOOTHE_TEST_MODEL" --blocks 1 -o "$calibrator"
by_cmake=$("$work/example/generate" "$SOOTHE_TEST_MODEL" "$calibrator" 0 "The sky is" 8)
by_pkg_config=$("$work/by-pkg-config" "$SOOTHE_TEST_MODEL" "$calibrator" 0 "The sky is" 8)
installed=$("$work/prefix/bin/soothe" run -m "$SOOTHE_TEST_MODEL" --method none --temp 0 -n 8 -p "The sky is")
echo "$by_cmake"
test -n "$by_cmake"
test "$by_cmake" = "$by_pkg_config"
test "$by_cmake" = "$installed"
# llama.cpp alone with soothe's sampler says what the method says in a session.
printf 'canvas\npossibilities\n' >"$work/words"
"$work/example/table_sampler" "$SOOTHE_TEST_MODEL" "$work/words" 0 "The sky is" 8 | diff - <(echo "$by_cmake")
by_sampler=$("$work/example/table_sampler" "$SOOTHE_TEST_MODEL" "$work/words" 100 "The sky is" 8)
by_method=$("$work/prefix/bin/soothe" run -m "$SOOTHE_TEST_MODEL" --method "bad-words:strength=100:words=$work/words" --temp 0 -n 8 -p "The sky is")
echo "$by_sampler"
test "$by_sampler" != "$by_cmake"
test "$by_sampler" = "$by_method"
