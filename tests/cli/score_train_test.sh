# SPDX-License-Identifier: Apache-2.0
# A scorer trained here is one that score and score test take; twice the same bytes; held-out rows can be written.
rows=$SOOTHE_DATA/scorer_train.jsonl
train() { "$SOOTHE" score train --data "$rows" --bits 12 --iterations 20 --seed 3 "$@" 2>/dev/null; }
train -o a.gguf --write-holdout held.jsonl --json >report.json || echo failed
train -o b.gguf -t 2 >/dev/null
cmp a.gguf b.gguf && echo "the same bytes"
"$SOOTHE" score test --scorer a.gguf --data held.jsonl --json >test.json
python3 - <<'PYTHON'
import json
report, test = json.load(open("report.json")), json.load(open("test.json"))
same = all(abs(a[k] - b[k]) < 1e-6 for a, b in zip(report["held_out"], test["figures"])
           for k in ("n", "toxic", "auc", "ece", "recall"))
print("held-out figures the same:", same, len(report["held_out"]) == len(test["figures"]))
print("learnt:", report["held_out"][-1]["auc"] > 0.8, report["n_holdout"] == report["held_out"][-1]["n"])
print(test["kind"], test["figures"][-1]["nulls"])
PYTHON
echo "you idiot" | "$SOOTHE" score --scorer a.gguf 2>&1 >/dev/null | cut -d, -f1
"$SOOTHE" score test --scorer lexicon --data held.jsonl | head -1
