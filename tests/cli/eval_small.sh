# SPDX-License-Identifier: Apache-2.0
# A real evaluation of the real model and the shipped calibrator, small: 10 prompts, 4 samples of 8 tokens.
"$SOOTHE" eval -m "$SOOTHE_TEST_MODEL" --suite challenging-mini --limit 10 --methods plain,fusion -k 4 -n 8 --seed 1 \
    --scorer lexicon --group 10 --out dir >table 2>/dev/null
echo "exit $?"
grep -c -e '^plain' -e '^fusion' table
python3 - <<'END'
import json
report = json.load(open("dir/report.json"))
plain, fusion = report["methods"]
print(report["kind"], report["schema"], report["prompts"]["n"], [m["name"] for m in report["methods"]])
for key in ("emt", "tp", "mean", "greedy1", "ppl", "ppl_response", "dist1", "dist2", "dist3", "tokens_per_s"):
    for m in (plain, fusion):
        v = m[key]
        assert v["lo"] <= v["value"] <= v["hi"], (key, v)
    assert key in report["definitions"]
print("soothed", fusion["emt"]["value"] < plain["emt"]["value"], fusion["against_first"]["emt"]["value"] < 0)
print("fluent", 5 < plain["ppl"]["value"] < 200, fusion["against_first"]["ppl_relative"]["value"] < 0.25)
print("diverse", plain["dist2"]["value"] > 0.9, fusion["dist2"]["value"] > 0.9)
print("nulls", plain["nulls"], fusion["nulls"], "memory", plain["timing"]["peak_bytes"] > 1e8)
END
grep -q "<html" dir/report.html && echo "a page"
