#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs all tests of a build with the real small model.   test.sh BUILD [ctest options]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
shift || true
SOOTHE_TEST_MODEL=$("$build/soothe" pull smollm2-135m-instruct)
export SOOTHE_TEST_MODEL
ctest --test-dir "$build" --output-on-failure --no-tests=error "$@"
