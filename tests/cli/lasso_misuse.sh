# SPDX-License-Identifier: Apache-2.0
# What makes no sense is told before any file is read.
try() {
    "$SOOTHE" lasso "$@" 2>&1
    echo "exit $?"
}
try
try --data x.csv
try --data x.csv --target y more
try --data x.csv --target y -m model.gguf
try --data x.csv --target y --prior p.csv --task t
try --data x.csv --target y --shuffle
try --data x.csv --target y --by-rank
try --data x.csv --target y --family poisson
try --data x.csv --target y --family gaussian --positive 1
try --data x.csv --target y --folds 1
try --data x.csv --target y --guard x
try --data x.csv --target y --max-features 10
try --data x.csv --target y --features-from-text t --feature a
try --data x.csv --target y --test t.csv --test-fraction 0.1
try --data x.csv --target y -t -1
