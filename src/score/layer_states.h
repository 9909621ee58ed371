/* SPDX-License-Identifier: Apache-2.0
 * The hidden states of a language model at any of its layers, for many texts, batched.
 *
 * A *layer* is the number of a block, from 0 (its output, the engine's node "l_out-N"), or SOOTHE__LAYER_FINAL (the
 * state after the last norm, "result_norm"). The engine stops behind the highest layer that was asked for: a probe
 * of the middle layer costs half a forward pass, and the output head is never computed. */
#ifndef SOOTHE_LAYER_STATES_H
#define SOOTHE_LAYER_STATES_H

#include "engine/engine.h"

enum { SOOTHE__LAYER_FINAL = -1 };

/* "7" or "final", as users write it; parse: false for anything else. */
void soothe__layer_name(char name[16], int32_t layer);
bool soothe__layer_parse(int32_t *layer, const char *name);

struct soothe__layer_reader;

/* layers        (n_layers) distinct
 * n_tokens_max  longest text to come, at least 1
 * n_threads     0: all
 * errors        SOOTHE_E_ARGUMENT no such layer; SOOTHE_E_ENGINE; SOOTHE_E_MEMORY
 * thread        one reader, one thread; model must outlive it */
enum soothe_status soothe__layer_reader_new(struct soothe__layer_reader **reader, struct llama_model *model,
                                            const int32_t *layers, size_t n_layers, int32_t n_tokens_max,
                                            int32_t n_threads, struct soothe_error *err);
void               soothe__layer_reader_free(struct soothe__layer_reader *reader); /* NULL is fine */

struct soothe__token_text {
    const llama_token *tokens; /* borrowed */
    int32_t            n_tokens;
};

/* Takes the states of one text: states[l] (n_tokens, d) row-major is those of layers[l], valid during the call. */
typedef enum soothe_status soothe__take_states(void *user, size_t i_text, const float *const *states, int32_t n_tokens,
                                               struct soothe_error *err);

/* Reads n texts in order; texts that are empty or too long are an error (SOOTHE_E_ARGUMENT).
 * The engine rounds a text's states a little differently with other texts beside it (about 1e-6 of them).
 * errors  SOOTHE_E_UNSUPPORTED the architecture has no such node; SOOTHE_E_NUMERIC a state that is not finite;
 *         those of take */
enum soothe_status soothe__layer_reader_read(struct soothe__layer_reader     *reader,
                                             const struct soothe__token_text *texts, size_t n,
                                             soothe__take_states *take, void *user, struct soothe_error *err);

#endif /* SOOTHE_LAYER_STATES_H */
