#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The peer of bench_generate: Hugging Face transformers sampling many continuations of SmolLM2-135M's shape (random
weights: speed does not depend on them), KV cache, nucleus .9.

    generate_pytorch.py [SEQUENCES] [TOKENS] [PROMPT] [ROUNDS] [TYPE]

TYPE: bfloat16, or float32, which is the faster one on processors without instructions for the former.
Prints tokens per second of wall time and of processor time, prompts included, median of the rounds."""
import statistics
import sys
import time

import torch
from transformers import LlamaConfig, LlamaForCausalLM

n, n_tokens, n_prompt, rounds = (int(sys.argv[i]) if len(sys.argv) > i else d for i, d in ((1, 64), (2, 20), (3, 16), (4, 3)))
config = LlamaConfig(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                     num_key_value_heads=3, max_position_embeddings=8192, tie_word_embeddings=True, bos_token_id=1,
                     eos_token_id=None, pad_token_id=2)
torch.manual_seed(1)
model = LlamaForCausalLM(config).to(getattr(torch, sys.argv[5] if len(sys.argv) > 5 else "bfloat16")).eval()
model.generation_config.eos_token_id = None
prompt = torch.randint(50, 49000, (n, n_prompt))
mask = torch.ones_like(prompt)
wall, processor = [], []
with torch.inference_mode():
    for i in range(rounds + 1):  # the first one warms up
        t, c = time.perf_counter(), time.process_time()
        out = model.generate(prompt, attention_mask=mask, do_sample=True, top_p=0.9, top_k=0, temperature=1.0,
                             max_new_tokens=n_tokens, min_new_tokens=n_tokens, use_cache=True)
        if out.shape[1] != n_prompt + n_tokens:
            sys.exit("generation ended early")
        if i:
            wall.append(n * n_tokens / (time.perf_counter() - t))
            processor.append(n * n_tokens / (time.process_time() - c))
print(f"{n} sequences: {statistics.median(wall):.0f} tokens/s; a second of processor time: {statistics.median(processor):.0f}")
