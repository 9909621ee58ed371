/* SPDX-License-Identifier: Apache-2.0
 * How much of a prompt's meaning stays when a method rewrites it.
 *
 *     bench_meaning MODEL RUN.jsonl      lines of `soothe run --json` under a method that rewrites prompts
 *
 * The cosine between the mean states (final, without the first token's) of a prompt and of what was continued in its
 * place, the mean over all prompts' states taken off first; beside it that between a prompt and another one's. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "score/layer_states.h"
#include "score/probe.h"

enum { N_MAX = 1000, TOKENS_MAX = 512 };

struct work {
    struct soothe__token_text texts[2 * N_MAX]; /* before, after */
    size_t                    n;
    int32_t                   d;
    float                    *means; /* (n, d) */
};

static void fail(const struct soothe_error *err) {
    fprintf(stderr, "bench_meaning: %s\n", err->message);
    exit(1);
}

static void add(struct work *w, const struct llama_vocab *vocab, const char *text) {
    struct soothe_error err;
    llama_token        *tokens;
    int32_t             n;
    if (soothe__tokenize(&tokens, &n, vocab, text, strlen(text), SOOTHE__TOKENIZE_START, &err))
        fail(&err);
    w->texts[w->n++] = (struct soothe__token_text){tokens, n < TOKENS_MAX ? n : TOKENS_MAX};
}

static enum soothe_status take(void *user, size_t i, const float *const *states, int32_t n, struct soothe_error *err) {
    struct work *w = user;
    (void)err;
    soothe__pool_states(SOOTHE__POOL_MEAN, states[0], n, w->d, w->means + i * (size_t)w->d);
    return SOOTHE_OK;
}

static double cosine(const struct work *w, const double *mean, size_t a, size_t b) {
    double ab = 0, aa = 0, bb = 0;
    for (int32_t i = 0; i < w->d; i++) {
        const double x = (double)w->means[a * (size_t)w->d + (size_t)i] - mean[i];
        const double y = (double)w->means[b * (size_t)w->d + (size_t)i] - mean[i];
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    return ab / sqrt(aa * bb);
}

int main(int argc, char **argv) {
    static struct work           w;
    const int32_t                layer = SOOTHE__LAYER_FINAL;
    struct soothe_error          err;
    struct llama_model          *model;
    struct soothe__layer_reader *reader;
    char                         line[1 << 16];
    size_t                       n_prompts = 0;
    FILE                        *f         = argc == 3 ? fopen(argv[2], "r") : NULL;
    if (!f) {
        fprintf(stderr, "usage: bench_meaning MODEL RUN.jsonl\n");
        return 2;
    }
    if (soothe__target_load(&model, argv[1], 0, &err))
        fail(&err);
    while (fgets(line, sizeof line, f) && w.n + 2 <= 2 * N_MAX) {
        json_t     *o = json_loads(line, 0, NULL);
        const char *after =
            json_string_value(json_object_get(json_array_get(json_object_get(o, "events"), 0), "continued"));
        const char *before = json_string_value(json_object_get(o, "prompt"));
        n_prompts++;
        if (after && before && *after) {
            add(&w, llama_model_get_vocab(model), before);
            add(&w, llama_model_get_vocab(model), after);
        }
        json_decref(o);
    }
    fclose(f);
    w.d          = llama_model_n_embd(model);
    w.means      = soothe__calloc((w.n + 1) * (size_t)w.d, sizeof *w.means);
    double *mean = soothe__calloc((size_t)w.d, sizeof *mean);
    if (!w.means || !mean || soothe__layer_reader_new(&reader, model, &layer, 1, TOKENS_MAX, 1, &err) ||
        soothe__layer_reader_read(reader, w.texts, w.n, take, &w, &err))
        fail(&err);
    for (size_t k = 0; k < w.n * (size_t)w.d; k++)
        mean[k % (size_t)w.d] += (double)w.means[k] / (double)w.n;
    double same = 0, other = 0, lowest = 1;
    for (size_t i = 0; i < w.n; i += 2) {
        const double c = cosine(&w, mean, i, i + 1);
        same += c;
        lowest = c < lowest ? c : lowest;
        other += cosine(&w, mean, i, (i + 3) % w.n);
    }
    const double n = (double)w.n / 2;
    printf("%zu of %zu prompts rewritten; cosine to the original %.3f (lowest %.3f), to another prompt's %.3f\n",
           w.n / 2, n_prompts, same / n, lowest, other / n);
    for (size_t i = 0; i < w.n; i++) {
        void *tokens;
        memcpy(&tokens, &w.texts[i].tokens, sizeof tokens);
        free(tokens);
    }
    soothe__layer_reader_free(reader);
    llama_model_free(model);
    free(w.means);
    free(mean);
    return 0;
}
