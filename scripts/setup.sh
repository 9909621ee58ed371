#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds the engine once, configures BUILD. Asks nothing; quick when all is there.
#   setup.sh BUILD [CMake options]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
shift || true

missing=()
need() { # need PACKAGE TEST-COMMAND...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
header() { echo "#include <$1>" | cc -E -x c - ; }

check() {
    missing=()
    need gcc command -v cc
    need g++ command -v c++
    need cmake command -v cmake
    need ninja-build command -v ninja
    need pkg-config command -v pkg-config
    need python3 command -v python3
    need python3-pip python3 -m pip --version
    need ca-certificates test -e /etc/ssl/certs/ca-certificates.crt
    need libcurl4-openssl-dev header curl/curl.h
    need libssl-dev header openssl/evp.h
    need libarchive-dev header archive.h
    need libjansson-dev header jansson.h
    need libutf8proc-dev header utf8proc.h
    need libpopt-dev header popt.h
    need libcsv-dev header csv.h
    need libcmocka-dev pkg-config --exists cmocka
    need libdnnl-dev header dnnl.h
}

check
if [ ${#missing[@]} -gt 0 ]; then
    echo "soothe: installing Debian packages that building and running need: ${missing[*]}" >&2
    if ! command -v apt-get >/dev/null; then
        echo "soothe: this system has no apt-get; please install the counterparts of: ${missing[*]}" >&2
        exit 1
    fi
    sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
    check
    if [ ${#missing[@]} -gt 0 ]; then
        echo "soothe: still missing after installation: ${missing[*]}" >&2
        exit 1
    fi
fi

engine=$(scripts/engine.sh)
stamp="$build/.configured"
wanted="$engine $* $(cksum CMakeLists.txt cmake/* scripts/setup.sh | cksum)"
if [ ! -e "$build/build.ninja" ] || [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    options=()
    [ "$engine" = system ] || options+=("-DCMAKE_PREFIX_PATH=$engine" "-DSOOTHE_ENGINE_PREFIX=$engine")
    # -U: a build made with another engine must not go on with it
    cmake -S . -B "$build" -G Ninja -Ullama_DIR -Uggml_DIR "-Ullama_LIB*" "-UGGML_*" "${options[@]}" "$@" >"/tmp/soothe-cmake.$$" 2>&1 || {
        cat "/tmp/soothe-cmake.$$" >&2
        rm -f "/tmp/soothe-cmake.$$"
        exit 1
    }
    rm -f "/tmp/soothe-cmake.$$"
    echo "$wanted" >"$stamp"
fi
