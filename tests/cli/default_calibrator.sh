# SPDX-License-Identifier: Apache-2.0
# The shipped calibrator on the real model: it orders held-out pairs, stays close on clean text, and the demo shows it.
model=$SOOTHE_TEST_MODEL data=$SOOTHE_SOURCE/data
"$SOOTHE" ppl -m "$model" --calibrator "$SOOTHE_MODELS/default.calibrator.gguf" --strength 0,1 --limit 24 --json \
    --data "$data/heldout_pairs.jsonl.xz" --data "$data/heldout_texts.jsonl.xz" >ppl.json || exit 1
python3 - <<'PY' || exit 1
import json
off, on = json.load(open("ppl.json"))["strengths"]
assert off["pairs"]["share"]["value"] == 0.5 and off["kl"]["value"] == 0, off
assert on["pairs"]["share"]["value"] > 0.8, on["pairs"]
assert 0 < on["kl"]["value"] < 0.2, on["kl"]
PY
"$SOOTHE" demo -m "$model" >demo || exit 1
grep -q '^plain .*| soothed' demo && tail -n 2 demo | grep -q 'listed word'
