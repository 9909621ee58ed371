/* SPDX-License-Identifier: Apache-2.0
 * soothe run in two parts: cmd_run.c reads what is wanted and lets the model speak, run_output.c writes what
 * it says. */
#ifndef SOOTHE_RUN_H
#define SOOTHE_RUN_H

#include "cli/speak.h"
#include "methods/methods.h"
#include "score/probe.h"

/* How the result is shown. */
struct soothe__run_style {
    bool json, compare, echo, mask;
};

/* One continuation, kept until it is its turn to be written. */
struct soothe__run_result {
    bool                            done;
    char                           *text;
    size_t                          size;
    struct soothe__generated_token *tokens;
    int32_t                         n_tokens;
    enum soothe__finish             finish;
    double                          seconds;
};

struct soothe__run_output {
    struct soothe__run_style          style;
    const struct soothe__prompt_list *prompts;
    const struct soothe__applied     *method;
    const struct llama_vocab         *vocab;
    const char                       *model_path;
    uint32_t                          seed;
    bool                              gated;      /* the dose of each token is told */
    const struct soothe__probe       *probe;      /* whose risk is told; NULL: none */
    double                            highest[2]; /* risk of any token so far, of each dose */
    size_t                            n_doses;    /* of each prompt: 2 to compare, plain first */
    struct soothe__run_result        *results;    /* [prompt][dose]; NULL while streaming */
    size_t                            i_next;     /* the prompt to be written next */
    volatile sig_atomic_t            *stop;       /* set when nobody reads any more */
    bool                              out_of_memory;
};

/* "fusion, strength 1" */
void soothe__describe_method(const struct soothe__applied *a, char *out, size_t size);

/* One prompt in plain text streams token by token; everything else is written prompt by prompt, in their order.
 * errors  SOOTHE_E_MEMORY
 * state   o's other fields are the caller's to fill before */
enum soothe_status soothe__run_output_begin(struct soothe__run_output *o, struct soothe_error *err);
/* Callbacks for soothe__generate; user is o. */
bool soothe__run_output_on_token(void *user, const struct soothe__continuation *c, size_t n_new);
void soothe__run_output_on_done(void *user, const struct soothe__continuation *c);
/* For generate_options.read; user is the probe. */
double soothe__run_output_read(void *user, const float *state);
/* The highest risks on stderr, where there was a probe. */
void soothe__run_output_tell_risk(const struct soothe__run_output *o);
void soothe__run_output_free(struct soothe__run_output *o);

#endif /* SOOTHE_RUN_H */
