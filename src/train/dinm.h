/* SPDX-License-Identifier: Apache-2.0
 * DINM from files to a file: instances in, the toxic layer found, its down projection edited, an edited model out.
 *
 *   dinm_texts.c   instances and general questions: read, completed by the target, tokenised
 *   dinm_locate.c  which layer tells safe from unsafe answers most
 *   dinm_core.c    loss and gradient
 *   dinm.c         the whole of it
 * docs/methods/dinm.md is the manual.
 * Source: Wang et al. 2024, "Detoxifying Large Language Models via Knowledge Editing" (DINM, SafeEdit). */
#ifndef SOOTHE_DINM_H
#define SOOTHE_DINM_H

#include <signal.h>

#include "engine/engine.h"
#include "generate/answers.h"

/* ---- instances: dinm_texts.c ------------------------------------------------------------------------- */

struct soothe__dinm_instance {
    char *question;
    char *attack; /* NULL: none */
    char *prompt; /* what the model is asked: the question in the attack, and the suffix */
    char *safe, *unsafe;
    bool  wrote_safe, wrote_unsafe; /* the target did */
    bool  led;                      /* its safe answer had to be begun for it */
};

struct soothe__dinm_general {
    char *question, *answer; /* to be kept; the answer is the target's own where the file has none */
};

struct soothe__dinm_texts {
    struct soothe__dinm_instance *instances;
    size_t                        n_instances;
    struct soothe__dinm_general  *general;
    size_t                        n_general;
    char                          instances_sha256[65], general_sha256[65]; /* general: "" for the built-in ones */
};

/* JSON lines {"question" or "prompt", "attack", "safe", "unsafe"}; general: {"question", "prompt", "instruction" or
 * "text", "answer" or "response"}, NULL: some that are built in. Only the question is needed. Every second general one
 * without an answer is put into an instance's attack.
 * errors  SOOTHE_E_FORMAT no instance, a line that is none: the line is named */
enum soothe_status soothe__dinm_texts_read(struct soothe__dinm_texts *texts, const char *instances_path,
                                           const char *general_path, const char *suffix, struct soothe_error *err);
void               soothe__dinm_texts_free(struct soothe__dinm_texts *texts); /* also of a zeroed one */

struct soothe__dinm_writing {
    const char *system;    /* the safe system prompt */
    int32_t     n_predict; /* tokens of an answer */
    int32_t     n_threads;
    bool (*is_safe)(const char *answer); /* NULL: all are. A safe answer that the target wrote and that is none is
                                            written again from a refusal's first words */
    const volatile sig_atomic_t *stop;
};
/* Has the target write what is missing. */
enum soothe_status soothe__dinm_texts_complete(struct soothe__dinm_texts *texts, struct llama_model *model,
                                               const struct soothe__dinm_writing *w, struct soothe_error *err);

/* A prompt and an answer as tokens. */
struct soothe__dinm_tokens {
    llama_token *tokens; /* owned */
    int32_t      n_tokens, first;
};
/* ends  the model's end of turn after the answer */
enum soothe_status soothe__dinm_tokenize(struct soothe__dinm_tokens *out, const struct llama_model *model,
                                         const char *prompt, const char *answer, bool ends, struct soothe_error *err);

/* ---- the layer: dinm_locate.c ------------------------------------------------------------------------ */

/* How a layer's distance between a safe and an unsafe answer is taken.
 *   mean    |mean h(safe) - mean h(unsafe)| / mean |h|, over the answers' tokens after the prompt: their lengths and
 *           their words average out, and depth does not win by the states' growth
 *   tokens  mean over places t that both answers have of |h_t(safe) - h_t(unsafe)|, relative likewise
 *   paper   |H(safe) - H(unsafe)|, the whole matrix, the answers without the prompt, padded to equal length by the end
 *           of text; the last layer's state is the one after the final norm (as the paper's code has it) */
enum soothe__dinm_rule { SOOTHE__DINM_MEAN, SOOTHE__DINM_TOKENS, SOOTHE__DINM_PAPER, SOOTHE__DINM_RULES };
extern const char *const soothe__dinm_rule_names[SOOTHE__DINM_RULES];

struct soothe__dinm_layers {
    int32_t n_layers;
    double *distance[SOOTHE__DINM_RULES]; /* (n_layers), means over the instances */
    int32_t largest[SOOTHE__DINM_RULES];
};
enum soothe_status soothe__dinm_locate(struct soothe__dinm_layers *layers, struct llama_model *model,
                                       const struct soothe__dinm_texts *texts, int32_t n_threads,
                                       struct soothe_error *err);
void               soothe__dinm_layers_free(struct soothe__dinm_layers *layers);

/* ---- the edit: dinm.c -------------------------------------------------------------------------------- */

struct soothe__dinm_options {
    const char                  *model_path, *out_path;
    const char                  *instances_path, *general_path; /* general NULL: built in */
    const char                  *suffix;                        /* after every prompt; NULL: none */
    struct soothe__dinm_writing  writing;
    enum soothe__dinm_rule       rule;
    int32_t                      layer; /* -1: as the rule says */
    int32_t                      n_steps;
    double                       lr, c_edit;
    double                       stop_loss; /* no step after a loss below this */
    const char                  *type;      /* of the edited tensor: "own", or a name of ggml's, "q8_0" */
    int32_t                      n_threads; /* 0: all */
    bool                         show_progress;
    const volatile sig_atomic_t *stop;
};
struct soothe__dinm_options soothe__dinm_options_default(void);

struct soothe__dinm_step {
    double loss, nll, kl; /* before the step; the last entry: as written, in the tensor's type */
};

struct soothe__dinm_report {
    struct soothe__dinm_texts  texts;
    struct soothe__dinm_layers layers;
    int32_t                    layer;
    char                       tensor[48], type_before[16], type[16];
    struct soothe__dinm_step  *steps; /* (n_steps + 2): before each, after the last, as written */
    int32_t                    n_steps;
    double                     change; /* |W' - W| / |W| as written */
    double                     seconds_write, seconds_locate, seconds_edit;
};

/* state   after an error there is no out_path, or the one that was there before
 * errors  SOOTHE_E_UNSUPPORTED another shape than Llama's, Qwen2's; SOOTHE_E_NUMERIC the loss is not finite;
 *         SOOTHE_E_INTERRUPTED; those of the parts */
enum soothe_status soothe__dinm(const struct soothe__dinm_options *options, struct soothe__dinm_report *report,
                                struct soothe_error *err);
void               soothe__dinm_report_free(struct soothe__dinm_report *report); /* also of a zeroed one */

#endif /* SOOTHE_DINM_H */
