/* SPDX-License-Identifier: Apache-2.0
 * Going on from prompts: sampling, chat templates, and many continuations at once over one session.
 *
 * A *prompt* is continued under each of the given doses, n_samples times each; every such *continuation* has
 * a random generator of its own, so its text depends neither on how many run beside it nor on their order (but
 * for the engine's rounding, which differs a little with the size of a batch). */
#ifndef SOOTHE_GENERATE_H
#define SOOTHE_GENERATE_H

#include <signal.h>

#include "base/base.h"

/* ---- sampling: sampling.c; names, meaning, order and defaults are llama.cpp's ---------------------- */

struct soothe__sampling {
    float    temp;              /* 0: always the likeliest token; default 0.8                        */
    int32_t  top_k;             /* 0: off; default 40                                                */
    float    top_p;             /* 1: off; default 0.95                                              */
    float    min_p;             /* 0: off; default 0.05                                              */
    float    repeat_penalty;    /* > 0; 1, the default: off                                          */
    int32_t  repeat_last_n;     /* tokens that the penalties look back; 0: off, -1: all; default 64  */
    float    frequency_penalty; /* 0, the default: off                                               */
    float    presence_penalty;  /* 0, the default: off                                               */
    uint32_t seed;              /* default 0; any value is a seed, none means "random"               */
};
struct soothe__sampling soothe__sampling_default(void);

/* What chooses the next token. Without penalties only the tokens that top-k or top-p leaves are ever sorted; the rest
 * is done by llama.cpp's own samplers, with the same outcome as its whole chain. */
struct soothe__sampler;

/* stream, i_sample  choose one of the seed's random generators
 * errors  SOOTHE_E_ARGUMENT a value out of its range; SOOTHE_E_MEMORY */
enum soothe_status soothe__sampler_new(struct soothe__sampler **sampler, const struct soothe__sampling *sampling,
                                       const struct llama_vocab *vocab, int32_t n_ctx, uint64_t stream,
                                       uint32_t i_sample, struct soothe_error *err);
void               soothe__sampler_free(struct soothe__sampler *sampler); /* NULL is fine */

/* A token of the prompt, for the penalties. */
void soothe__sampler_accept(struct soothe__sampler *sampler, llama_token token);

/* Chooses a token by its logits z (n_vocab) and accepts it. list is scratch that samplers may share; afterwards it
 * knows the normaliser of z (soothe__shortlist_log_prob).
 * returns  LLAMA_TOKEN_NULL where a logit is NaN, or the chosen one not finite, or memory is short */
struct soothe__shortlist;
llama_token soothe__sampler_choose(struct soothe__sampler *sampler, const float *z, int32_t n_vocab,
                                   struct soothe__shortlist *list);

/* ---- chat templates: chat_prompt.c ------------------------------------------------------------------ */

/* One turn in the words of the model's own chat template, up to where the assistant speaks.
 * *text   fresh, free(); to be tokenized with its special tokens
 * system  NULL or "": none
 * errors  SOOTHE_E_UNSUPPORTED the model has no template, or one that the engine does not know */
enum soothe_status soothe__chat_prompt(char **text, const struct llama_model *model, const char *system,
                                       const char *user, struct soothe_error *err);

/* ---- many continuations: generate.c ------------------------------------------------------------------- */

enum soothe__finish {
    SOOTHE__FINISH_STOP,       /* the model ended its text                                            */
    SOOTHE__FINISH_LENGTH,     /* n_predict tokens, or no room in the context for more                */
    SOOTHE__FINISH_INTERRUPTED /* options.stop, or on_token said so                                   */
};
const char *soothe__finish_name(enum soothe__finish finish); /* "stop", "length", "interrupted" */

struct soothe__prompt {
    const llama_token *tokens; /* borrowed; at least one */
    int32_t            n_tokens;
    uint64_t           stream; /* random stream: the prompt's number among all prompts of the run */
    /* Where the tokens are a turn of the model's chat template: what it was made of, for methods that make it anew. */
    const char *turn;   /* the user's words, borrowed; NULL: the tokens are the text itself */
    const char *system; /* NULL: none */
};

struct soothe__generated_token {
    llama_token id;
    float       log_prob; /* of the model as fused, before sampling, in nats; NaN unless asked for */
    float       reading;  /* options.read of the token's own state; NaN without, and before the step that follows */
    float       dose;     /* under which it was chosen: the continuation's, times the gates'              */
    size_t      text_end; /* text[0 … text_end) was whole with this token                          */
};

/* One continuation, as far as it is. Owned by the generator, valid during the callback. */
struct soothe__continuation {
    size_t                                i_prompt, i_dose;
    int32_t                               i_sample, i_try;
    float                                 dose;
    const char                           *text; /* valid UTF-8, zero-terminated */
    size_t                                size;
    const struct soothe__generated_token *tokens; /* without the one that ended it */
    int32_t                               n_tokens;
    enum soothe__finish                   finish;  /* on_done only */
    double                                seconds; /* since its prompt was taken up, others' work included */
};

struct soothe__generate_options {
    struct soothe__sampling sampling;
    int32_t                 n_samples;      /* continuations per prompt and dose; 0: 1                 */
    int32_t                 n_tries;        /* of each such continuation, to choose from; 0: 1. The first try is the
                                               continuation that there would be without the others     */
    int32_t                      n_predict; /* tokens of each at most; -1: until the context is full       */
    const float                 *doses;     /* each prompt is continued under each, with equal random numbers; */
    size_t                       n_doses;   /* 0: as the session is set. See soothe__session_set_dose      */
    bool                         log_probs; /* costs a pass over the vocabulary per token                  */
    const volatile sig_atomic_t *stop;      /* becomes nonzero to stop; NULL: never                        */
    /* Reads the state of each generated token, where soothe__session_tap listens (the caller's to set): a probe's
     * logit. A continuation's last token is then decoded too. NULL: no reading. */
    double (*read)(void *read_user, const float *state);
    void *read_user;
    /* After each token; text[size - n_new … size) is new, n_new may be 0. false ends this continuation. NULL: none. */
    bool (*on_token)(void *user, const struct soothe__continuation *c, size_t n_new);
    void (*on_done)(void *user, const struct soothe__continuation *c); /* in the order of completion */
    void *user;
};
struct soothe__generate_options soothe__generate_options_default(void); /* 1 sample, 128 tokens */

struct soothe__generate_stats {
    int64_t n_prompt_tokens, n_tokens;     /* a prompt counts once however often it is continued */
    double  prompt_seconds, token_seconds; /* decoding and sampling                               */
};

/* Sets what generation needs of a session's context: n_parallel + 1 sequences (one keeps a prompt for samples yet
 * to come) and, where n_ctx is 0, a size in which n_parallel continuations of the longest prompt have room,
 * within what the model was trained for. */
void soothe__generate_context(struct llama_context_params *context, const struct llama_model *model,
                              const struct soothe__prompt *prompts, size_t n_prompts,
                              const struct soothe__generate_options *options, int32_t n_parallel);

/* Continues all prompts, as many at a time as the session has sequences for, less one, and room.
 * stats   may be NULL
 * errors  SOOTHE_E_ARGUMENT an empty prompt, or one that does not fit the context (said before anything runs);
 *         SOOTHE_E_INTERRUPTED after options.stop: what was under way was handed to on_done;
 *         SOOTHE_E_NUMERIC logits that are no numbers; those of soothe_decode
 * state   the session is empty before and after; doses given stay set on its sequences */
enum soothe_status soothe__generate(struct soothe_session *session, const struct soothe__prompt *prompts,
                                    size_t n_prompts, const struct soothe__generate_options *options,
                                    struct soothe__generate_stats *stats, struct soothe_error *err);

#endif /* SOOTHE_GENERATE_H */
