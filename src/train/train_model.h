/* SPDX-License-Identifier: Apache-2.0
 * What training takes from the files of a target and a calibrator: shape, weights, embedding, head. */
#ifndef SOOTHE_TRAIN_MODEL_H
#define SOOTHE_TRAIN_MODEL_H

#include "engine/engine.h"
#include "train/train_core.h"

struct soothe__train_model {
    struct soothe__gguf        target, calibrator; /* calibrator is zeroed without one */
    struct soothe__train_shape shape;
    uint16_t                  *embedding; /* (V, d_cal) bf16; NULL without blocks */
    uint16_t                  *head;      /* (V, d_tgt) bf16: output.weight or, where tied, the embedding */
    bool                       whole;     /* the blocks are the target's own, all of them */
};

/* calibrator_path NULL: 0 blocks. A calibrator in full form, cut from a Llama or Qwen2 shape, whose tokenizer is
 * the target's.
 * errors  SOOTHE_E_UNSUPPORTED another shape, a packed calibrator; SOOTHE_E_MISMATCH another tokenizer */
enum soothe_status soothe__train_model_open(struct soothe__train_model *m, const char *target_path,
                                            const char *calibrator_path, struct soothe_error *err);
/* The whole target as what is trained: its own blocks in the calibrator's place, d_cal = d_tgt.
 * errors  SOOTHE_E_UNSUPPORTED another shape than Llama's or Qwen2's */
enum soothe_status soothe__train_model_open_whole(struct soothe__train_model *m, const char *target_path,
                                                  struct soothe_error *err);
void               soothe__train_model_close(struct soothe__train_model *m); /* also of a zeroed one */

/* Fills the core's parameters: blocks and norm, and A, B, bias where the calibrator has them already (else 0). Factors
 * of low rank stay as they are. */
enum soothe_status soothe__train_model_load(const struct soothe__train_model *m, struct soothe__train_core *core,
                                            struct soothe_error *err);

#endif /* SOOTHE_TRAIN_MODEL_H */
