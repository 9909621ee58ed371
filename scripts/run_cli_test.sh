#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs topic.sh, compares its stdout with topic.out (if there) and its exit code with topic.exit (else 0).
set -u
script=$1
base=${script%.sh}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
bash "$script" >stdout 2>stderr </dev/null
code=$?
expected=0
[ -e "$base.exit" ] && expected=$(cat "$base.exit")
status=0
if [ "$code" != "$expected" ]; then
    echo "exit code $code, expected $expected"
    status=1
fi
if [ -e "$base.out" ] && ! diff -u "$base.out" stdout; then
    status=1
fi
if [ $status != 0 ]; then
    echo "--- stdout"; cat stdout
    echo "--- stderr"; cat stderr
fi
exit $status
