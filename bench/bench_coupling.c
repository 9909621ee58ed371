/* SPDX-License-Identifier: Apache-2.0
 * What following a target by its text costs, without decoding anything:
 *   bench_coupling TARGET.gguf BASE.gguf TEXTS.jsonl       as for soothe ppl, prompt and completion joined
 * TARGET and BASE (whose vocabulary the calibrator has) are read for their vocabularies alone. The target's tokens come
 * one by one, as in generation and in scoring. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"
#include "engine/text_tokens.h"
#include "fusion/text_follower.h"

struct figures {
    int64_t n_target, n_decoded, n_taken_back, n_text, n_final;
    double  seconds, whole_seconds;
};

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static struct llama_model *load(const char *path) {
    struct llama_model_params mp = llama_model_default_params();
    mp.vocab_only                = true;
    return llama_model_load_from_file(path, mp);
}

/* Tokens of `last` that f's tokens do not begin with are taken back; one at least is decoded. */
static void count(struct figures *g, struct soothe__tokens *last, const struct soothe__tokens *now) {
    size_t k = 0;
    while (k < last->n && k < now->n && last->data[k] == now->data[k])
        k++;
    k = k == now->n ? k - 1 : k;
    g->n_taken_back += (int64_t)(last->n - k);
    g->n_decoded += (int64_t)(now->n - k);
    if (soothe__tokens_reserve(last, now->n))
        memcpy(last->data, now->data, now->n * sizeof *now->data);
    last->n = now->n;
}

static bool follow(struct figures *g, const struct soothe__follow_rules *r, const char *text, size_t size) {
    struct soothe_error     err;
    struct soothe__follower f    = {.n = 0};
    struct soothe__tokens   last = {.n = 0}, whole = {.n = 0};
    llama_token            *tokens;
    int32_t                 n;
    if (soothe__tokenize(&tokens, &n, r->target, text, size, SOOTHE__TOKENIZE_START, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return false;
    }
    bool ok = true;
    for (int32_t i = 0; i < n && ok; i++) {
        const double from = soothe__seconds();
        ok = soothe__follower_push(&f, r, i, tokens[i], &err) == SOOTHE_OK && !soothe__follower_tokenize(&f, r, &err);
        g->seconds += soothe__seconds() - from;
        if (ok)
            count(g, &last, &f.tokens);
    }
    const double from = soothe__seconds();
    ok = ok && soothe__boundaries_tokenize(r->boundaries, &whole, f.text, f.n_text, false, &err) == SOOTHE_OK;
    g->whole_seconds += (soothe__seconds() - from) * n / 2; /* at each token, half of the text on average */
    g->n_target += n;
    g->n_final += (int64_t)f.tokens.n;
    g->n_text += (int64_t)size;
    free(tokens);
    free(last.data);
    free(whole.data);
    soothe__follower_free(&f);
    return ok;
}

static void print(const struct figures *g) {
    const double n = (double)g->n_target;
    printf("%lld bytes, %lld tokens of the target, %lld of the calibrator\n", (long long)g->n_text,
           (long long)g->n_target, (long long)g->n_final);
    printf("decoded by the calibrator, per token of the target: %.3f, of which %.3f were taken back later\n",
           (double)g->n_decoded / n, (double)g->n_taken_back / n);
    printf("finding them out: %.1f us a token (the whole text at each token: %.1f us)\n", 1e6 * g->seconds / n,
           1e6 * g->whole_seconds / n);
}

static bool follow_file(struct figures *g, const struct soothe__follow_rules *r, const char *path) {
    struct soothe__corpus corpus;
    struct soothe_error   err;
    soothe__corpus_init(&corpus);
    bool ok = soothe__corpus_read(&corpus, path, &err) == SOOTHE_OK;
    if (!ok)
        fprintf(stderr, "bench_coupling: %s\n", err.message);
    for (size_t i = 0; i < corpus.n_texts && ok; i++) {
        char *joined = soothe__format("%s%s", corpus.texts[i].prompt, corpus.texts[i].completion);
        ok           = joined && follow(g, r, joined, strlen(joined));
        free(joined);
    }
    soothe__corpus_free(&corpus);
    return ok;
}

int main(int argc, char **argv) {
    struct soothe__follow_rules r;
    struct soothe_error         err;
    struct figures              g = {.n_target = 0};
    if (argc != 4) {
        fprintf(stderr, "bench_coupling TARGET.gguf BASE.gguf TEXTS.jsonl\n");
        return 2;
    }
    llama_log_set(quiet, NULL);
    struct llama_model *target = load(argv[1]), *base = load(argv[2]);
    if (!target || !base) {
        fprintf(stderr, "bench_coupling: cannot load %s\n", target ? argv[2] : argv[1]);
        return 1;
    }
    if (soothe__follow_rules_new(&r, llama_model_get_vocab(target), base, &err)) {
        fprintf(stderr, "bench_coupling: %s\n", err.message);
        return 1;
    }
    const bool ok = follow_file(&g, &r, argv[3]);
    if (ok)
        print(&g);
    soothe__follow_rules_free(&r);
    llama_model_free(target);
    llama_model_free(base);
    return ok ? 0 : 1;
}
