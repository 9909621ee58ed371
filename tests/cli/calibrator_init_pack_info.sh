# SPDX-License-Identifier: Apache-2.0
# Cut, look, pack, look again; three families.
for family in llama qwen2 gemma3; do
    "$MAKE_TINY" target.gguf $family
    "$SOOTHE" calibrator init -m target.gguf --blocks 2 -o cal.gguf && echo "$family cut"
    "$SOOTHE" calibrator info cal.gguf -m target.gguf | grep -E 'kind|form |block_count|d_cal|general.name|tensors,'
    "$SOOTHE" calibrator pack cal.gguf --base target.gguf --type q8_0 -o small.gguf
    "$SOOTHE" calibrator info small.gguf -m target.gguf --json |
        python3 -c 'import json, sys; o = json.load(sys.stdin); print(o["metadata"]["soothe.calibrator.kind"], o["tensors"])'
done
"$SOOTHE" calibrator init -m target.gguf --blocks 0 -o matrix.gguf
"$SOOTHE" calibrator pack matrix.gguf -o small.gguf # a matrix has no base
"$SOOTHE" calibrator info small.gguf -m target.gguf | grep -E 'kind|target.name'
ls *.gguf
