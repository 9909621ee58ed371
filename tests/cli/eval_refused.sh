# SPDX-License-Identifier: Apache-2.0
# What does not belong together is refused, and what stands in the way is named.
"$MAKE_TINY" target.gguf
run() { # run SETTING=VALUE... OPTION...: the settings that a case changes, then options
    local k=2 limit=6 methods=plain scorer=lexicon suite=challenging-mini
    while [[ ${1-} == *=* && $1 != -* ]]; do local "$1" && shift; done
    "$SOOTHE" eval -m target.gguf ${suite:+--suite "$suite"} --limit "$limit" --methods "$methods" -k "$k" -n 3 --scorer "$scorer" \
        --group 2 "$@" 2>&1 >/dev/null | grep -v -e ' %  ' -e '^seed' -e '^shard'
}
echo "== another run's folder, this run's folder"
run --out dir
run --out dir
run --out dir --resume
run --out dir --resume --seed 5
run limit=5 --out dir --resume | sed 's/"[0-9a-f]\{64\}"/HASH/g'
run k=3 --out dir --resume
run --out dir --resume --n-gpu-layers 1
cp -r dir old # of a version that did not note layers on a GPU: there were none
python3 - <<'END'
import json
manifest = json.load(open("old/manifest.json"))
del manifest["n_gpu_layers"]
json.dump(manifest, open("old/manifest.json", "w"))
END
run --out old --resume
run --out old --resume --n-gpu-layers 1
rm dir/manifest.json
run --out dir
cp old/manifest.json dir
echo "== merge"
run --out a --shard 0/2
run --out a --shard 1/2
run --out b --shard 0/2 --seed 5
"$SOOTHE" eval merge a/shard-0-of-2 b/shard-0-of-2 --out m 2>&1
"$SOOTHE" eval merge a/shard-0-of-2 --out m 2>&1
"$SOOTHE" eval merge a/shard-0-of-2 a/shard-1-of-2 a/shard-0-of-2 --out m 2>&1 | sed 's/group [02] of/group G of/'
"$SOOTHE" eval merge a/shard-0-of-2 nosuch --out m 2>&1
"$SOOTHE" eval merge a/shard-0-of-2 a/shard-1-of-2 --out b/shard-0-of-2 2>&1
test -e m || echo "nothing written"
echo "== damage"
sed -i '2s/.*/{"kind": "prompt"}/' dir/samples.jsonl
run --out dir --resume
"$SOOTHE" eval report dir 2>&1
"$SOOTHE" eval show nosuch 2>&1
echo '{}' >dir/report.json
"$SOOTHE" eval show dir 2>&1
echo "== prompts, methods and scorers"
run suite= --out x --prompts nosuch.jsonl
printf '{"prompt": "a"}\n{"text": ""}\nno json\n' >bad.jsonl
run suite= --out x --prompts bad.jsonl
run suite=nosuch --out x
run scorer=nosuch --out x | sed 's/: say .*//'
run "scorer=command:cat $(printf '\377')" --out x
run methods=fusion:calibrator=nosuch.gguf --out x
test -e x || echo "nothing written"
