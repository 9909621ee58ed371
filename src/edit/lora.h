/* SPDX-License-Identifier: Apache-2.0
 * Factors of low rank laid into a model's matrices: W' = W + s B A. */
#ifndef SOOTHE_LORA_H
#define SOOTHE_LORA_H

#include "edit/edit.h"

struct soothe__lora_change {
    const float *a, *b; /* (r, n_in), (n_out, r) */
    int32_t      rank;
    float        scale;
};
/* For soothe__tensor_edit.apply, with such a change as user. */
enum soothe_status soothe__lora_apply(void *change, int64_t first_row, int64_t n_rows, int64_t ne0, float *values,
                                      bool *changed, struct soothe_error *err);

/* Writes the model with a LoRA file of llama.cpp's kind merged into it, each tensor in its own data type.
 * strength  factor on the file's own scale; 0: every tensor keeps its bytes
 * errors    SOOTHE_E_FORMAT no LoRA file; SOOTHE_E_MISMATCH of another architecture, shape or (where it says so) base;
 *           those of soothe__edit_gguf */
enum soothe_status soothe__lora_merge(const char *model_path, const char *lora_path, double strength,
                                      const char *out_path, struct soothe_error *err);

#endif /* SOOTHE_LORA_H */
