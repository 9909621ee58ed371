/* SPDX-License-Identifier: Apache-2.0
 * Candidates: branches against ordinary decoding, SASA's and RAD's formulas, best of n. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "generate/shortlist.h"
#include "methods/candidates.h"
#include "methods/generate_with.h"
#include "methods/sasa_delta.h"
#include "methods/sasa_delta_file.h"
#include "methods/sequence_text.h"
#include "score/probe.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_candidates_target.gguf"
#define PROBE "test_candidates_probe.gguf"
#define MIDDLE "test_candidates_middle.gguf"
#define MEAN "test_candidates_mean.gguf"
#define DELTA "test_candidates_delta.gguf"

enum { D = 64, V = 300, N = 9 };

#define assert_close(a, b, tolerance) assert_true(fabs((double)(a) - (double)(b)) <= (tolerance))

static enum tiny_family      family;
static struct llama_model   *model;
static struct soothe__probe *probe;
static struct soothe_error   err;
static const llama_token     TEXT[N] = {1, 270, 15, 80, 33, 120, 200, 7, 99};

static bool write_probe(const char *path, int32_t layer, enum soothe__pool pool) {
    struct soothe__rng         rng = soothe__rng_seed(11, 4);
    float                      w[D];
    struct soothe__gguf        g;
    struct soothe__model_facts facts;
    char                       name[] = "tiny";
    struct soothe__probe p = {.layer = layer, .d = D, .pool = pool, .weight = w, .bias = 0.2, .target_name = name};
    for (int i = 0; i < D; i++)
        w[i] = (float)(0.3 * soothe__rng_normal(&rng));
    bool ok = soothe__gguf_open(&g, TARGET, &err) == SOOTHE_OK;
    ok      = ok && soothe__model_facts(&facts, &g, &err) == SOOTHE_OK;
    ok      = ok && soothe__model_fingerprint(p.target, &g, &err) == SOOTHE_OK;
    soothe__gguf_close(&g);
    return ok && soothe__probe_write(path, &p, NULL, 0, &err) == SOOTHE_OK;
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    const bool ok = tiny_model_write(TARGET, &(struct tiny_options){.family = family, .seed = 5}) &&
                    write_probe(PROBE, SOOTHE__LAYER_FINAL, SOOTHE__POOL_LAST) &&
                    write_probe(MIDDLE, 1, SOOTHE__POOL_TOKEN) &&
                    write_probe(MEAN, SOOTHE__LAYER_FINAL, SOOTHE__POOL_MEAN) &&
                    soothe__target_load(&model, TARGET, 0, &err) == SOOTHE_OK &&
                    soothe__probe_open(&probe, PROBE, TARGET, &err) == SOOTHE_OK;
    if (!ok)
        fprintf(stderr, "%s\n", err.message);
    return ok ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    soothe__probe_free(probe);
    llama_model_free(model);
    unlink(TARGET);
    unlink(PROBE);
    unlink(MIDDLE);
    unlink(MEAN);
    unlink(DELTA);
    return 0;
}

/* ---- a chain at work ------------------------------------------------------------------------------------------ */

struct work {
    struct soothe__chain   chain;
    struct soothe__applied a;
};

static enum soothe_status start(struct work *w, const char *words, uint32_t n_seq) {
    struct llama_context_params context = soothe_session_params_default().context;
    context.n_ctx                       = 256;
    context.n_seq_max                   = n_seq;
    context.n_threads = context.n_threads_batch = 1;
    *w                                          = (struct work){.chain = {.n = 0}};
    enum soothe_status status                   = soothe__chain_add(&w->chain, words, &err);
    return status ? status : soothe__chain_apply(&w->a, &w->chain, model, TARGET, &context, &err);
}

static void stop(struct work *w) {
    soothe__applied_release(&w->a);
    soothe__chain_free(&w->chain);
}

/* Decodes tokens of a sequence from a position; outputs of all. */
static void decode(struct soothe_session *s, const llama_token *tokens, int32_t n, llama_pos pos, llama_seq_id seq) {
    struct llama_batch b = llama_batch_init(64, 0, 1);
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(&b, tokens[i], pos + i, seq, true);
    must(soothe_decode(s, b, &err), &err);
    llama_batch_free(b);
}

/* The plain logits z (V) and final state h (D) of a text. */
static void read_plain(const llama_token *tokens, int32_t n, float *z, float *h) {
    struct work w;
    must(start(&w, "none", 1), &err);
    soothe_session_capture(w.a.session, true);
    decode(w.a.session, tokens, n, 0, 0);
    if (z)
        memcpy(z, soothe_get_logits_ith(w.a.session, n - 1), V * sizeof *z);
    if (h)
        memcpy(h, soothe_session_states(w.a.session, SOOTHE_STATE_TARGET, NULL, NULL) + (size_t)(n - 1) * D,
               D * sizeof *h);
    stop(&w);
}

static double margin_behind(const llama_token *tokens, int32_t n, llama_token more) {
    llama_token longer[N + 1];
    float       h[D];
    memcpy(longer, tokens, (size_t)n * sizeof *longer);
    longer[n] = more;
    read_plain(longer, n + 1, NULL, h);
    return -soothe__probe_logit(probe, h) / soothe__probe_length(probe);
}

static int by_p(const void *x, const void *y) {
    const double *a = x, *b = y;
    return (a[1] < b[1]) - (a[1] > b[1]);
}

/* What the paper says, by ordinary decoding alone: p' (V) behind the first n tokens. */
static void expected(int32_t n, int32_t k, double top_p, double beta, bool softmax, double *p) {
    static double ranked[V][2];
    float         z[V];
    double        m[V], sum = 0, top = -INFINITY, weight = 0;
    int32_t       n_c = 0;
    read_plain(TEXT, n, z, NULL);
    for (int v = 0; v < V; v++)
        sum += exp((double)z[v]);
    for (int v = 0; v < V; v++) {
        ranked[v][0] = v;
        ranked[v][1] = exp((double)z[v]) / sum;
        p[v]         = 0;
    }
    qsort(ranked, V, sizeof *ranked, by_p);
    for (double mass = 0; n_c < k && mass < top_p; n_c++) {
        mass += ranked[n_c][1];
        m[n_c] = margin_behind(TEXT, n, (llama_token)ranked[n_c][0]);
        top    = fmax(top, m[n_c]);
    }
    for (int i = 0; i < n_c; i++)
        weight += exp(m[i] - top);
    sum = 0;
    for (int i = 0; i < n_c; i++)
        sum += ranked[i][1] *= exp(beta * (softmax ? exp(m[i] - top) / weight : m[i]));
    for (int i = 0; i < n_c; i++)
        p[(int)ranked[i][0]] = ranked[i][1] / sum;
}

static void assert_distribution(const float *z, const double *p, double tolerance) {
    double sum = 0;
    for (int v = 0; v < V; v++)
        sum += exp((double)z[v]);
    for (int v = 0; v < V; v++) {
        if (p[v] == 0)
            assert_true(z[v] == -INFINITY);
        else
            assert_close(exp((double)z[v]) / sum, p[v], tolerance);
    }
}

/* ---- the formula ---------------------------------------------------------------------------------------------- */

static void test_the_distribution_is_the_papers(void **state) {
    (void)state;
    struct work w;
    double      p[V];
    must(start(&w, "sasa:beta=0.7:k=128:top-p=0.35:subspace=" PROBE, 2), &err);
    decode(w.a.session, TEXT, N, 0, 0);
    expected(N, 128, 0.35, 0.7, false, p);
    assert_distribution(soothe_get_logits_ith(w.a.session, -1), p, 1e-4);
    /* rows within a batch branch from their own prefix, not from the whole text */
    for (int32_t n = 2; n <= 4; n += 2) {
        expected(n, 128, 0.35, 0.7, false, p);
        assert_distribution(soothe_get_logits_ith(w.a.session, n - 1), p, 1e-4);
    }
    stop(&w);
}

static void test_the_released_codes_form_is_available(void **state) {
    (void)state;
    struct work w;
    double      p[V];
    must(start(&w, "sasa:beta=20:k=12:top-p=1:form=softmax:subspace=" PROBE, 2), &err);
    decode(w.a.session, TEXT, N, 0, 1);
    expected(N, 12, 1, 20, true, p);
    assert_distribution(soothe_get_logits_ith(w.a.session, N - 1), p, 1e-4);
    stop(&w);
}

/* Draws through our sampler; chi-square at one in ten thousand, by the Wilson-Hilferty approximation. */
static void test_a_hundred_thousand_draws_are_from_the_papers_distribution(void **state) {
    (void)state;
    enum { DRAWS = 100000 };
    struct work              w;
    struct soothe__sampler  *sampler;
    struct soothe__shortlist list     = {.n = 0};
    struct soothe__sampling  sampling = soothe__sampling_default();
    double                   p[V], count[V] = {0}, chi = 0;
    int                      n_cells = 0;
    sampling.temp = sampling.top_p = 1;
    sampling.top_k                 = 0;
    sampling.min_p                 = 0;
    sampling.seed                  = 7;
    must(start(&w, "sasa:beta=0.7:k=128:top-p=0.35:subspace=" PROBE, 2), &err);
    decode(w.a.session, TEXT, N, 0, 0);
    expected(N, 128, 0.35, 0.7, false, p);
    must(soothe__sampler_new(&sampler, &sampling, llama_model_get_vocab(model), 256, 0, 0, &err), &err);
    for (int i = 0; i < DRAWS; i++)
        count[soothe__sampler_choose(sampler, soothe_get_logits_ith(w.a.session, -1), V, &list)]++;
    for (int v = 0; v < V; v++) {
        if (p[v] == 0)
            assert_close(count[v], 0, 0);
        else {
            assert_true(p[v] * DRAWS > 5); /* else cells would have to be joined */
            chi += (count[v] - DRAWS * p[v]) * (count[v] - DRAWS * p[v]) / (DRAWS * p[v]);
            n_cells++;
        }
    }
    const double k = n_cells - 1, normal = (cbrt(chi / k) - (1 - 2 / (9 * k))) / sqrt(2 / (9 * k));
    assert_in_range(n_cells, 20, 128);
    assert_true(normal < 3.72);
    soothe__sampler_free(sampler);
    soothe__shortlist_free(&list);
    stop(&w);
}

static void test_other_tokens_can_keep_their_share(void **state) {
    (void)state;
    struct work w;
    float       plain[V];
    double      p[V], before = 0, after = 0, sum = 0, rest = 0;
    read_plain(TEXT, N, plain, NULL);
    must(start(&w, "sasa:beta=0.7:k=10:top-p=1:rest=keep:subspace=" PROBE, 2), &err);
    decode(w.a.session, TEXT, N, 0, 0);
    const float *z = soothe_get_logits_ith(w.a.session, -1);
    expected(N, 10, 1, 0.7, false, p);
    for (int v = 0; v < V; v++) {
        sum += exp((double)plain[v]);
        if (p[v] == 0)
            assert_float_equal(z[v], plain[v], 1e-4);
        before += p[v] > 0 ? exp((double)plain[v]) : 0;
        after += p[v] > 0 ? exp((double)z[v]) : 0;
        rest += p[v] > 0 ? 0 : exp((double)plain[v]);
    }
    assert_close(before / sum, after / (after + rest), 1e-4);
    for (int v = 0; v < V; v++)
        if (p[v] > 0)
            assert_close(exp((double)z[v]) / after, p[v], 1e-4);
    stop(&w);
}

/* ---- what costs what ------------------------------------------------------------------------------------------ */

static int64_t n_decoded(const struct work *w) {
    const struct llama_perf_context_data perf = llama_perf_context(soothe_session_context(w->a.session));
    return perf.n_eval + perf.n_p_eval;
}

static llama_token likeliest(const float *z) {
    llama_token best = 0;
    for (llama_token v = 1; v < V; v++)
        best = z[v] > z[best] ? v : best;
    return best;
}

static void test_the_winners_state_is_used_again(void **state) {
    (void)state;
    enum { K = 5, STEPS = 4 };
    struct work w;
    llama_token text[N + 8];
    double      p[V];
    (void)p;
    memcpy(text, TEXT, sizeof TEXT);
    must(start(&w, "sasa:beta=0.7:k=5:top-p=1:subspace=" PROBE, 3), &err);
    struct soothe_session *s = w.a.session;
    decode(s, text, N - 1, 0, 0);
    decode(s, text + N - 1, 1, N - 1, 0);
    for (int i = 0; i < STEPS; i++) {
        text[N + i]            = likeliest(soothe_get_logits_ith(s, -1));
        const int64_t n_before = n_decoded(&w);
        decode(s, text + N + i, 1, N + i, 0);
        assert_int_equal(n_decoded(&w) - n_before, K); /* not K + 1 */
    }
    /* and what comes out is what would have come out without */
    float         kept[V];
    const int32_t n = N + STEPS;
    memcpy(kept, soothe_get_logits_ith(s, -1), sizeof kept);
    assert_int_equal(llama_memory_seq_pos_max(llama_get_memory(soothe_session_context(s)), 0), n - 1);
    soothe_clear(s);
    decode(s, text, n, 0, 0);
    const float *again = soothe_get_logits_ith(s, -1);
    for (int v = 0; v < V; v++)
        assert_true(kept[v] == again[v] || fabsf(kept[v] - again[v]) < 2e-3f);
    stop(&w);
}

static void test_another_token_than_the_candidates_is_decoded(void **state) {
    (void)state;
    struct work w;
    float       z[V];
    must(start(&w, "sasa:beta=0.7:k=4:top-p=1:subspace=" PROBE, 2), &err);
    struct soothe_session *s = w.a.session;
    decode(s, TEXT, N - 1, 0, 0);
    llama_token other = 5;
    while (isfinite(soothe_get_logits_ith(s, -1)[other]))
        other++;
    decode(s, &other, 1, N - 1, 0);
    memcpy(z, soothe_get_logits_ith(s, -1), sizeof z);
    llama_token text[N];
    memcpy(text, TEXT, sizeof text);
    text[N - 1] = other;
    soothe_clear(s);
    decode(s, text, N, 0, 0);
    for (int v = 0; v < V; v++)
        assert_true(z[v] == soothe_get_logits_ith(s, -1)[v] || fabsf(z[v] - soothe_get_logits_ith(s, -1)[v]) < 2e-3f);
    stop(&w);
}

static void test_two_sequences_in_a_batch_keep_their_rows(void **state) {
    (void)state;
    struct work w;
    must(start(&w, "sasa:beta=0.7:k=5:top-p=1:subspace=" PROBE, 3), &err);
    struct soothe_session *s = w.a.session;
    struct llama_batch     b = llama_batch_init(8, 0, 1);
    decode(s, TEXT, 3, 0, 0);
    const llama_token next = likeliest(soothe_get_logits_ith(s, 2));
    decode(s, TEXT, 5, 0, 1);
    /* sequence 0 goes on with a candidate, 1 with another token, 2 begins: only the first is taken over */
    soothe__batch_add(&b, 17, 5, 1, true);
    soothe__batch_add(&b, next, 3, 0, true);
    soothe__batch_add(&b, TEXT[0], 0, 2, false);
    soothe__batch_add(&b, TEXT[1], 1, 2, true);
    must(soothe_decode(s, b, &err), &err);
    assert_null(soothe_get_logits_ith(s, 2));
    assert_ptr_equal(soothe_get_logits_ith(s, -1), soothe_get_logits_ith(s, 3));
    llama_token texts[3][6] = {
        {TEXT[0], TEXT[1], TEXT[2], next}, {TEXT[0], TEXT[1], TEXT[2], TEXT[3], TEXT[4], 17}, {TEXT[0], TEXT[1]}};
    const int32_t lengths[3] = {4, 6, 2}, at[3] = {1, 0, 3};
    float         z[3][V];
    for (int i = 0; i < 3; i++)
        memcpy(z[i], soothe_get_logits_ith(s, at[i]), sizeof z[i]);
    for (int i = 0; i < 3; i++) {
        soothe_clear(s);
        decode(s, texts[i], lengths[i], 0, 0);
        const float *alone = soothe_get_logits_ith(s, -1);
        for (int v = 0; v < V; v++)
            assert_true(z[i][v] == alone[v] || fabsf(z[i][v] - alone[v]) < 2e-3f);
    }
    llama_batch_free(b);
    stop(&w);
}

static void test_safe_rows_and_dose_0_are_left_alone_bit_for_bit(void **state) {
    (void)state;
    struct work w, plain;
    must(start(&plain, "none", 2), &err);
    decode(plain.a.session, TEXT, N, 0, 0);
    const float *z = soothe_get_logits_ith(plain.a.session, -1);
    must(start(&w, "sasa:beta=5:k=8:under=-1000:subspace=" PROBE, 2), &err); /* no margin is that low */
    decode(w.a.session, TEXT, N, 0, 0);
    assert_memory_equal(soothe_get_logits_ith(w.a.session, -1), z, V * sizeof *z);
    stop(&w);
    must(start(&w, "sasa:beta=5:k=8:subspace=" PROBE, 2), &err);
    must(soothe__session_set_dose(w.a.session, -1, 0, &err), &err);
    decode(w.a.session, TEXT, N, 0, 0);
    assert_memory_equal(soothe_get_logits_ith(w.a.session, -1), z, V * sizeof *z);
    stop(&w);
    must(start(&w, "sasa:beta=0+rad:beta=0+best-of-n:n=1", 2), &err); /* opens nothing */
    decode(w.a.session, TEXT, N, 0, 0);
    assert_memory_equal(soothe_get_logits_ith(w.a.session, -1), z, V * sizeof *z);
    stop(&w);
    stop(&plain);
}

/* The threshold is on the margin of the text itself. */
static void test_only_rows_under_the_threshold_branch(void **state) {
    (void)state;
    struct work w;
    float       h[D];
    char        words[128];
    read_plain(TEXT, N, NULL, h);
    const double m = -soothe__probe_logit(probe, h) / soothe__probe_length(probe);
    for (int over = 0; over < 2; over++) {
        snprintf(words, sizeof words, "sasa:beta=1:k=4:top-p=1:under=%.4f:subspace=" PROBE, m + (over ? -0.01 : 0.01));
        must(start(&w, words, 2), &err);
        decode(w.a.session, TEXT, N, 0, 0);
        int n_left = 0;
        for (int v = 0; v < V; v++)
            n_left += isfinite(soothe_get_logits_ith(w.a.session, -1)[v]) != 0;
        assert_int_equal(n_left, over ? V : 4);
        stop(&w);
    }
}

/* ---- RAD ------------------------------------------------------------------------------------------------------ */

static void test_rad_adds_the_reward_of_each_candidate(void **state) {
    (void)state;
    struct work           w;
    struct soothe__probe *middle;
    float                 plain[V];
    const int32_t         layer = 1;
    read_plain(TEXT, N, plain, NULL);
    must(soothe__probe_open(&middle, MIDDLE, TARGET, &err), &err);
    must(start(&w, "rad:beta=10:k=6:reward=" MIDDLE, 2), &err);
    decode(w.a.session, TEXT, N, 0, 0);
    const float *z    = soothe_get_logits_ith(w.a.session, -1);
    int          n_in = 0;
    for (llama_token v = 0; v < V; v++) {
        if (!isfinite(z[v]))
            continue;
        struct work  other;
        llama_token  longer[N + 1];
        const float *h;
        memcpy(longer, TEXT, sizeof TEXT);
        longer[N] = v;
        must(start(&other, "none", 1), &err);
        must(soothe__session_tap(other.a.session, SOOTHE__LISTENER_CALLER, "l_out-1", &err), &err);
        decode(other.a.session, longer, N + 1, 0, 0);
        h = soothe__session_tapped(other.a.session, SOOTHE__LISTENER_CALLER, N);
        assert_close(z[v], plain[v] + 10 * (1 - soothe__probe_risk(middle, h)), 2e-3);
        stop(&other);
        n_in++;
    }
    assert_int_equal(n_in, 6);
    assert_int_equal(layer, middle->layer);
    soothe__probe_free(middle);
    stop(&w);
}

/* The calibrator's place in a chain: branches are judged by the target's own states, rows are the chain's. */
static void test_a_chain_that_changes_states_takes_nothing_over(void **state) {
    (void)state;
    struct work w;
    must(start(&w, "sasa:beta=0.7:k=5:top-p=1:subspace=" PROBE, 2), &err);
    soothe_session_capture(w.a.session, true); /* as a stage with states: every token is to be decoded */
    decode(w.a.session, TEXT, N, 0, 0);
    const llama_token next = likeliest(soothe_get_logits_ith(w.a.session, -1));
    decode(w.a.session, &next, 1, N, 0);
    const int64_t     n_before = n_decoded(&w);
    const llama_token then     = likeliest(soothe_get_logits_ith(w.a.session, -1));
    decode(w.a.session, &then, 1, N + 1, 0);
    assert_int_equal(n_decoded(&w) - n_before, 6); /* K + 1 */
    stop(&w);
}

static void test_rad_can_ask_a_scorer_of_the_text(void **state) {
    (void)state;
    struct work w;
    float       plain[V];
    read_plain(TEXT, N, plain, NULL);
    must(start(&w, "rad:beta=10:k=6:reward=lexicon", 2), &err);
    decode(w.a.session, TEXT, N, 0, 0);
    const float *z    = soothe_get_logits_ith(w.a.session, -1);
    int          n_in = 0;
    for (int v = 0; v < V; v++)
        if (isfinite(z[v])) {
            assert_float_equal(z[v], plain[v] + 10, 1e-4); /* nothing here is a word of the list */
            n_in++;
        }
    assert_int_equal(n_in, 6);
    stop(&w);
}

static void test_texts_follow_the_sequences(void **state) {
    (void)state;
    struct soothe__sequence_texts *t;
    const struct llama_vocab      *vocab = llama_model_get_vocab(model);
    struct llama_batch             b     = llama_batch_init(8, 0, 1);
    must(soothe__sequence_texts_new(&t, vocab, &err), &err);
    char        *whole = NULL;
    llama_token *tokens;
    int32_t      n;
    must(soothe__tokenize(&tokens, &n, vocab, "abcdef", 6, 0, &err), &err);
    assert_int_equal(n, 6);
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(&b, tokens[i], i, 3, false);
    must(soothe__sequence_texts_before(t, &(struct soothe__step){.batch = &b}, &err), &err);
    assert_string_equal(whole = soothe__sequence_text(t, 3, 5, 0, tokens[0]), "abcdefa");
    free(whole);
    assert_string_equal(whole = soothe__sequence_text(t, 3, 3, 2, LLAMA_TOKEN_NULL), "cd");
    free(whole);
    soothe__sequence_texts_change(t, &(struct soothe__memory_change){SOOTHE__MEMORY_CP, 3, 7, -1, 4});
    soothe__sequence_texts_change(t, &(struct soothe__memory_change){SOOTHE__MEMORY_RM, 3, 0, 2, -1});
    assert_string_equal(whole = soothe__sequence_text(t, 3, 9, 0, LLAMA_TOKEN_NULL), "ab");
    free(whole);
    assert_string_equal(whole = soothe__sequence_text(t, 7, 9, 0, LLAMA_TOKEN_NULL), "abcd");
    free(whole);
    soothe__sequence_texts_change(t, &(struct soothe__memory_change){SOOTHE__MEMORY_KEEP, 7, 0, -1, -1});
    assert_string_equal(whole = soothe__sequence_text(t, 3, 9, 0, LLAMA_TOKEN_NULL), "");
    free(whole);
    soothe__sequence_texts_change(t, &(struct soothe__memory_change){SOOTHE__MEMORY_CLEAR, -1, 0, -1, -1});
    assert_string_equal(whole = soothe__sequence_text(t, 7, 9, 0, LLAMA_TOKEN_NULL), "");
    free(whole);
    free(tokens);
    llama_batch_free(b);
    soothe__sequence_texts_free(t);
}

/* ---- the token's own part ------------------------------------------------------------------------------------- */

static void keep_row(void *user, int32_t token, const float *e) {
    float *rows = user;
    memcpy(rows + (size_t)token * D, e, D * sizeof *e);
}

static void write_delta(const char *subspace) {
    float                     u[D];
    struct soothe__sasa_delta delta = {.d = D, .u = u, .target_name = "tiny"};
    for (int i = 0; i < D; i++)
        u[i] = (float)(i % 5) - 2;
    memcpy(delta.target, probe->target, 65);
    memcpy(delta.subspace, subspace, 65);
    must(soothe__sasa_delta_write(&delta, DELTA, NULL, 0, &err), &err);
}

static void test_the_delta_form_adds_a_tokens_own_part(void **state) {
    (void)state;
    struct work  w;
    static float rows[V * D], plain[V];
    int32_t      n;
    must(soothe__token_embeddings(TARGET, D, keep_row, rows, &n, &err), &err);
    assert_int_equal(n, V);
    read_plain(TEXT, N, plain, NULL);
    write_delta(probe->identity);
    must(start(&w, "sasa:beta=2:form=delta:delta=" DELTA ":subspace=" PROBE, 1), &err);
    decode(w.a.session, TEXT, N, 0, 0);
    for (int v = 0; v < V; v++) {
        double t = 0;
        for (int i = 0; i < D; i++)
            t += (double)(i % 5 - 2) * (double)rows[v * D + i];
        assert_close(soothe_get_logits_ith(w.a.session, -1)[v], plain[v] + 2 * t, 1e-3);
    }
    stop(&w);
    must(start(&w, "sasa:beta=2:form=delta:under=-1000:delta=" DELTA ":subspace=" PROBE, 1),
         &err); /* none is that low */
    decode(w.a.session, TEXT, N, 0, 0);
    assert_memory_equal(soothe_get_logits_ith(w.a.session, -1), plain, sizeof plain);
    stop(&w);
    char other[65];
    memset(other, 'a', 64);
    other[64] = '\0';
    write_delta(other);
    assert_int_equal(start(&w, "sasa:form=delta:delta=" DELTA ":subspace=" PROBE, 1), SOOTHE_E_MISMATCH);
    assert_non_null(strstr(err.message, "another subspace"));
    stop(&w);
    assert_int_equal(start(&w, "sasa:form=delta:delta=" PROBE ":subspace=" PROBE, 1), SOOTHE_E_FORMAT);
    stop(&w);
}

static void test_fitting_finds_what_branches_show(void **state) {
    (void)state;
    const struct soothe__prompt      prompts[2] = {{.tokens = TEXT, .n_tokens = 4, .stream = 0},
                                                   {.tokens = TEXT + 3, .n_tokens = 5, .stream = 1}};
    struct soothe__generate_options  o          = soothe__generate_options_default();
    struct soothe__sasa_delta_report r;
    struct work                      w;
    o.n_predict = 20;
    o.n_samples = 4;
    must(soothe__sasa_fit_delta(&r, model, TARGET, PROBE, prompts, 2, &o, 16, 1, DELTA, &err), &err);
    assert_in_range(r.n_rows, 60, 2 * 20 * 4);
    assert_in_range(r.n_branches, 2 * r.n_rows, 16 * r.n_rows);
    assert_true(r.r2_train > 0.1 && r.r2_train <= 1);
    assert_true(r.r2 > 0.05); /* rows that were not learnt from: 0 is what the mean of a row tells */
    must(start(&w, "sasa:form=delta:delta=" DELTA ":subspace=" PROBE, 1), &err);
    stop(&w);
}

/* ---- generating ----------------------------------------------------------------------------------------------- */

enum { PROMPTS = 3, SAMPLES = 2, TEXTS = PROMPTS * 2 * SAMPLES };
struct texts {
    char   *at[TEXTS];
    int32_t n_done, n_tokens;
};

static bool count_token(void *user, const struct soothe__continuation *c, size_t n_new) {
    struct texts *t = user;
    t->n_tokens++;
    assert_int_equal(strlen(c->text), c->size);
    assert_true(n_new <= c->size);
    return true;
}

static void keep_text(void *user, const struct soothe__continuation *c) {
    struct texts *t = user;
    char        **x = &t->at[(c->i_prompt * 2 + c->i_dose) * SAMPLES + (size_t)c->i_sample];
    assert_null(*x);
    *x = soothe__strdup(c->text);
    t->n_done++;
}

static void generate(const char *words, int32_t n_parallel, bool both_doses, struct texts *t) {
    static const struct soothe__prompt PROMPT[PROMPTS] = {{.tokens = TEXT, .n_tokens = 4, .stream = 0},
                                                          {.tokens = TEXT + 1, .n_tokens = 6, .stream = 1},
                                                          {.tokens = TEXT + 2, .n_tokens = 3, .stream = 2}};
    static const float                 DOSES[]         = {0, 1};
    struct soothe__generate_options    o               = soothe__generate_options_default();
    struct soothe__generate_stats      stats;
    struct llama_context_params        context = soothe_session_params_default().context;
    struct work                        w       = {.chain = {.n = 0}};
    o.n_predict                                = 12;
    o.n_samples                                = SAMPLES;
    o.sampling.seed                            = 3;
    o.doses                                    = DOSES;
    o.n_doses                                  = both_doses ? 2 : 0;
    o.on_done                                  = keep_text;
    o.on_token                                 = count_token;
    o.user                                     = t;
    *t                                         = (struct texts){.n_done = 0};
    context.n_threads = context.n_threads_batch = 1;
    /* flash attention adds up in F16, so that the order of the cells would show in texts of a model this flat */
    context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    soothe__generate_context(&context, model, PROMPT, PROMPTS, &o, n_parallel);
    must(soothe__chain_add(&w.chain, words, &err), &err);
    must(soothe__chain_apply(&w.a, &w.chain, model, TARGET, &context, &err), &err);
    must(soothe__generate_with(&w.a, PROMPT, PROMPTS, &o, &stats, &err), &err);
    assert_int_equal(t->n_done, PROMPTS * SAMPLES * (both_doses ? 2 : 1));
    assert_int_equal(stats.n_tokens, t->n_tokens);
    stop(&w);
}

static void free_texts(struct texts *t) {
    for (int i = 0; i < TEXTS; i++)
        free(t->at[i]);
}

static int n_equal(const struct texts *a, const struct texts *b, bool second_dose) {
    int n = 0;
    for (int p = 0; p < PROMPTS; p++)
        for (int k = 0; k < SAMPLES; k++) {
            const int i = p * 2 * SAMPLES + k;
            n += !strcmp(a->at[i], b->at[i + (second_dose ? SAMPLES : 0)]);
        }
    return n;
}

static void test_texts_do_not_depend_on_what_runs_beside(void **state) {
    (void)state;
    static const char *const WORDS[] = {
        "sasa:beta=1:k=6:subspace=" PROBE, "rad:k=5:reward=lexicon", "best-of-n:n=3:scorer=lexicon",
        "rad:beta=3:k=5:reward=" MIDDLE,
        "sasa:beta=1:k=100:subspace=" PROBE /* more than there are free sequences for */};
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        struct texts one, many;
        generate(WORDS[i], 1, false, &one);
        generate(WORDS[i], 6, false, &many);
        /* which is the hundredth of nearly equal tokens, the engine's rounding may decide */
        assert_in_range(n_equal(&one, &many, false), PROMPTS * SAMPLES - (i == 4), PROMPTS * SAMPLES);
        free_texts(&one);
        free_texts(&many);
    }
}

static void test_at_dose_0_texts_are_the_plain_ones(void **state) {
    (void)state;
    static const char *const WORDS[] = {"sasa:beta=3:k=6:subspace=" PROBE, "best-of-n:n=3:scorer=lexicon"};
    struct texts             plain, both;
    generate("none", 4, false, &plain);
    for (size_t i = 0; i < sizeof WORDS / sizeof *WORDS; i++) {
        generate(WORDS[i], 4, true, &both);
        assert_int_equal(n_equal(&plain, &both, false), PROMPTS * SAMPLES);
        if (i == 0)
            assert_true(n_equal(&plain, &both, true) < PROMPTS * SAMPLES);
        else /* the scorer finds nothing in any: the first try is kept, which is the plain text */
            assert_int_equal(n_equal(&plain, &both, true), PROMPTS * SAMPLES);
        free_texts(&both);
    }
    free_texts(&plain);
}

/* A judge for the test: the longer text is the better one. */
static enum soothe_status choose_longest(struct soothe__link *l, const char *const *texts, int32_t n, int32_t *i_best,
                                         struct soothe_error *e) {
    (void)l;
    (void)e;
    *i_best = 0;
    for (int32_t i = 1; i < n; i++)
        if (strlen(texts[i]) > strlen(texts[*i_best]))
            *i_best = i;
    return SOOTHE_OK;
}
static int32_t four(const struct soothe__link *l) {
    (void)l;
    return 4;
}

static void test_the_chosen_try_is_handed_on(void **state) {
    (void)state;
    static const struct soothe__method LONGEST = {.name = "longest", .n_tries = four, .choose = choose_longest};
    static const struct soothe__prompt PROMPT  = {.tokens = TEXT, .n_tokens = 4, .stream = 0};
    struct soothe__generate_options    o       = soothe__generate_options_default();
    struct llama_context_params        context = soothe_session_params_default().context;
    struct texts                       t = {.n_done = 0}, plain = {.n_done = 0};
    struct work                        w = {.chain = {.n = 0}};
    o.n_predict                          = 10;
    o.on_done                            = keep_text;
    o.user                               = &t;
    context.n_threads = context.n_threads_batch = 1;
    soothe__generate_context(&context, model, &PROMPT, 1, &o, 3);
    must(soothe__chain_add(&w.chain, "none", &err), &err);
    must(soothe__chain_apply(&w.a, &w.chain, model, TARGET, &context, &err), &err);
    o.user = &plain;
    must(soothe__generate_with(&w.a, &PROMPT, 1, &o, NULL, &err), &err);
    w.a.links[0].method   = &LONGEST; /* in the place of none */
    w.a.links[0].strength = 1;
    o.user                = &t;
    must(soothe__generate_with(&w.a, &PROMPT, 1, &o, NULL, &err), &err);
    assert_int_equal(t.n_done, 1);
    assert_true(strlen(t.at[0]) > strlen(plain.at[0]));
    free_texts(&t);
    free_texts(&plain);
    stop(&w);
}

/* ---- refusals ------------------------------------------------------------------------------------------------- */

static void test_wrong_wishes_are_refused_with_a_sentence(void **state) {
    (void)state;
    static const struct {
        const char        *words, *says;
        uint32_t           n_seq;
        enum soothe_status status;
    } CASES[] = {
        {"sasa:subspace=" MEAN, "a probe of another place", 2, SOOTHE_E_ARGUMENT},
        {"sasa:subspace=" MIDDLE, "--layers final --pool last", 2, SOOTHE_E_ARGUMENT},
        {"rad:reward=" MEAN, "mean state", 2, SOOTHE_E_ARGUMENT},
        {"rad:reward=nonsense", "nonsense", 2, SOOTHE_E_ARGUMENT},
        {"sasa:subspace=" PROBE "+rad:reward=" MIDDLE, "two methods of the chain judge candidates", 2,
         SOOTHE_E_ARGUMENT},
        {"sasa:k=128:subspace=" PROBE, "128 candidates: with 200 sequences", 200, SOOTHE_E_ARGUMENT},
        {"sasa:k=0", "a whole number from 1 to 128", 2, SOOTHE_E_ARGUMENT},
        {"sasa:form=odd", "margin softmax delta", 2, SOOTHE_E_ARGUMENT},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct work w;
        assert_int_equal(start(&w, CASES[i].words, CASES[i].n_seq), CASES[i].status);
        if (!strstr(err.message, CASES[i].says))
            fail_msg("%s: \"%s\"", CASES[i].words, err.message);
        stop(&w);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_distribution_is_the_papers),
        cmocka_unit_test(test_the_released_codes_form_is_available),
        cmocka_unit_test(test_a_hundred_thousand_draws_are_from_the_papers_distribution),
        cmocka_unit_test(test_other_tokens_can_keep_their_share),
        cmocka_unit_test(test_the_winners_state_is_used_again),
        cmocka_unit_test(test_another_token_than_the_candidates_is_decoded),
        cmocka_unit_test(test_two_sequences_in_a_batch_keep_their_rows),
        cmocka_unit_test(test_safe_rows_and_dose_0_are_left_alone_bit_for_bit),
        cmocka_unit_test(test_only_rows_under_the_threshold_branch),
        cmocka_unit_test(test_rad_adds_the_reward_of_each_candidate),
        cmocka_unit_test(test_a_chain_that_changes_states_takes_nothing_over),
        cmocka_unit_test(test_rad_can_ask_a_scorer_of_the_text),
        cmocka_unit_test(test_texts_follow_the_sequences),
        cmocka_unit_test(test_the_delta_form_adds_a_tokens_own_part),
        cmocka_unit_test(test_fitting_finds_what_branches_show),
        cmocka_unit_test(test_texts_do_not_depend_on_what_runs_beside),
        cmocka_unit_test(test_at_dose_0_texts_are_the_plain_ones),
        cmocka_unit_test(test_the_chosen_try_is_handed_on),
        cmocka_unit_test(test_wrong_wishes_are_refused_with_a_sentence),
    };
    /* the second one has windows of attention, and with them a second cache */
    static const enum tiny_family FAMILIES[] = {TINY_LLAMA, TINY_GEMMA3};
    int                           n_failed   = 0;
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
        family = FAMILIES[i];
        n_failed += cmocka_run_group_tests(tests, set_up, tear_down);
    }
    return n_failed;
}
