# SPDX-License-Identifier: Apache-2.0
# Two files, three strengths: strength 0 of any calibrator is the plain model; table and JSON say the same.
"$MAKE_TINY" target.gguf
"$SOOTHE" calibrator init -m target.gguf --blocks 2 -o cal.gguf
printf '{"prompt": "you are", "chosen": " very kind", "rejected": " a fool"}\n' >pairs.jsonl
printf '{"text": "the hills are green"}\n{"prompt": "the sea", "completion": " is blue"}\n' | xz >texts.jsonl.xz
"$SOOTHE" ppl -m target.gguf --calibrator cal.gguf --exact --strength 0,0.5,1 --data pairs.jsonl --data texts.jsonl.xz \
    --json 2>/dev/null >figures.json
python3 - <<'END'
import json
o = json.load(open("figures.json"))
print(o["pairs"], o["clean_texts"], [d["lines"] for d in o["data"]], [s["strength"] for s in o["strengths"]])
zero, half, one = o["strengths"]
print(zero["pairs"], zero["kl"]["value"], zero["clean"] == o["plain"]["clean"], zero["rejected"] == o["plain"]["rejected"])
print(one["kl"]["value"] > half["kl"]["value"] > 0, one["clean"]["nll"]["value"] > o["plain"]["clean"]["nll"]["value"])
END
"$SOOTHE" ppl -m target.gguf --calibrator cal.gguf --strength 0 --data pairs.jsonl --data texts.jsonl.xz 2>/dev/null |
    grep -E '^(0 |[0-9]+ pairs)' | cut -c 1-64
