/* SPDX-License-Identifier: Apache-2.0
 * The harmoniser at work: asking its sources, and the scorer kind that it is. */
#include "score/polar.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/sigmoid.h"
#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "score/probe.h"

enum { TOKENS_MAX = 256 /* of a text, for its state */, FEATURES_A_SOURCE = 2 };

/* ---- sources ----------------------------------------------------------------------------------------------- */

enum soothe_status soothe__polar_add_source(struct soothe__polar *p, const char *spec, float lo, float hi,
                                            struct soothe_error *err) {
    if (p->n_sources == SOOTHE__POLAR_SOURCES_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "more than %d scorers to be combined", SOOTHE__POLAR_SOURCES_MAX);
    struct soothe__polar_source *more = soothe__realloc(p->sources, p->n_sources + 1, sizeof *more);
    char                        *copy = soothe__strdup(spec);
    if (more)
        p->sources = more;
    if (!more || !copy) {
        free(copy);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scorers", p->n_sources + 1);
    }
    p->sources[p->n_sources++] = (struct soothe__polar_source){.spec = copy, .lo = lo, .hi = hi};
    return SOOTHE_OK;
}

/* The kind that would take the SPEC decides, whatever its spelling. A combination of combinations could be without end.
 */
static enum soothe_status check_kind(const char *spec, bool from_file, struct soothe_error *err) {
    const struct soothe__scorer_kind *kind;
    const char                       *allowed = getenv("SOOTHE_ALLOW_COMMANDS");
    enum soothe_status                status  = soothe__scorer_find(&kind, spec, err);
    if (status)
        return status;
    if (strcmp(kind->name, "polar") == 0)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s is itself a combination; combine its scorers", spec);
    if (from_file && !kind->local && !(allowed && strcmp(allowed, "1") == 0))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED,
                            "the combination would run \"%.200s\": if you trust its file, set SOOTHE_ALLOW_COMMANDS=1",
                            spec);
    return SOOTHE_OK;
}

static enum soothe_status open_source(struct soothe__polar_source *s, const struct soothe__scorer_options *options,
                                      bool from_file, struct soothe_error *err) {
    enum soothe_status status = check_kind(s->spec, from_file, err);
    if (!status)
        status = soothe__scorer_open(&s->scorer, s->spec, options, err);
    if (status)
        return status;
    const char *identity = soothe__scorer_identity(s->scorer);
    if (!s->identity[0])
        memcpy(s->identity, identity, 65);
    else if (strcmp(s->identity, identity) != 0)
        return soothe__fail(err, SOOTHE_E_MISMATCH,
                            "scorer %s is not the one that was combined (identity %.12s…, then %.12s…): fit again",
                            s->spec, identity, s->identity);
    return SOOTHE_OK;
}

/* Hidden states of another model mean something else, also where they are as wide. */
static enum soothe_status check_model(struct soothe__polar *p, const char *model_path, struct soothe_error *err) {
    struct soothe__gguf g;
    char                hex[65], bytes[65];
    enum soothe_status  status = soothe__gguf_open(&g, model_path, err);
    if (status)
        return status;
    status = soothe__model_fingerprint(hex, &g, err);
    soothe__gguf_close(&g);
    if (!status && p->target[0] && strcmp(p->target, hex) != 0)
        status = soothe__fail(err, SOOTHE_E_MISMATCH,
                              "the combination reads states of another model (fingerprint %.12s…) than %s (%.12s…)",
                              p->target, model_path, hex);
    if (!status)
        status = soothe__sha256_file(bytes, model_path, err);
    if (status)
        return status;
    memcpy(p->target, hex, 65);
    if (p->identity[0]) { /* quantised files of one model score a little differently */
        struct soothe__sha256 *h = soothe__sha256_new();
        soothe__sha256_add(h, p->identity, 64);
        soothe__sha256_add(h, bytes, 64);
        soothe__sha256_finish(h, p->identity);
    }
    return SOOTHE_OK;
}

static enum soothe_status open_reader(struct soothe__polar *p, const struct soothe__scorer_options *options,
                                      struct soothe_error *err) {
    if (!options || !options->model_path)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the combination reads hidden states: say of which model, by -m");
    enum soothe_status status = check_model(p, options->model_path, err);
    if (!status)
        status = soothe__target_load(&p->model, options->model_path, 0, err);
    if (status)
        return status;
    const int32_t d = llama_model_n_embd(p->model);
    if (p->d != 0 && p->d != d)
        return soothe__fail(err, SOOTHE_E_MISMATCH, "the combination reads states of width %d; %s has %d", p->d,
                            options->model_path, d);
    p->d = d;
    return soothe__layer_reader_new(&p->reader, p->model, &p->layer, 1, TOKENS_MAX, options->n_threads, err);
}

enum soothe_status soothe__polar_open_sources(struct soothe__polar *p, const struct soothe__scorer_options *options,
                                              bool from_file, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t j = 0; j < p->n_sources && !status; j++)
        status = open_source(&p->sources[j], options, from_file, err);
    if (!status && p->layer != SOOTHE__POLAR_NO_LAYER)
        status = open_reader(p, options, err);
    return status;
}

void soothe__polar_free(struct soothe__polar *p) {
    for (size_t j = 0; j < p->n_sources; j++) {
        soothe__scorer_close(p->sources[j].scorer);
        free(p->sources[j].spec);
    }
    soothe__layer_reader_free(p->reader);
    llama_model_free(p->model);
    soothe__harmoniser_free(&p->harmoniser);
    free(p->sources);
    memset(p, 0, sizeof *p);
}

int32_t soothe__polar_n_features(const struct soothe__polar *p) {
    return (int32_t)p->n_sources * FEATURES_A_SOURCE + (p->layer == SOOTHE__POLAR_NO_LAYER ? 0 : p->d);
}

/* ---- asking ---------------------------------------------------------------------------------------------------- */

static signed char vote_of(const struct soothe__polar_source *s, double score) {
    if (isnan(score))
        return SOOTHE__ABSTAIN;
    return score <= (double)s->lo ? 0 : score >= (double)s->hi ? 1 : SOOTHE__ABSTAIN;
}

/* The score as a logit between -6 and 6, and whether there is one. A missing one is no 0: that is a logit like any
 * other, and one far from what clean texts have. */
static void set_features(float *x, double score) {
    const double p = fmin(fmax(score, 0.0025), 0.9975);
    x[0]           = isnan(score) ? NAN : (float)log(p / (1 - p));
    x[1]           = isnan(score) ? 1.0F : 0.0F;
}

struct states {
    float  *features;
    size_t  n_features, at; /* where a row's state begins */
    size_t *i_texts;
    int32_t d;
};

static enum soothe_status take_state(void *user, size_t i, const float *const *states, int32_t n_tokens,
                                     struct soothe_error *err) {
    struct states *s = user;
    (void)err;
    soothe__pool_states(SOOTHE__POOL_MEAN, states[0], n_tokens, s->d,
                        s->features + s->i_texts[i] * s->n_features + s->at);
    return SOOTHE_OK;
}

/* The mean state of every text that has tokens; the others are left alone. */
static enum soothe_status read_states(struct soothe__polar *p, const char *const *texts, size_t n, float *features,
                                      struct soothe_error *err) {
    const struct llama_vocab  *vocab  = llama_model_get_vocab(p->model);
    struct soothe__token_text *list   = soothe__calloc(n + 1, sizeof *list);
    llama_token              **tokens = soothe__calloc(n + 1, sizeof *tokens);
    struct states              s      = {.features   = features,
                                         .n_features = (size_t)soothe__polar_n_features(p),
                                         .at         = p->n_sources * FEATURES_A_SOURCE,
                                         .i_texts    = soothe__calloc(n + 1, sizeof(size_t)),
                                         .d          = p->d};
    size_t                     n_read = 0;
    enum soothe_status         status = list && tokens && s.i_texts
                                            ? SOOTHE_OK
                                            : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %zu texts", n);
    for (size_t i = 0; i < n && !status; i++) {
        int32_t      n_tokens = 0;
        const size_t size     = strlen(texts[i]);
        if (!soothe__utf8_valid(texts[i], size))
            continue;
        status = soothe__tokenize(&tokens[i], &n_tokens, vocab, texts[i], size, SOOTHE__TOKENIZE_START, err);
        if (status || n_tokens == 0)
            continue;
        s.i_texts[n_read] = i;
        list[n_read++]    = (struct soothe__token_text){tokens[i], n_tokens < TOKENS_MAX ? n_tokens : TOKENS_MAX};
    }
    if (!status)
        status = soothe__layer_reader_read(p->reader, list, n_read, take_state, &s, err);
    for (size_t i = 0; tokens && i < n; i++)
        free(tokens[i]);
    free(tokens);
    free(list);
    free(s.i_texts);
    return status;
}

/* One source's column. Its failure costs its own scores, no more. */
static enum soothe_status ask_source(struct soothe__polar *p, size_t j, const char *const *texts, size_t n,
                                     struct soothe__score *room, double *scores, char why[96],
                                     struct soothe_error *err) {
    struct soothe_error      failure = {.message = ""};
    const enum soothe_status status  = soothe__scorer_score(p->sources[j].scorer, texts, n, room, &failure);
    if (status == SOOTHE_E_MEMORY)
        return soothe__fail(err, status, "%s", failure.message);
    why[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        if (status)
            room[i] = soothe__no_score("%s", failure.message);
        scores[i * p->n_sources + j] = room[i].toxicity;
        if (isnan(room[i].toxicity) && !why[0])
            memcpy(why, room[i].why, 96);
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__polar_ask(struct soothe__polar *p, const char *const *texts, size_t n, double *scores,
                                     signed char *votes, float *features, char (*whys)[96], struct soothe_error *err) {
    const size_t          m = p->n_sources, n_features = (size_t)soothe__polar_n_features(p);
    char                  ignored[96];
    enum soothe_status    status = SOOTHE_OK;
    struct soothe__score *room   = soothe__calloc(n + 1, sizeof *room);
    if (!room)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory scoring %zu texts", n);
    for (size_t j = 0; j < m && !status; j++)
        status = ask_source(p, j, texts, n, room, scores, whys ? whys[j] : ignored, err);
    free(room);
    memset(features, 0, n * n_features * sizeof *features);
    for (size_t i = 0; i < n && !status; i++)
        for (size_t j = 0; j < m; j++) {
            votes[i * m + j] = vote_of(&p->sources[j], scores[i * m + j]);
            set_features(features + i * n_features + FEATURES_A_SOURCE * j, scores[i * m + j]);
        }
    for (size_t i = 0; i < n && !status; i++)
        for (size_t k = m * FEATURES_A_SOURCE; k < n_features; k++)
            features[i * n_features + k] = NAN; /* until there is a state */
    if (!status && p->layer != SOOTHE__POLAR_NO_LAYER)
        status = read_states(p, texts, n, features, err);
    return status;
}

static struct soothe__polar_result result_of(const struct soothe__polar *p, const double *scores,
                                             const signed char *votes, const float *features, char (*whys)[96]) {
    struct soothe__polar_result r       = {.risk = NAN};
    size_t                      n_votes = 0, n_scores = 0;
    for (size_t j = 0; j < p->n_sources; j++) {
        n_votes += votes[j] != SOOTHE__ABSTAIN;
        n_scores += isnan(scores[j]) ? 0 : 1;
    }
    if (n_votes > 0)
        r.risk = soothe__sigmoid(soothe__harmoniser_logit(&p->harmoniser, features));
    else if (n_scores > 0)
        snprintf(r.why, sizeof r.why, "all %zu scorers abstain", p->n_sources);
    else
        snprintf(r.why, sizeof r.why, "no scorer has a score: %.60s", whys[0]);
    return r;
}

enum soothe_status soothe__polar_score(struct soothe__polar *p, const char *const *texts, size_t n,
                                       struct soothe__polar_result *results, struct soothe_error *err) {
    const size_t       m = p->n_sources, n_features = (size_t)soothe__polar_n_features(p);
    double            *scores   = soothe__calloc(n + 1, m * sizeof *scores);
    signed char       *votes    = soothe__calloc(n + 1, m);
    float             *features = soothe__calloc(n + 1, n_features * sizeof *features);
    char               whys[SOOTHE__POLAR_SOURCES_MAX][96];
    enum soothe_status status = SOOTHE_OK;
    if (!scores || !votes || !features)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory scoring %zu texts", n);
    if (!status)
        status = soothe__polar_ask(p, texts, n, scores, votes, features, whys, err);
    for (size_t i = 0; i < n && !status; i++)
        results[i] = result_of(p, scores + i * m, votes + i * m, features + i * n_features, whys);
    free(scores);
    free(votes);
    free(features);
    return status;
}

/* ---- as a scorer ------------------------------------------------------------------------------------------------- */

static bool takes(const char *spec, const char *general_type) {
    (void)spec;
    return general_type && strcmp(general_type, "soothe-polar") == 0;
}

static void close_polar(void *self) {
    soothe__polar_free(self);
    free(self);
}

static enum soothe_status open_polar(void **self, char identity[65], const char *spec,
                                     const struct soothe__scorer_options *options, struct soothe_error *err) {
    struct soothe__polar *p = soothe__calloc(1, sizeof *p);
    *self                   = NULL;
    if (!p)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening %s", spec);
    enum soothe_status status = soothe__polar_read(p, spec, err);
    if (!status)
        status = soothe__polar_open_sources(p, options, true, err);
    if (status) {
        close_polar(p);
        return status;
    }
    memcpy(identity, p->identity, 65); /* the file holds its scorers' identities, and the model is in it */
    *self = p;
    return SOOTHE_OK;
}

static enum soothe_status score(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                struct soothe_error *err) {
    struct soothe__polar_result *results = soothe__calloc(n + 1, sizeof *results);
    if (!results)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory scoring %zu texts", n);
    const enum soothe_status status = soothe__polar_score(self, texts, n, results, err);
    for (size_t i = 0; i < n && !status; i++)
        scores[i] = isnan(results[i].risk) ? soothe__no_score("%s", results[i].why)
                                           : (struct soothe__score){.toxicity = results[i].risk};
    free(results);
    return status;
}

extern const struct soothe__scorer_kind soothe__scorer_polar;
const struct soothe__scorer_kind        soothe__scorer_polar = {
           .name = "polar", .local = true, .takes = takes, .open = open_polar, .score = score, .close = close_polar};
