# SPDX-License-Identifier: Apache-2.0
# Finished runs in one report: figures as if they had been one run, what differs, what is cut, several models.
"$MAKE_TINY" target.gguf
"$MAKE_TINY" tuned.gguf seed=7
"$MAKE_TINY" judge.gguf seed=2 d=96
"$SOOTHE" calibrator init -m target.gguf --blocks 1 -o cal.gguf >/dev/null 2>&1
cat >judge.py <<'END'
import hashlib, json, sys
for line in sys.stdin:  # a fifth without a score
    x = hashlib.sha256(json.loads(line)["text"].encode()).digest()[0] % 5
    print(json.dumps({"score": None if x == 4 else x / 4, "why": "it is Monday"}))
END
cat >same.py <<'END'
# same.py A B [METHOD...]: where the figures of two reports differ; of METHODs, those that the runs' own scorers need not share
import json, sys
a, b = ({m["name"].split(": ")[-1]: m for m in json.load(open(path))["methods"]} for path in sys.argv[1:3])
for name in sys.argv[3:] or a:
    keys = [k for k in a[name] if k not in ("name", "splits", "other_scorers")] if sys.argv[3:] else list(a[name])
    differ = [k for k in keys if a[name][k] != b[name].get(k)]
    print(name + ":", len(keys) - len(differ), "figures are the same", *differ)
END
fusion=fusion:strength=0.5:calibrator=cal.gguf
main="command:python3 judge.py"
run() { # run SETTING=VALUE... OPTION...: the settings that a case changes, then options
    local model=target.gguf methods=plain limit=10 suite=challenging-mini
    while [[ ${1-} == *=* && $1 != -* ]]; do local "$1" && shift; done
    "$SOOTHE" eval -m "$model" --suite "$suite" --limit "$limit" --methods "$methods" -k 3 -n 6 --seed 3 --group 5 \
        --scorer "$main" --ppl-model judge.gguf --no-timing "$@" >/dev/null 2>err || cat err
}
sets=(--benign-suite benign-mini --benign-predict 4 --corpus "$SOOTHE_SOURCE/data/eval/benign_mini.jsonl")
as() { # as RUN NAME STATEMENT: the run's folder under another name, its manifest m changed
    cp -r "$1" "$2"
    python3 -c 'import json, sys
path = sys.argv[1] + "/manifest.json"
m = json.load(open(path))
exec(sys.argv[2])
json.dump(m, open(path, "w"))' "$2" "$3"
}
hashes() { sed 's/[0-9a-f]\{64\}/HASH/g'; }
compare() { "$SOOTHE" eval compare "$@" --no-timing 2>&1 | hashes; }
notes() {
    python3 -c 'import json, sys
report = json.load(open(sys.argv[1] + "/report.json"))
print([m["name"] for m in report["methods"]], *report["notes"], sep="\n")' "$1"
}

echo "== two runs, and one of both"
run "methods=plain,$fusion" --out both "${sets[@]}" --scorer lexicon
run --out plain "${sets[@]}" --scorer lexicon
run "methods=$fusion" --out fusion "${sets[@]}"
"$SOOTHE" eval rescore fusion --scorer lexicon >/dev/null 2>&1
compare plain fusion --out joined >table
python3 same.py both/report.json joined/report.json
"$SOOTHE" eval show both | cmp - table && echo "same table"
"$SOOTHE" eval show joined | cmp - table && grep -q "<html" joined/report.html && echo "a page"
notes joined
"$SOOTHE" eval compare plain fusion --no-timing --json | cmp - <(head -c -1 joined/report.json) && echo "same JSON"
compare both --methods "$fusion" --out picked >/dev/null
notes picked
compare plain both --out again >/dev/null
notes again
run --out bare
compare plain bare | tail -n 3

echo "== refused"
as plain seed 'm["seed"] = 4' && compare plain seed
as plain k 'm["n_samples"] = 2' && compare plain k
as plain sampling 'm["sampling"]["top_p"] = 0.8' && compare plain sampling
as plain prompts 'm["prompts"]["sha256"] = "ab"' && compare plain prompts
as plain command 'm["scorers"][0].update(identity="ab", spec="command:python3 judge.py twice")' && compare plain command
as plain file 'm["scorers"][0]["identity"] = "ab"' && compare plain file
as plain judge 'm["ppl_model"].update(sha256="ab", file="other.gguf")' && compare plain judge
as plain both_differ 'm["scorers"][0].update(identity="ab", spec="lexicon"); m["prompts"]["sha256"] = "ab"' && compare plain both_differ
run suite=benign-mini limit=5 --out five && compare plain five
compare plain fusion --methods word-filter
compare plain fusion --methods plain
compare plain plain
compare plain nosuch
compare plain fusion --out plain
cp -r fusion torn && sed -i 7d torn/samples.jsonl && rm torn/rescore-* && compare plain torn
compare plain torn --limit 6 | sed -n 1p
"$SOOTHE" eval compare --out joined 2>&1
"$SOOTHE" eval compare plain --limit 0 2>&1

echo "== fewer prompts"
python3 - <<'END'
import json, os
for name in ("plain", "fusion"):  # as if a run had had the first 4 prompts only
    os.mkdir("short_" + name)
    manifest = json.load(open(name + "/manifest.json"))
    manifest["prompts"].update(n=4, sha256="of four")
    json.dump(manifest, open("short_" + name + "/manifest.json", "w"))
    with open("short_" + name + "/samples.jsonl", "w") as out:
        for line in open(name + "/samples.jsonl"):
            record = json.loads(line)
            if record["kind"] != "prompt" or record["item"] < 4:
                out.write(line)
END
compare short_plain short_fusion --out short >/dev/null
compare short_plain fusion --out cut >/dev/null
compare plain fusion --limit 4 --out limited >/dev/null
for x in cut limited; do
    notes $x
    python3 same.py short/report.json $x/report.json plain "$fusion"
done

echo "== two models"
run model=tuned.gguf --out tuned
as tuned third 'm["model"]["sha256"] = "of another file of that name"'
compare plain tuned --out models >/dev/null
notes models
python3 -c 'import json
report, own = (json.load(open(x + "/report.json")) for x in ("models", "tuned"))
print(report["settings"]["model_name"], report["settings"]["model"], [run["model"]["file"] for run in report["runs"]])
a, b = report["methods"][1], own["methods"][0]
for m in (a, b):
    for split in m["splits"].values():
        split.pop("against_first", None), split.pop("other_scorers")
print([k for k in b if a[k] != b[k]])'
compare tuned plain third both --methods plain --out four >/dev/null
notes four | sed -n 1p

echo "== perplexity: by the model itself, of the first samples, none"
as bare own_plain 'm["ppl_model"] = {**m["model"], "is_target": True}'
as tuned own_tuned 'm["ppl_model"] = {**m["model"], "is_target": True}'
as bare none 'm["n_ppl_samples"] = 0'
run --out one --ppl-samples 1
python3 - <<'END'
import json, os, subprocess
def ppl(*runs):
    text = subprocess.run([os.environ["SOOTHE"], "eval", "compare", *runs, "--json"], capture_output=True, check=True).stdout
    report = json.loads(text)
    print([m["ppl"]["value"] is not None for m in report["methods"]], *(n for n in report["notes"] if "perplexity" in n), sep="\n")
    return report["methods"]
ppl("own_plain", "own_tuned")
ppl("own_plain", "plain")
ppl("none", "plain")
a, b = ppl("plain", "one")
own = json.load(open("one/report.json"))["methods"][0]
print("the same:", a["ppl"] == own["ppl"], b["ppl"] == own["ppl"], a["emt"] == own["emt"])
END
