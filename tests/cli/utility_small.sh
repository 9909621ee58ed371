# SPDX-License-Identifier: Apache-2.0
# The real model on a few questions of the built-in sets: it can do something, and strength 0 is plain.
"$SOOTHE" utility -m "$SOOTHE_TEST_MODEL" --suite hellaswag-mini --limit 3 --methods plain,fusion:strength=0 --out likelihoods.jsonl \
    --json 2>/dev/null >report.json
echo "exit $?"
python3 - <<'END'
import json
report = json.load(open("report.json"))
plain, zero = (s["sets"][0] for s in report["systems"])
print(plain["acc_norm"] == zero["acc_norm"], zero["against_first"]["lost"], zero["against_first"]["gained"])
lines = [json.loads(line) for line in open("likelihoods.jsonl")]
print(lines[0]["kind"], len(lines))
by = {(l["system"], l["question"]): l["log_p"] for l in lines if "question" in l}
print("the same likelihoods", all(by[0, i] == by[1, i] for i in range(3)))
print("plausible", all(-300 < x < -1 for log_p in by.values() for x in log_p))
END
