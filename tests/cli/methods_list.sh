# SPDX-License-Identifier: Apache-2.0
# Every method with its parameters; --json holds the same, and more does not belong there.
"$SOOTHE" methods | grep "(default)"
"$SOOTHE" methods | sed -n '/^fusion/,/^    strength/p'
"$SOOTHE" methods --json | python3 -c '
import json, sys
methods = json.load(sys.stdin)["methods"]
assert [m["default"] for m in methods].count(True) == 1
for m in methods:
    assert all(m[k] for k in ("name", "summary", "stage", "cost", "source")), m["name"]
    for p in m["parameters"]:
        assert p["kind"] in ("number", "integer", "choice", "file", "text") and p["help"], p
        assert ("range" in p) == (p["kind"] in ("number", "integer")), p
fusion = next(m for m in methods if m["name"] == "fusion")
print(fusion["stage"], fusion["parameters"][0])
'
"$SOOTHE" methods more 2>&1 || echo "exit $?"
