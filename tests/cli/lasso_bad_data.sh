# SPDX-License-Identifier: Apache-2.0
# Bad cells are named by line and column, or passed over and counted; files that do not fit are refused.
try() {
    "$SOOTHE" lasso "$@" 2>&1 | grep -vE '^ *[0-9]+ %' | grep -E 'soothe:|rows to learn'
    echo "exit ${PIPESTATUS[0]}"
}
python3 - <<'END'
rows = ["%d,%d,%d" % (i % 7, (3 * i) % 11, (i % 7 + i % 2) > 3) for i in range(60)]
open("good.csv", "w").write("a,b,y\n" + "\n".join(rows) + "\n")
rows[10] = "3,,1"
rows[20] = "3,five,1"
open("bad.csv", "w").write("a,b,y\n" + "\n".join(rows) + "\n")
open("good.jsonl", "w").write("".join('{"a": %s, "b": %s, "y": %s}\n' % tuple(r.split(",")) for r in rows if r.count(",") == 2 and "five" not in r and ",," not in r))
END
try --data good.csv --target y --folds 3
try --data good.jsonl --target y --folds 3
try --data - --target y --folds 3 <good.csv
try --data bad.csv --target y --folds 3
try --data bad.csv --target y --folds 3 --skip-bad
try --data good.csv --target z
try --data nothing.csv --target y
try --data good.csv --target y --feature a --feature c
try --data good.csv --target y --folds 40
try --data good.csv --target y --positive 2
try --data good.csv --target b --family binomial
try --data good.csv --target y --features-from-text a
printf 'feature,factor\nc,2\n' >prior.csv
try --data good.csv --target y --folds 3 --prior prior.csv
printf 'feature,factor\na,2\n' >prior.csv
try --data good.csv --target y --folds 3 --prior prior.csv
try --data good.csv --target y --folds 3 -o nowhere/result.json
