/* SPDX-License-Identifier: Apache-2.0
 * Small random models of several families, written as GGUF files: they load in the engine in
 * milliseconds and can be damaged at will. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include <stdbool.h>
#include <stdint.h>

/* TINY_BERT: an encoder with a head of three labels (neutral, toxic, insult) and a WordPiece vocabulary of single
 * letters, each alone or at a word's start: a text of n letters has n tokens, and [CLS] and [SEP] around them.
 * TINY_QWEN3: a decoder with such a head (yes, no), behind which the engine puts a softmax.
 * TINY_GEMMA: a decoder for which the engine knows no head but the embedding. */
enum tiny_family { TINY_LLAMA, TINY_QWEN2, TINY_GEMMA3, TINY_GPT2, TINY_BERT, TINY_QWEN3, TINY_GEMMA };

struct tiny_options {
    enum tiny_family family;
    uint32_t         n_blocks;  /* 0: 4 */
    uint32_t         d;         /* 0: 64; a multiple of 32 */
    uint32_t         n_context; /* 0: 256 */
    uint64_t         seed;
    bool             other_words;    /* another vocabulary of the same size */
    bool             sentence_piece; /* another one yet, in SentencePiece's kind: BOS, and a space before every text */
    bool             nan_weight;     /* one NaN in blk.0.attn_norm.weight */
    bool             numbered;       /* TINY_BERT: two labels, LABEL_0 and LABEL_1 */
    bool             headless;       /* TINY_BERT: without its classification head */
};

/* Returns false if the file cannot be written. */
bool tiny_model_write(const char *path, const struct tiny_options *options);

/* Writes the calibrator at source_path again with small random A as one for the target, of whatever width. */
bool tiny_random_alignment(const char *path, const char *source_path, const char *target_path, uint64_t seed);

#endif
