# SPDX-License-Identifier: Apache-2.0
# An alignment made by the program is taken by run and ppl, reported as JSON, and refused for another pair.
"$MAKE_TINY" source.gguf
"$MAKE_TINY" target.gguf gemma3 seed=2 d=96
"$SOOTHE" calibrator init -m source.gguf --blocks 1 -o cal.gguf
for i in 1 2 3 4 5 6 7 8 9 10 11 12; do
    printf '{"prompt": "p%d", "chosen": " kind %d", "rejected": " rude %d"}\n' $i $i $i
    printf '{"text": "some text number %d of many"}\n' $i
done >d.jsonl
common="-m target.gguf --data d.jsonl --heldout-share 0.3 -t 1 --steps 4"
"$SOOTHE" align $common --calibrator cal.gguf --matrix -o a.gguf --json 2>/dev/null |
    python3 -c "import json, sys; r = json.load(sys.stdin); h = r['heldout']
print(sorted(r), r['objective'], r['a'], r['b'], r['bias'], r['strength'], r['tokens']['top1'])
print(h['n_pairs'] > 0, h['kl'] > 0, h['nll_toxic'] > h['nll_toxic_plain'] - .1)"
"$SOOTHE" align $common --calibrator cal.gguf --objective procrustes -o p.gguf 2>/dev/null |
    sed 's/[-+]\{0,1\}[0-9][0-9.]*/N/g'
"$SOOTHE" run -m target.gguf --method fusion:calibrator=cal.gguf:alignment=a.gguf -p "some text" -n 4 --seed 1 -t 1 >/dev/null 2>&1 &&
    echo spoken
"$SOOTHE" ppl -m target.gguf --calibrator cal.gguf --alignment a.gguf --strength 0,1 --data d.jsonl -t 1 2>/dev/null | grep -c "^[01] "
"$SOOTHE" align $common --matrix -o alone.gguf >/dev/null 2>&1
"$SOOTHE" run -m target.gguf --method fusion:alignment=alone.gguf -p "some text" -n 4 --seed 1 -t 1 >/dev/null 2>&1 && echo alone
"$SOOTHE" run -m source.gguf --method fusion:calibrator=cal.gguf:alignment=a.gguf -p "some text" -n 4 2>&1 | grep ^soothe
"$SOOTHE" run -m target.gguf --method fusion:calibrator=cal.gguf:alignment=cal.gguf -p "some text" -n 4 2>&1 | grep ^soothe
