#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fusion on a backend whose tensors are not in host memory: an engine with the RPC backend (built once, into the cache
# beside the plain one), and tests/test_backend.c against a server on this machine.
#   test_backend.sh [BUILD]      BUILD: build-rpc
# SOOTHE_TEST_MODEL and SOOTHE_TEST_CALIBRATOR name a real model and a calibrator with blocks made for it; both may be missing.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build-rpc}
export SOOTHE_ENGINE_FLAGS=${SOOTHE_ENGINE_FLAGS:--DGGML_RPC=ON}
scripts/setup.sh "$build" -DSOOTHE_BENCH=OFF
cmake --build "$build" --target test_backend
ctest --test-dir "$build" -R '^test_backend$' --verbose
