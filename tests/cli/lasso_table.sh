# SPDX-License-Identifier: Apache-2.0
# A table with a file of factors: what is chosen and selected; the table and JSON say the same.
cat >prior.py <<'END'
import csv, os
names = next(csv.reader(open(os.environ["SOOTHE_DATA"] + "/lasso/breast_cancer.csv")))[:-1]
out = csv.writer(open("prior.csv", "w"))
out.writerow(["feature", "factor"])
for name in names:
    out.writerow([name, 2 if name.startswith("worst") else 2.5 if name.startswith("mean") else 3])
END
python3 prior.py
cp "$SOOTHE_DATA/lasso/breast_cancer.csv" "$SOOTHE_DATA/lasso/wine.csv" .
# To three digits: processors round the last ones differently.
digits() {
    python3 -c 'import re, sys
for line in sys.stdin:
    print(re.sub(r" +", " ", re.sub(r"-?\d+\.\d+", lambda m: "%.3g" % float(m[0]), line)).rstrip())'
}
lasso() {
    "$SOOTHE" lasso --data breast_cancer.csv --target malignant --folds 5 --lambdas 40 "$@" 2>stderr | digits
    code=${PIPESTATUS[0]}
    grep -vE '^ *[0-9]+ %' stderr
    [ $code = 0 ] || echo "exit $code"
}
echo "--- plain"
lasso --top 3 | grep -vE '^(1|2|3|5|8|10) '
echo "--- with factors"
lasso --prior prior.csv --max-power 2 --top 4 -o result.json
"$SOOTHE" lasso --data breast_cancer.csv --target malignant --folds 5 --lambdas 40 --max-power 2 --prior prior.csv --json \
    2>/dev/null >again.json
cmp <(grep -v '"seconds"' result.json) <(grep -v '"seconds"' again.json)
python3 - <<'END'
import json
o = json.load(open("result.json"))
print(o["chosen_power"], len(o["powers"]), o["data"]["train_rows"], o["data"]["test_rows"], len(o["prior"]["factors"]))
best = o["powers"][o["chosen_power"]]["best"]
print(best["features"] == len(o["selected"]), best["lambda"] == o["lambda"], o["options"]["seed"], len(o["data"]["sha256"]))
END
echo "--- gaussian, its own test rows, one column left out"
(head -n 1 wine.csv; tail -n 30 wine.csv) >test.csv
"$SOOTHE" lasso --data wine.csv --target alcohol --leave-out cultivar --test test.csv --top 3 \
    2>/dev/null | digits
