#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The tables of docs/methods/llm-lasso.md: a model's prior, and the same shuffled, on two sets of labelled text.
#   lasso_table.sh SOOTHE MODEL DAVIDSON.csv[.xz] PARADETOX.tsv.xz WORK_DIR
# A few minutes on one core, most of them the model's opinion of some thousand words. What is in WORK_DIR is kept.
set -euo pipefail
soothe=$1 model=$2 davidson=$3 paradetox=$4 work=$5
mkdir -p "$work"

# Both sides of a pair as rows of their own.
[ -e "$work/paradetox.csv" ] || xz -dc "$paradetox" | python3 -c '
import csv, sys
out = csv.writer(sys.stdout)
out.writerow(["label", "text"])
next(sys.stdin)
for line in sys.stdin:
    toxic, neutral, *_ = line.rstrip("\n").split("\t") + [""]
    if toxic and neutral:
        out.writerow(["toxic", toxic])
        out.writerow(["neutral", neutral])' >"$work/paradetox.csv"

lasso() { # lasso NAME OPTIONS...: once with the prior, then shuffled with five seeds
    local name=$1
    shift
    local common=("$@" --folds 5 -t 1 --top 0)
    [ -e "$work/$name.prior.csv" ] ||
        "$soothe" lasso "${common[@]}" -m "$model" --task "$task" --max-power 0 --save-prior "$work/$name.prior.csv" >/dev/null
    "$soothe" lasso "${common[@]}" --prior "$work/$name.prior.csv" -o "$work/$name.json" >"$work/$name.txt"
    for seed in 1 2 3 4 5; do
        "$soothe" lasso "${common[@]}" --prior "$work/$name.prior.csv" --shuffle --seed $seed \
            -o "$work/$name.shuffled$seed.json" >/dev/null
    done
}

task="whether a tweet is offensive, insulting or hateful"
lasso davidson --data "$davidson" --target class --positive 0,1 --features-from-text tweet
task="whether a comment is toxic, rude or insulting"
lasso paradetox --data "$work/paradetox.csv" --target label --positive toxic --features-from-text text

python3 - "$work" <<'END'
import json, sys

def at_most(power, n):
    return min((p for p in power["curve"] if p["features"] <= n), key=lambda p: p["cv_loss"])

def row(o, n):
    plain, own = (at_most(o["powers"][i], n) for i in (0, o["chosen_power"]))
    return "| {} | {} | {:.4f} | {:.4f} | {:.4f} | {} | {:.4f} | {:.4f} | {:.4f} |".format(
        n, *(p[k] for p in (plain, own) for k in ("features", "test_loss", "test_error", "test_auroc")))

for name in "davidson", "paradetox":
    o = json.load(open(f"{sys.argv[1]}/{name}.json"))
    best = [o["powers"][i]["best"] for i in (0, o["chosen_power"])]
    print(f"\n{name}: {o['data']['train_rows']} rows to learn from, {o['data']['test_rows']} held out, "
          f"{o['data']['features']} words; chosen i = {o['chosen_power']}\n")
    print("| at most | plain: words | test loss | error | AUROC | chosen: words | test loss | error | AUROC |")
    print("|---" * 9 + "|")
    for n in 10, 20, 30, 50, 100, 200, 300, 500:
        print(row(o, n))
    print("| best | {} | {:.4f} | {:.4f} | {:.4f} | {} | {:.4f} | {:.4f} | {:.4f} |".format(
        *(p[k] for p in best for k in ("features", "test_loss", "test_error", "test_auroc"))))
    print("\n| names | chosen i | gain in cross-validation | test loss, plain | chosen | difference |\n" + "|---" * 6 + "|")
    differences = []
    for kind in ["", ".shuffled1", ".shuffled2", ".shuffled3", ".shuffled4", ".shuffled5"]:
        o = json.load(open(f"{sys.argv[1]}/{name}{kind}.json"))
        plain, own = (o["powers"][i]["best"]["test_loss"] for i in (0, o["chosen_power"]))
        p = o["powers"][max(1, o["proposed_power"])]
        print(f"| {kind[1:-1] + ', seed ' + kind[-1] if kind else 'their own'} | {o['chosen_power']} | "
              f"{p['gain']:+.5f} +- {p['gain_error']:.5f} | {plain:.4f} | {own:.4f} | {own - plain:+.4f} |")
        differences.append(own - plain)
    shuffled = differences[1:]
    mean = sum(shuffled) / len(shuffled)
    error = (sum((d - mean) ** 2 for d in shuffled) / (len(shuffled) - 1) / len(shuffled)) ** 0.5
    print(f"\nshuffled: mean difference {mean:+.5f} +- {error:.5f}")
END
