/* SPDX-License-Identifier: Apache-2.0
 * The logit mixer: its rules against NumPy, its followers against fresh sessions, its methods against each other. */
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
#include "fusion/calibrator_file.h"
#include "generate/shortlist.h"
#include "methods/mixer.h"
#include "test_support.h"
#include "tiny_model.h"

#define FOLDER "test_mixer_models"
#define SHIPPED FOLDER "/default.calibrator.gguf"
#define TARGET "test_mixer_target.gguf"
#define SMALL "test_mixer_small.gguf"
#define OTHER_WORDS "test_mixer_other_words.gguf"
#define PREFIX "test_mixer_prefix.txt"

static struct soothe_error err;

static bool write_calibrator(void) {
    enum { D = 64 };
    float                               *b    = soothe__calloc(D * D, sizeof *b);
    struct soothe__rng                   rng  = soothe__rng_seed(3, 4);
    const struct soothe__calibrator_spec spec = {.name        = "test",
                                                 .target_path = TARGET,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 0.5f,
                                                 .d_tgt       = D,
                                                 .b           = b,
                                                 .matrix_type = GGML_TYPE_F32};
    for (int i = 0; b && i < D * D; i++)
        b[i] = (float)soothe__rng_normal(&rng) * 0.05f;
    const bool ok = b && soothe__calibrator_write(SHIPPED, &spec, &err) == SOOTHE_OK;
    free(b);
    return ok;
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    setenv("SOOTHE_MODELS", FOLDER, 1);
    FILE *prefix = fopen(PREFIX, "wb");
    bool  ok     = prefix && fputs("a kind word: ", prefix) >= 0;
    ok           = prefix && fclose(prefix) == 0 && ok;
    ok           = ok && tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) &&
         tiny_model_write(SMALL, &(struct tiny_options){.family = TINY_QWEN2, .seed = 6, .n_blocks = 2, .d = 32}) &&
         tiny_model_write(OTHER_WORDS, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5, .other_words = true}) &&
         soothe__make_folders(FOLDER, &err) == SOOTHE_OK && write_calibrator();
    return ok ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    const char *const files[] = {SHIPPED, TARGET, SMALL, OTHER_WORDS, PREFIX};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(files[i]);
    rmdir(FOLDER);
    return 0;
}

/* ---- the rules --------------------------------------------------------------------------------------------- */

enum { V = 12 };

/* The logits of source s that scripts/mixer_reference.py makes. */
static void make_logits(float z[V], int s) {
    for (int v = 0; v < V; v++)
        z[v] = (float)(3 * sin(1.7 * v + 2.3 * s) + cos(0.9 * v * s));
}

static void soften(float z[V], const float g[V], float a, float slack, float top_p) {
    struct soothe__shortlist nucleus = {.n = 0};
    float                    difference[V];
    assert_true(soothe__shortlist_read(&nucleus, z, V) && soothe__shortlist_fill(&nucleus, z, V, 0, top_p));
    for (size_t i = 0; i < nucleus.n; i++)
        difference[i] = g[nucleus.data[i].id];
    soothe__mix_soften(nucleus.data, nucleus.n, difference, a, slack);
    soothe__mix_within(z, V, nucleus.data, nucleus.n, difference, 1);
    soothe__shortlist_free(&nucleus);
}

static void apply_rule(const char *line, float z[V]) {
    float        one[V], two[V], three[V];
    const float *others[] = {one, two, three};
    double       x[6]     = {0};
    char         form[16] = "";
    make_logits(z, 0);
    make_logits(one, 1);
    make_logits(two, 2);
    make_logits(three, 3);
    if (sscanf(line, "contrast %15s %lf %lf", form, &x[0], &x[1]) == 3)
        must(soothe__mix_contrast(z, V, strcmp(form, "anti") ? one : NULL, strcmp(form, "expert") ? two : NULL,
                                  (float)x[0], (float)x[1], &err),
             &err);
    else if (sscanf(line, "soften %lf %lf %lf", &x[0], &x[1], &x[2]) == 3)
        soften(z, one, (float)x[0], (float)x[1], (float)x[2]);
    else if (sscanf(line, "self-debias %lf %lf", &x[0], &x[1]) == 2)
        must(soothe__mix_self_debias(z, V, others, 3, (float)x[0], (float)x[1], &err), &err);
    else if (sscanf(line, "gedi %lf %lf %lf %lf %lf", &x[0], &x[1], &x[2], &x[3], &x[4]) == 5)
        must(soothe__mix_gedi(z, V, one, two, (double[]){-3.5, -2.25}, 3,
                              &(struct soothe__gedi){.omega    = (float)x[0],
                                                     .scale    = (float)x[1],
                                                     .bias     = (float)x[2],
                                                     .filter_p = (float)x[3],
                                                     .target_p = (float)x[4]},
                              &err),
             &err);
    else if (sscanf(line, "success %lf", &x[0]) == 1)
        soothe__mix_success(z, V, strcmp(line + 8, "1") ? two : one, 0, (float)x[0]);
    else
        fail_msg("no rule: %s", line);
}

static double log_sum(const double *z) {
    double largest = -INFINITY, sum = 0;
    for (int v = 0; v < V; v++)
        largest = z[v] > largest ? z[v] : largest;
    for (int v = 0; v < V; v++)
        sum += exp(z[v] - largest);
    return largest + log(sum);
}

/* As distributions: a rule may leave a row unnormalised. */
static void test_the_rules_give_what_numpy_gives(void **state) {
    (void)state;
    char path[512], line[1024];
    int  n_lines = 0;
    snprintf(path, sizeof path, "%s/mixer_reference.tsv", getenv("SOOTHE_DATA"));
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (; fgets(line, sizeof line, f); n_lines++) {
        double expected[V], got[V];
        float  z[V];
        char  *at = strchr(line, '\t');
        assert_non_null(at);
        *at++ = '\0';
        for (int v = 0; v < V; v++)
            expected[v] = strtod(at, &at);
        apply_rule(line, z);
        for (int v = 0; v < V; v++)
            got[v] = (double)z[v];
        for (int v = 0; v < V; v++) {
            const double e = expected[v] - log_sum(expected), g = got[v] - log_sum(got);
            if (isinf(e) ? g != e : !(fabs(e - g) < 2e-4)) /* omega 30 times float's rounding of odds near 10 */
                fail_msg("%s: token %d: %g instead of %g", line, v, g, e);
        }
    }
    fclose(f);
    assert_int_equal(n_lines, 12);
}

/* The definition: try every value. */
static float tail_by_definition(const float *values, const float *weights, int n, double mass) {
    float best = -INFINITY, least = INFINITY;
    for (int i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < n; k++)
            sum += values[k] >= values[i] ? (double)weights[k] : 0;
        best  = sum >= mass && values[i] > best ? values[i] : best;
        least = values[i] > -INFINITY && values[i] < least ? values[i] : least;
    }
    return best > -INFINITY ? best : least;
}

static void test_a_weighted_tail_is_found_exactly(void **state) {
    (void)state;
    enum { N = 300 };
    float              values[N], weights[N];
    struct soothe__rng rng = soothe__rng_seed(1, 1);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < N; i++) { /* with ties, and some that do not count */
            values[i]  = i % 7 == 0 ? -INFINITY : (float)soothe__rng_below(&rng, 40) * (round % 2 ? 1e-3f : 5);
            weights[i] = i % 7 == 0 ? 0 : (float)(1 + soothe__rng_below(&rng, 8)) / 2048; /* exact sums */
        }
        const double mass = soothe__rng_uniform(&rng) * 0.6;
        assert_true(soothe__weighted_tail(values, weights, N, mass) == tail_by_definition(values, weights, N, mass));
    }
}

/* ---- methods at work ----------------------------------------------------------------------------------------- */

struct work {
    struct llama_model    *model;
    struct soothe__chain   chain;
    struct soothe__applied applied;
};

static struct llama_context_params small_context(void) {
    struct llama_context_params context = soothe_session_params_default().context;
    context.n_ctx                       = 256;
    context.n_batch = context.n_ubatch = 32;
    context.n_seq_max                  = 4;
    context.n_threads = context.n_threads_batch = 1;
    return context;
}

static enum soothe_status begin(struct work *w, const char *words) {
    const struct llama_context_params context = small_context();
    *w                                        = (struct work){.model = NULL};
    assert_int_equal(soothe__target_load(&w->model, TARGET, 0, &err), SOOTHE_OK);
    enum soothe_status status = soothe__chain_add(&w->chain, words, &err);
    return status ? status : soothe__chain_apply(&w->applied, &w->chain, w->model, TARGET, &context, &err);
}

static void end(struct work *w) {
    soothe__applied_release(&w->applied);
    soothe__chain_free(&w->chain);
    llama_model_free(w->model);
}

enum { TOKENS = 12, N_VOCAB = 300 };

static llama_token token_at(int i) {
    return (llama_token)(20 + (i * 37) % 200);
}

/* The last row (N_VOCAB) of a text of n tokens from the session's sequence seq. */
static void decode_text(struct soothe_session *s, llama_seq_id seq, int n, float *out) {
    struct llama_batch b = llama_batch_init(n, 0, 1);
    for (int i = 0; i < n; i++)
        soothe__batch_add(&b, token_at(i), i, seq, i >= n - 3);
    must(soothe_decode(s, b, &err), &err);
    memcpy(out, soothe_get_logits_ith(s, n - 1), N_VOCAB * sizeof *out);
    llama_batch_free(b);
}

static void run_words(const char *words, float dose, float *out) {
    struct work w;
    must(begin(&w, words), &err);
    must(soothe__session_set_dose(w.applied.session, -1, dose, &err), &err);
    decode_text(w.applied.session, 0, TOKENS, out);
    end(&w);
}

static double largest_difference(const float *a, const float *b) {
    double largest = 0;
    for (int i = 0; i < N_VOCAB; i++)
        if (!(isinf(a[i]) && a[i] == b[i])) {
            const double d = fabs((double)a[i] - (double)b[i]);
            largest        = d > largest || isnan(d) ? d : largest;
        }
    return largest;
}

static const char *const METHODS[] = {
    "dexperts",
    "dexperts:helpers=prefix",
    "dexperts:helpers=anti-prefix",
    "dexperts:anti=" SMALL,
    "self-debias",
    "proxy",
    "proxy:base=" TARGET,
    "gedi",
    "gedi:model=" SMALL,
};
enum { N_METHODS = sizeof METHODS / sizeof *METHODS };

static void test_strength_and_dose_0_leave_every_logit_as_it_is(void **state) {
    (void)state;
    float plain[N_VOCAB], mixed[N_VOCAB];
    char  words[256];
    run_words("plain", 1, plain);
    for (size_t i = 0; i < N_METHODS; i++) {
        run_words(METHODS[i], 0, mixed);
        assert_memory_equal(plain, mixed, sizeof plain);
        snprintf(words, sizeof words, "%s%sstrength=0", METHODS[i], strchr(METHODS[i], ':') ? "," : ":");
        run_words(words, 1, mixed);
        assert_memory_equal(plain, mixed, sizeof plain);
        run_words(METHODS[i], 1, mixed);
        assert_true(largest_difference(plain, mixed) > 1e-4);
    }
}

static void test_equal_helpers_leave_the_nucleus_as_it_is(void **state) {
    (void)state;
    float plain[N_VOCAB], mixed[N_VOCAB];
    int   n_kept = 0;
    run_words("plain", 1, plain);
    run_words("dexperts:expert=" SMALL ":anti=" SMALL ":top-p=0.5", 1, mixed);
    float least = INFINITY;
    for (int i = 0; i < N_VOCAB; i++)
        if (mixed[i] > -INFINITY) {
            assert_true(mixed[i] == plain[i]);
            least = plain[i] < least ? plain[i] : least;
            n_kept++;
        }
    assert_in_range(n_kept, 1, N_VOCAB - 1);
    for (int i = 0; i < N_VOCAB; i++)
        assert_true(mixed[i] > -INFINITY || plain[i] < least);
    run_words("proxy:tuned=" SMALL ":base=" SMALL, 1, mixed);
    assert_memory_equal(plain, mixed, sizeof plain);
}

/* z + a (W(h + s c) - W(h - s c)) = W(h + 2 a s c): three ways to one row. */
static void test_the_twin_equals_two_contexts_and_fusion(void **state) {
    (void)state;
    float twin[N_VOCAB], contexts[N_VOCAB], fused[N_VOCAB], plain[N_VOCAB];
    run_words("plain", 1, plain);
    run_words("dexperts:strength=3:gain=0.5:top-p=1", 1, twin);
    run_words("dexperts:strength=3:gain=0.5:top-p=1:expert=" SHIPPED ":anti=" SHIPPED, 1, contexts);
    run_words("fusion:strength=1.5", 1, fused); /* 2 x 3 x (0.5 x the file's 0.5) */
    assert_true(largest_difference(plain, fused) > 0.1);
    assert_true(largest_difference(twin, fused) < 1e-3);
    assert_true(largest_difference(contexts, fused) < 1e-3);
    run_words("dexperts:strength=3:gain=0.5:top-p=0.5", 1, twin); /* within the nucleus, and computed there alone */
    int n_kept = 0;
    for (int i = 0; i < N_VOCAB; i++)
        if (twin[i] > -INFINITY) {
            n_kept++;
            assert_true(fabsf(twin[i] - fused[i]) < 1e-3f);
        }
    run_words("dexperts:strength=3:gain=0.5:top-p=0.5:expert=" SHIPPED ":anti=" SHIPPED, 1, contexts);
    for (int i = 0; i < N_VOCAB; i++)
        assert_int_equal(twin[i] > -INFINITY, contexts[i] > -INFINITY);
    run_words("dexperts:strength=3:gain=0.5:top-p=0.5:slack=100", 1, twin); /* nothing is pushed so far */
    for (int i = 0; i < N_VOCAB; i++)
        assert_true(twin[i] == (contexts[i] > -INFINITY ? plain[i] : -INFINITY));
    assert_in_range(n_kept, 1, N_VOCAB - 1);
    run_words("proxy:strength=3", 1, contexts); /* z + 3 (W(h + 0.5 c) - z) */
    assert_true(largest_difference(contexts, fused) < 1e-3);
}

/* ---- what is refused -------------------------------------------------------------------------------------------- */

static void assert_refused(const char *words, enum soothe_status expected, const char *sentence) {
    struct work w;
    assert_int_equal(begin(&w, words), expected);
    if (!strstr(err.message, sentence))
        fail_msg("%s", err.message);
    end(&w);
}

static void test_another_vocabulary_is_refused_by_its_first_token(void **state) {
    (void)state;
    assert_refused("dexperts:anti=" OTHER_WORDS, SOOTHE_E_MISMATCH, "cannot be mixed: token ");
    assert_refused("proxy:tuned=" SMALL ":base=" OTHER_WORDS, SOOTHE_E_MISMATCH, OTHER_WORDS);
    assert_refused("gedi:model=" OTHER_WORDS, SOOTHE_E_MISMATCH, "in the one and");
}

static void test_files_that_are_no_helpers_are_refused(void **state) {
    (void)state;
    FILE *f = fopen("test_mixer_bad.txt", "wb");
    assert_non_null(f);
    fputs("\xff\xfe", f);
    fclose(f);
    assert_refused("dexperts:expert=test_mixer_bad.txt", SOOTHE_E_FORMAT, "neither a GGUF nor a text");
    unlink("test_mixer_bad.txt");
    assert_refused("dexperts:anti=/nonexistent.gguf", SOOTHE_E_IO, "/nonexistent.gguf");
    assert_refused("dexperts:anti=" SHIPPED ":model=" SMALL, SOOTHE_E_SHAPE, "width");
}

/* ---- followers in step ------------------------------------------------------------------------------------------ */

/* A rule that hands out source i_source of 2, and nothing else. */
static enum soothe_status show(void *self, const struct soothe__mixer_row *row, struct soothe_error *e) {
    (void)e;
    memcpy(row->z, row->sources[*(const int *)self], (size_t)row->n_vocab * sizeof *row->z);
    return SOOTHE_OK;
}

static const char *const PREFIXES[2] = {"a kind word: ", "rude!"};

static struct soothe_session *open_shown(struct llama_model *model, int n_prefixes, int *i_source) {
    struct soothe_session       *s;
    struct soothe__follower     *followers[SOOTHE__FOLLOWERS_MAX];
    size_t                       n = 0;
    struct soothe_session_params p = soothe_session_params_default();
    struct soothe__helper        h = {.model = model, .prefixes = {PREFIXES[0], PREFIXES[1]}, .n_prefixes = n_prefixes};
    p.context                      = small_context();
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    must(soothe__followers_add(followers, &n, &h, s, &p.context, &err), &err);
    must(soothe__mixer_add(s, followers, n, NULL, &(struct soothe__mixer_rule){.self = i_source, .row = show}, &err),
         &err);
    return s;
}

/* What a text is, token by token: the test's own record of a sequence. */
struct text {
    llama_token tokens[200];
    int         n;
};

/* The logits behind prefix and text from a context of its own. */
static void expected_row(struct llama_model *model, const char *prefix, const struct text *text, float *out) {
    struct llama_context_params cp = small_context();
    llama_token                *before;
    int32_t                     n_before;
    cp.n_batch = cp.n_ubatch = 256;
    must(soothe__tokenize(&before, &n_before, llama_model_get_vocab(model), prefix, strlen(prefix),
                          SOOTHE__TOKENIZE_START, &err),
         &err);
    if (!*prefix)
        n_before = 0;
    struct llama_context *ctx = llama_init_from_model(model, cp);
    struct llama_batch    b   = llama_batch_init(256, 0, 1);
    for (int i = 0; i < n_before; i++)
        soothe__batch_add(&b, before[i], i, 0, false);
    for (int i = 0; i < text->n; i++)
        soothe__batch_add(&b, text->tokens[i], n_before + i, 0, i == text->n - 1);
    assert_int_equal(llama_decode(ctx, b), 0);
    memcpy(out, llama_get_logits_ith(ctx, -1), N_VOCAB * sizeof *out);
    llama_batch_free(b);
    llama_free(ctx);
    free(before);
}

static void append_somewhere(struct soothe_session *s, struct text texts[4], struct soothe__rng *rng) {
    struct llama_batch b = llama_batch_init(32, 0, 1);
    for (int n = 1 + (int)soothe__rng_below(rng, 20); n > 0; n--) {
        const llama_seq_id seq = (llama_seq_id)soothe__rng_below(rng, 4);
        struct text       *t   = &texts[seq];
        if (t->n > 40)
            continue;
        t->tokens[t->n] = (llama_token)soothe__rng_below(rng, 250);
        soothe__batch_add(&b, t->tokens[t->n], t->n, seq, soothe__rng_below(rng, 2) == 0);
        t->n++;
    }
    if (b.n_tokens > 0)
        must(soothe_decode(s, b, &err), &err);
    llama_batch_free(b);
}

/* A batch that the target refuses when its helpers have decoded it: a hole in the positions of the second text. */
static void fail_somewhere(struct soothe_session *s, const struct text texts[4]) {
    struct llama_batch b = llama_batch_init(2, 0, 1);
    soothe__batch_add(&b, 7, texts[0].n, 0, true);
    soothe__batch_add(&b, 7, texts[1].n + 5, 1, true);
    if (texts[1].n > 0)
        assert_int_not_equal(soothe_decode(s, b, &err), SOOTHE_OK);
    llama_batch_free(b);
}

static void change_somewhere(struct soothe_session *s, struct text texts[4], struct soothe__rng *rng) {
    const llama_seq_id a = (llama_seq_id)soothe__rng_below(rng, 4), b = (a + 1) % 4;
    switch (soothe__rng_below(rng, 12)) {
    case 0: /* a tail */
        texts[a].n /= 2;
        assert_true(soothe_seq_rm(s, a, texts[a].n, -1));
        break;
    case 1:
        texts[a].n = 0;
        assert_true(soothe_seq_rm(s, a, -1, -1));
        break;
    case 2:
    case 3:
        soothe_seq_rm(s, b, -1, -1);
        soothe_seq_cp(s, a, b, -1, -1);
        texts[b] = texts[a];
        break;
    case 4: /* its beginning */
        soothe_seq_rm(s, b, -1, -1);
        texts[b] = texts[a];
        texts[b].n /= 2;
        soothe_seq_cp(s, a, b, 0, texts[b].n);
        break;
    case 5:
        soothe_seq_keep(s, a);
        for (llama_seq_id i = 0; i < 4; i++)
            texts[i].n = i == a ? texts[i].n : 0;
        break;
    case 6:
        soothe_clear(s);
        for (llama_seq_id i = 0; i < 4; i++)
            texts[i].n = 0;
        break;
    case 7:
        fail_somewhere(s, texts);
        break;
    default:
        append_somewhere(s, texts, rng);
    }
}

static void test_followers_stay_in_step_through_random_changes(void **state) {
    (void)state;
    struct llama_model *model;
    must(soothe__target_load(&model, TARGET, 0, &err), &err);
    for (int n_prefixes = 0; n_prefixes <= 2; n_prefixes++) {
        int                    i_source = 0;
        struct text            texts[4] = {{.n = 0}};
        struct soothe__rng     rng      = soothe__rng_seed(11, (uint64_t)n_prefixes);
        struct soothe_session *s        = open_shown(model, n_prefixes, &i_source);
        for (int round = 0; round < 120; round++) {
            float              expected[N_VOCAB];
            const llama_seq_id seq = (llama_seq_id)(round % 4);
            struct text       *t   = &texts[seq];
            change_somewhere(s, texts, &rng);
            if (round % 3 || t->n > 60)
                continue;
            i_source                = n_prefixes > 1 ? round % 2 : 0;
            t->tokens[t->n]         = 42;
            llama_seq_id       id   = seq;
            llama_seq_id      *ids  = &id;
            int32_t            one  = 1;
            llama_pos          pos  = t->n++;
            llama_token        last = 42;
            struct llama_batch b    = {
                   .n_tokens = 1, .token = &last, .pos = round % 2 ? &pos : NULL, .n_seq_id = &one, .seq_id = &ids};
            must(soothe_decode(s, b, &err), &err);
            expected_row(model, n_prefixes ? PREFIXES[i_source] : "", t, expected);
            if (!(largest_difference(expected, soothe_get_logits_ith(s, 0)) < 0.02)) /* F16 cache, other batches */
                fail_msg("%d prefixes, round %d: off by %g", n_prefixes, round,
                         largest_difference(expected, soothe_get_logits_ith(s, 0)));
        }
        soothe_session_free(s);
    }
    llama_model_free(model);
}

/* GeDi's sums are those of a session that was never copied or cut. */
static void test_gedi_remembers_what_was_read_through_copies_and_cuts(void **state) {
    (void)state;
    struct work w;
    float       straight[N_VOCAB], bent[N_VOCAB];
    must(begin(&w, "gedi:scale=5:filter-p=0"), &err);
    struct soothe_session *s = w.applied.session;
    struct llama_batch     b = llama_batch_init(1, 0, 1);
    for (int round = 0; round < 2; round++) { /* the second time by a detour */
        llama_seq_id seq = 0;
        for (int i = 0; i < TOKENS; i++) {
            b.n_tokens = 0;
            soothe__batch_add(&b, token_at(i), i, seq, true);
            must(soothe_decode(s, b, &err), &err);
            if (round == 1 && i == 4) {
                soothe_seq_cp(s, 0, 2, -1, -1);
                soothe_seq_rm(s, 0, -1, -1);
                seq = 2;
            }
        }
        memcpy(round ? bent : straight, soothe_get_logits_ith(s, 0), sizeof bent);
        soothe_clear(s);
    }
    assert_true(largest_difference(straight, bent) < 0.05); /* omega 30 times the engine's rounding */
    llama_batch_free(b);
    end(&w);
}

static void test_many_sequences_behind_many_prefixes_take_several_contexts(void **state) {
    (void)state;
    struct work                 w       = {.model = NULL};
    struct llama_context_params context = small_context();
    float                       few[N_VOCAB], many[N_VOCAB];
    run_words("self-debias", 1, few);
    context.n_seq_max = 65;
    context.n_batch = context.n_ubatch = 128;
    must(soothe__target_load(&w.model, TARGET, 0, &err), &err);
    must(soothe__chain_add(&w.chain, "self-debias", &err), &err);
    must(soothe__chain_apply(&w.applied, &w.chain, w.model, TARGET, &context, &err), &err);
    decode_text(w.applied.session, 63, TOKENS, many);
    assert_true(largest_difference(few, many) < 0.02);
    end(&w);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_rules_give_what_numpy_gives),
        cmocka_unit_test(test_a_weighted_tail_is_found_exactly),
        cmocka_unit_test(test_strength_and_dose_0_leave_every_logit_as_it_is),
        cmocka_unit_test(test_equal_helpers_leave_the_nucleus_as_it_is),
        cmocka_unit_test(test_the_twin_equals_two_contexts_and_fusion),
        cmocka_unit_test(test_another_vocabulary_is_refused_by_its_first_token),
        cmocka_unit_test(test_files_that_are_no_helpers_are_refused),
        cmocka_unit_test(test_followers_stay_in_step_through_random_changes),
        cmocka_unit_test(test_gedi_remembers_what_was_read_through_copies_and_cuts),
        cmocka_unit_test(test_many_sequences_behind_many_prefixes_take_several_contexts),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
