# SPDX-License-Identifier: Apache-2.0
# Shipped files and scorers at work are settings of a run too: the manifest has a hash of each.
"$SOOTHE" eval -m "$SOOTHE_TEST_MODEL" --suite challenging-mini --limit 1 -k 1 -n 2 --ppl-samples 0 \
    --methods auto,dexperts,proxy,best-of-n:n=2,rad:k=2,cmd --out run >/dev/null 2>&1 || exit 1
python3 - <<'END'
import json
manifest, report = json.load(open("run/manifest.json")), json.load(open("run/report.json"))
for method in manifest["methods"]:
    for link in method["chain"]:
        of = [name for name, hash in (("file", (link["source"] or {}).get("sha256")), ("scorer", link.get("judge"))) if hash and len(hash) == 64]
        print(method["name"], link["method"], *of)
print([len(files) for files in report["hashes"]["chains"]])
END
