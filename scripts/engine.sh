#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Prints where the engine (llama.cpp, unmodified) is installed, building it first if need be.
#   SOOTHE_ENGINE=system     take the llama that CMake finds by itself (prints "system")
#   SOOTHE_ENGINE_SOURCE=DIR build this llama.cpp source tree instead of the pinned one
#   SOOTHE_ENGINE_FLAGS=…    passed to the engine's CMake, for example -DGGML_CUDA=ON
# Built once per version and flags, in ${SOOTHE_CACHE:-~/.cache/soothe}/engine.
set -euo pipefail

package=llama-cpp-python
version=0.3.36
archive=llama_cpp_python-$version.tar.gz
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
beside=\$ORIGIN # the engine's libraries find one another wherever they lie
[ "$(uname)" = Darwin ] && beside=@loader_path
flags="-DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF
 -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_CURL=OFF
 -DCMAKE_INSTALL_RPATH=$beside ${SOOTHE_ENGINE_FLAGS:-}"

say() { echo "soothe: $*" >&2; }

if [ "${SOOTHE_ENGINE:-}" = system ]; then
    echo system
    exit 0
fi

cache=${SOOTHE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/soothe}/engine
source=${SOOTHE_ENGINE_SOURCE:-}
# GGML_NATIVE builds for this processor, so the processor is part of the key.
cpu=$(sed -n 's/^flags[^:]*: //p' /proc/cpuinfo 2>/dev/null | head -n 1 || true)
key=$(echo "$version $source $flags $cpu $(cc --version | head -n 1)" | sha256sum | cut -c1-16)
prefix=$cache/$version-$key
if [ -e "$prefix/.complete" ]; then
    echo "$prefix"
    exit 0
fi

mkdir -p "$cache"
exec 9>"$cache/.lock"
flock 9 # another build of the same engine may be under way
if [ -e "$prefix/.complete" ]; then
    echo "$prefix"
    exit 0
fi

work=$(mktemp -d "$cache/.build.XXXXXX")
trap 'rm -rf "$work"' EXIT

fetch() { # the pinned source distribution, by the package client, checked
    local folder=$cache/source
    mkdir -p "$folder"
    if ! echo "$sha256  $folder/$archive" | sha256sum --check --status 2>/dev/null; then
        say "fetching the engine's source: $package $version"
        python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary "$package" \
            --dest "$folder" "$package==$version" >&2
    fi
    if ! echo "$sha256  $folder/$archive" | sha256sum --check --status; then
        say "$folder/$archive does not have the pinned sha256 $sha256"
        exit 1
    fi
    tar -xzf "$folder/$archive" -C "$work" --strip-components=3 "llama_cpp_python-$version/vendor/llama.cpp"
}

if [ -n "$source" ]; then
    say "building the engine from $source"
else
    fetch
    source=$work
    say "building the engine (llama.cpp of $package $version), once, a few minutes"
fi
# shellcheck disable=SC2086
cmake -S "$source" -B "$work/.b" -G Ninja $flags -DCMAKE_INSTALL_PREFIX="$prefix" >"$work/log" 2>&1 &&
    cmake --build "$work/.b" --target llama >>"$work/log" 2>&1 &&
    rm -rf "$prefix" && cmake --install "$work/.b" >>"$work/log" 2>&1 || {
    tail -n 30 "$work/log" >&2
    say "the engine did not build"
    exit 1
}
touch "$prefix/.complete"
echo "$prefix"
