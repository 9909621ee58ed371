/* SPDX-License-Identifier: Apache-2.0
 * Probes: fits against NumPy and scikit-learn (scripts/probe_reference.py), states against the session, live risk
 * against the text read again. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/statistics.h"
#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "fusion/stage.h"
#include "generate/generate.h"
#include "score/platt.h"
#include "score/probe.h"
#include "score/probe_fit.h"
#include "score/scorer.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "test_probe_model.gguf"
#define OTHER "test_probe_other.gguf"
#define PROBE "test_probe.gguf"
#define DATA "test_probe_data.jsonl"

static struct soothe_error err;

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    return tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) &&
                   tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 6, .other_words = true})
               ? 0
               : -1;
}

static int tear_down(void **state) {
    (void)state;
    unlink(MODEL);
    unlink(OTHER);
    unlink(PROBE);
    unlink(DATA);
    return 0;
}

/* ---- fits ---------------------------------------------------------------------------------------------- */

enum { N = 40, D = 3 };

/* The table of scripts/probe_reference.py: three features of very different size, one far from zero. */
static void make_table(float x[N * D], unsigned char y[N]) {
    static const double SCALES[D] = {1, 100, 0.01};
    for (int i = 0; i < N; i++) {
        y[i] = i * 7 % 5 < 2;
        for (int j = 0; j < D; j++)
            x[i * D + j] = (float)((sin(1.7 * i + 2.3 * j + 0.5 * j * j) + (j == 0 ? 0.7 * y[i] : 0)) * SCALES[j] +
                                   (j == 1 ? 5000 : 0));
    }
}

static void assert_near(double a, double b, double relative) {
    if (!(fabs(a - b) <= relative * fabs(b)))
        fail_msg("%.9g is not near %.9g", a, b);
}

static void test_lda_agrees_with_numpy(void **state) {
    (void)state;
    static const double    WANTED[D + 1] = {8.94946323, 0.0443521783, -436.144312, -224.907738};
    float                  x[N * D];
    unsigned char          y[N];
    double                 w[D], b;
    struct soothe__scatter s;
    make_table(x, y);
    must(soothe__scatter_init(&s, D, &err), &err);
    for (int i = 0; i < N; i++)
        soothe__scatter_add(&s, x + i * D, y[i]);
    must(soothe__lda_fit(&s, 0.1, w, &b, &err), &err);
    for (int j = 0; j < D; j++)
        assert_near(w[j], WANTED[j], 1e-4); /* products of a block are summed in f32 */
    assert_near(b, WANTED[D], 1e-4);
    must(soothe__lda_fit(&s, 0.1, w, &b, &err), &err); /* again, from the same sums */
    assert_near(w[0], WANTED[0], 1e-4);
    soothe__scatter_free(&s);
}

static void test_lda_needs_both_classes(void **state) {
    (void)state;
    const float            x[D] = {1, 2, 3};
    double                 w[D], b;
    struct soothe__scatter s;
    must(soothe__scatter_init(&s, D, &err), &err);
    soothe__scatter_add(&s, x, 1);
    assert_int_equal(soothe__lda_fit(&s, 0.1, w, &b, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "clean ones are missing"));
    soothe__scatter_free(&s);
}

static void test_logistic_regression_agrees_with_scikit_learn(void **state) {
    (void)state;
    static const double WANTED[D + 1] = {2.39711376, 0.0113302202, -102.416197, -57.7933352};
    float               x[N * D];
    unsigned char       y[N];
    double              w[D] = {0}, b = 0;
    make_table(x, y);
    must(soothe__probe_logistic_fit(x, y, N, D, 0.05, w, &b, &err), &err);
    for (int j = 0; j < D; j++)
        assert_near(w[j], WANTED[j], 2e-3); /* states of 5000 +- 100 in f32 */
    assert_near(b, WANTED[D], 2e-3);
}

static void test_platt_agrees_with_scipy(void **state) {
    (void)state;
    float         x[N * D];
    unsigned char y[N];
    double        scores[N], slope, offset;
    make_table(x, y);
    for (int i = 0; i < N; i++)
        scores[i] = (double)x[i * D];
    soothe__platt_fit_any_scale(&slope, &offset, scores, y, N);
    assert_near(slope, 1.24132898, 1e-5);
    assert_near(offset, -0.858755242, 1e-5);
    memset(y, 0, sizeof y); /* one class: nothing to learn */
    soothe__platt_fit_any_scale(&slope, &offset, scores, y, N);
    assert_true(slope == 1 && offset == 0);
}

/* From Python: int(hashlib.sha256(t).hexdigest()[:8], 16) % 10 is 9, 2, 0. */
static void test_a_texts_part_is_decided_by_its_bytes(void **state) {
    (void)state;
    assert_int_equal(soothe__part_of_text("abc"), SOOTHE__PART_TRAIN);
    assert_int_equal(soothe__part_of_text("the hills are green"), SOOTHE__PART_VALIDATION);
    assert_int_equal(soothe__part_of_text("a"), SOOTHE__PART_HELD_OUT);
}

/* By hand: the first of three states is left out of the mean; prefixes of 1, 2, 3 and more tokens. */
static void test_pooling_of_a_case_done_by_hand(void **state) {
    (void)state;
    const float          states[3][2] = {{100, 100}, {1, 2}, {3, 6}};
    const int32_t        at[]         = {1, 2, 3, 20};
    float                weight[2]    = {1, 0.5F}, out[2];
    double               logits[4];
    struct soothe__probe p = {.d = 2, .weight = weight, .bias = 1, .pool = SOOTHE__POOL_MEAN};
    soothe__pool_states(SOOTHE__POOL_MEAN, states[0], 3, 2, out);
    assert_true(out[0] == 2 && out[1] == 4);
    soothe__pool_states(SOOTHE__POOL_LAST, states[0], 3, 2, out);
    assert_true(out[0] == 3 && out[1] == 6);
    soothe__probe_prefix_logits(&p, states[0], 3, at, 4, logits);
    assert_true(logits[0] == 151 && logits[1] == 3 && logits[2] == 5 && logits[3] == 5);
    assert_true(soothe__probe_logit(&p, (float[]){2, 4}) == logits[3]);
    p.pool = SOOTHE__POOL_LAST;
    soothe__probe_prefix_logits(&p, states[0], 3, at, 4, logits);
    assert_true(logits[0] == 151 && logits[1] == 3 && logits[2] == 7 && logits[3] == 7);
}

/* ---- states ------------------------------------------------------------------------------------------------ */

enum { N_TEXTS = 5, LONGEST = 40, WIDTH = 64, N_LAYERS = 5 };
static const int32_t LAYERS[N_LAYERS] = {0, 1, 2, 3, SOOTHE__LAYER_FINAL};

struct kept {
    float rows[N_LAYERS][N_TEXTS][LONGEST][WIDTH];
};

static enum soothe_status keep(void *user, size_t i, const float *const *states, int32_t n_tokens,
                               struct soothe_error *e) {
    struct kept *k = user;
    (void)e;
    for (int l = 0; l < N_LAYERS; l++)
        memcpy(k->rows[l][i], states[l], (size_t)n_tokens * WIDTH * sizeof(float));
    return SOOTHE_OK;
}

static enum soothe_status keep_one(void *user, size_t i, const float *const *states, int32_t n_tokens,
                                   struct soothe_error *e) {
    (void)i;
    (void)e;
    memcpy(user, states[0], (size_t)n_tokens * WIDTH * sizeof(float));
    return SOOTHE_OK;
}

static void make_texts(struct soothe__token_text texts[N_TEXTS], llama_token tokens[N_TEXTS][LONGEST]) {
    static const int32_t LENGTHS[N_TEXTS] = {7, 1, LONGEST, 13, 2};
    for (int i = 0; i < N_TEXTS; i++) {
        for (int t = 0; t < LENGTHS[i]; t++)
            tokens[i][t] = (i * 37 + t * 11) % 250 + 3;
        texts[i] = (struct soothe__token_text){tokens[i], LENGTHS[i]};
    }
}

static double largest_difference(const float *a, const float *b, size_t n) {
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmax(largest, fabs((double)a[i] - (double)b[i]));
    return largest;
}

/* Every layer of a text read alone is that read in a batch; the engine rounds with the batch. */
static void check_family(enum tiny_family family) {
    struct soothe__token_text    texts[N_TEXTS];
    llama_token                  tokens[N_TEXTS][LONGEST];
    struct soothe__layer_reader *reader;
    struct llama_model          *model;
    struct kept                 *kept = soothe__calloc(1, sizeof *kept);
    float                       *one  = soothe__calloc(LONGEST * WIDTH, sizeof *one);
    assert_non_null(kept);
    assert_non_null(one);
    assert_true(tiny_model_write(DATA ".gguf", &(struct tiny_options){.family = family, .seed = 9, .d = WIDTH}));
    must(soothe__target_load(&model, DATA ".gguf", 0, &err), &err);
    make_texts(texts, tokens);
    must(soothe__layer_reader_new(&reader, model, LAYERS, N_LAYERS, LONGEST, 1, &err), &err);
    must(soothe__layer_reader_read(reader, texts, N_TEXTS, keep, kept, &err), &err);
    soothe__layer_reader_free(reader);
    for (int l = 0; l < N_LAYERS; l++) {
        must(soothe__layer_reader_new(&reader, model, &LAYERS[l], 1, LONGEST, 1, &err), &err);
        for (int i = 0; i < N_TEXTS; i++) {
            must(soothe__layer_reader_read(reader, &texts[i], 1, keep_one, one, &err), &err);
            const size_t n    = (size_t)texts[i].n_tokens * WIDTH;
            const double most = largest_difference(one, kept->rows[l][i][0], n);
            if (!(most < 1e-2)) /* GPT-2's: the engine's GELU is a table in f16, so roundings grow */
                fail_msg("family %d, layer %d, text %d: off by %g", (int)family, (int)LAYERS[l], i, most);
        }
        soothe__layer_reader_free(reader);
    }
    assert_true(largest_difference(kept->rows[1][0][0], kept->rows[2][0][0], WIDTH) > 1e-3); /* layers differ */
    llama_model_free(model);
    unlink(DATA ".gguf");
    free(kept);
    free(one);
}

static void test_states_do_not_depend_on_the_batch_or_on_the_other_layers(void **state) {
    (void)state;
    for (int family = 0; family < 4; family++)
        check_family((enum tiny_family)family);
}

static void test_layers_that_do_not_exist_are_refused(void **state) {
    (void)state;
    struct llama_model          *model;
    struct soothe__layer_reader *reader;
    const int32_t                too_high = 4, twice[] = {1, 1};
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    assert_int_equal(soothe__layer_reader_new(&reader, model, &too_high, 1, 8, 1, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "0 to 3 exist"));
    assert_int_equal(soothe__layer_reader_new(&reader, model, twice, 2, 8, 1, &err), SOOTHE_E_ARGUMENT);
    llama_model_free(model);
}

/* ---- listening while decoding ------------------------------------------------------------------------------ */

static struct soothe_session *open_session(struct llama_model *model) {
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = 256;
    p.context.n_batch              = 64;
    p.context.n_ubatch             = 16; /* batches come in pieces */
    p.context.n_seq_max            = 3;
    p.context.n_threads = p.context.n_threads_batch = 1;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    return s;
}

/* 30 tokens of sequence 0 and 10 of sequence 1, every third an output: *n_out of them. */
static void fill_batch(struct llama_batch *b, int32_t *n_out) {
    *n_out      = 0;
    b->n_tokens = 40;
    for (int i = 0; i < 40; i++) {
        b->token[i]     = i * 11 % 250 + 3;
        b->pos[i]       = i < 30 ? i : i - 30;
        b->n_seq_id[i]  = 1;
        b->seq_id[i][0] = i >= 30;
        b->logits[i]    = i % 3 == 1;
        *n_out += b->logits[i];
    }
}

static void check_tap(struct llama_model *model, int32_t layer) {
    struct soothe__token_text    texts[2];
    llama_token                  tokens[2][LONGEST];
    struct soothe__layer_reader *reader;
    char                         node[32] = "result_norm";
    int32_t                      n_out, row = 0;
    const int32_t                n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    float                       *states  = soothe__calloc(2 * LONGEST * WIDTH, sizeof *states);
    struct llama_batch           batch   = llama_batch_init(64, 0, 1);
    struct soothe_session       *plain = open_session(model), *tapped = open_session(model);
    fill_batch(&batch, &n_out);
    for (int i = 0; i < 40; i++)
        tokens[i >= 30][i < 30 ? i : i - 30] = batch.token[i];
    texts[0] = (struct soothe__token_text){tokens[0], 30};
    texts[1] = (struct soothe__token_text){tokens[1], 10};
    must(soothe__layer_reader_new(&reader, model, &layer, 1, LONGEST, 1, &err), &err);
    must(soothe__layer_reader_read(reader, &texts[0], 1, keep_one, states, &err), &err);
    must(soothe__layer_reader_read(reader, &texts[1], 1, keep_one, states + 30 * WIDTH, &err), &err);
    if (layer != SOOTHE__LAYER_FINAL)
        snprintf(node, sizeof node, "l_out-%d", layer);
    must(soothe__session_tap(tapped, SOOTHE__LISTENER_CALLER, node, &err), &err);
    assert_null(soothe__session_tapped(tapped, SOOTHE__LISTENER_CALLER, 0));
    must(soothe_decode(plain, batch, &err), &err);
    must(soothe_decode(tapped, batch, &err), &err);
    for (int i = 0; i < 40; i++) {
        if (!batch.logits[i])
            continue;
        assert_memory_equal(llama_get_logits_ith(soothe_session_context(plain), i),
                            llama_get_logits_ith(soothe_session_context(tapped), i), (size_t)n_vocab * sizeof(float));
        const float *state = soothe__session_tapped(tapped, SOOTHE__LISTENER_CALLER, row++);
        assert_non_null(state);
        assert_true(largest_difference(state, states + i * WIDTH, WIDTH) < 1e-3);
    }
    assert_int_equal(row, n_out);
    assert_null(soothe__session_tapped(tapped, SOOTHE__LISTENER_CALLER, row));
    soothe__layer_reader_free(reader);
    soothe_session_free(plain);
    soothe_session_free(tapped);
    llama_batch_free(batch);
    free(states);
}

static void test_listening_gives_the_layers_rows_and_changes_no_logit(void **state) {
    (void)state;
    struct llama_model *model;
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    for (int l = 0; l < N_LAYERS; l++)
        check_tap(model, LAYERS[l]);
    llama_model_free(model);
}

static void test_listening_to_a_node_that_is_not_there_is_an_error_of_the_decode(void **state) {
    (void)state;
    struct llama_model *model;
    int32_t             n_out;
    struct llama_batch  batch = llama_batch_init(64, 0, 1);
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    struct soothe_session *s = open_session(model);
    fill_batch(&batch, &n_out);
    must(soothe__session_tap(s, SOOTHE__LISTENER_CALLER, "no_such_node", &err), &err);
    assert_int_equal(soothe_decode(s, batch, &err), SOOTHE_E_UNSUPPORTED);
    must(soothe__session_tap(s, SOOTHE__LISTENER_CALLER, NULL, &err), &err);
    must(soothe_decode(s, batch, &err), &err);
    soothe_session_free(s);
    llama_model_free(model);
    llama_batch_free(batch);
}

/* ---- training and files -------------------------------------------------------------------------------------- */

/* Texts of random letters; toxic ones end in "zz". */
static void write_data(void) {
    FILE              *f   = fopen(DATA, "w");
    struct soothe__rng rng = soothe__rng_seed(4, 4);
    assert_non_null(f);
    for (int i = 0; i < 240; i++) {
        char text[16];
        for (int k = 0; k < 12; k++)
            text[k] = (char)('a' + soothe__rng_below(&rng, 25));
        text[12] = '\0';
        if (i % 2)
            memcpy(text + 10, "zz", 2);
        fprintf(f, "{\"text\": \"%s\", \"label\": %d, \"source\": \"%s\"}\n", text, i % 2, i % 3 ? "one" : "two");
    }
    fclose(f);
}

static struct soothe__probe *train(enum soothe__probe_kind kind, enum soothe__pool pool,
                                   struct soothe__probe_texts *texts, struct llama_model *model) {
    struct soothe__probe_report  r;
    struct soothe__probe        *probe;
    struct soothe__probe_options o = {.kind = kind, .pool = pool, .n_threads = 1};
    must(soothe__probe_train(&probe, &r, model, MODEL, texts, &o, &err), &err);
    assert_int_equal(r.n_layers, N_LAYERS);
    const struct soothe__probe_figures *mean = &r.layers[r.i_best].held_out[texts->n_sources];
    assert_true(mean->n > 20 && mean->n_toxic > 5);
    /* the last state shows the last letters, the mean of 12 a little of them */
    if (!(mean->auc[SOOTHE__N_PREFIXES - 1] > (pool == SOOTHE__POOL_LAST ? 0.95 : 0.65)))
        fail_msg("%s %s: AUC %g", soothe__probe_kind_name(kind), soothe__pool_name(pool),
                 mean->auc[SOOTHE__N_PREFIXES - 1]);
    assert_true(mean->auc[0] < 0.8); /* the first token tells little */
    soothe__probe_report_free(&r);
    return probe;
}

static void test_a_probe_learns_what_a_state_shows(void **state) {
    (void)state;
    struct llama_model        *model;
    struct soothe__probe_texts texts = {.n = 0};
    write_data();
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    must(soothe__probe_texts_read(&texts, DATA, true, false, &err), &err);
    assert_int_equal(texts.n_sources, 2);
    for (int kind = 0; kind < 2; kind++)
        for (int pool = 0; pool < 2; pool++)
            soothe__probe_free(
                train((enum soothe__probe_kind)kind, pool ? SOOTHE__POOL_MEAN : SOOTHE__POOL_LAST, &texts, model));
    soothe__probe_texts_free(&texts);
    llama_model_free(model);
}

static void write_probe(struct llama_model *model) {
    struct soothe__probe_texts texts = {.n = 0};
    write_data();
    must(soothe__probe_texts_read(&texts, DATA, true, false, &err), &err);
    struct soothe__probe *p = train(SOOTHE__PROBE_LDA, SOOTHE__POOL_LAST, &texts, model);
    must(soothe__probe_write(PROBE, p, NULL, 0, &err), &err);
    soothe__probe_free(p);
    soothe__probe_texts_free(&texts);
}

static void test_a_probe_file_belongs_to_its_model(void **state) {
    (void)state;
    struct llama_model   *model;
    struct soothe__probe *p;
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    write_probe(model);
    must(soothe__probe_open(&p, PROBE, MODEL, &err), &err);
    assert_int_equal(p->d, WIDTH);
    assert_int_equal(strlen(p->identity), 64);
    soothe__probe_free(p);
    assert_int_equal(soothe__probe_open(&p, PROBE, OTHER, &err), SOOTHE_E_MISMATCH);
    assert_null(p);
    assert_int_equal(soothe__probe_open(&p, MODEL, MODEL, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "not a probe"));
    llama_model_free(model);
}

static void test_a_probe_is_a_scorer_that_needs_its_model(void **state) {
    (void)state;
    struct llama_model    *model;
    struct soothe__scorer *scorer;
    struct soothe__score   scores[4];
    char                   large[3000];
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    write_probe(model);
    llama_model_free(model);
    assert_int_equal(soothe__scorer_open(&scorer, PROBE, NULL, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "-m"));
    must(soothe__scorer_open(&scorer, PROBE, &(struct soothe__scorer_options){.model_path = MODEL, .n_threads = 1},
                             &err),
         &err);
    assert_string_equal(soothe__scorer_kind(scorer), "probe");
    memset(large, 'a', sizeof large); /* several windows, the last ends like a toxic text */
    memcpy(large + sizeof large - 3, "zz", 3);
    must(soothe__scorer_score(scorer, (const char *[]){"abcdefghijzz", "abcdefghijkl", "", large}, 4, scores, &err),
         &err);
    assert_true(scores[0].toxicity > 0.5 && scores[1].toxicity < 0.5);
    assert_true(isnan(scores[2].toxicity) && scores[2].why[0]);
    assert_true(scores[3].toxicity >= 0 && scores[3].toxicity <= 1);
    soothe__scorer_close(scorer);
}

/* ---- live risk -------------------------------------------------------------------------------------------------- */

struct heard {
    const struct soothe__probe *probe;
    llama_token                 tokens[4][64];
    float                       readings[4][64];
    int32_t                     n_tokens[4];
};

static double read_logit(void *user, const float *state) {
    const struct heard *h = user;
    return soothe__probe_logit(h->probe, state);
}

static void on_done(void *user, const struct soothe__continuation *c) {
    struct heard *h          = ((struct soothe__generate_options *)user)->read_user;
    h->n_tokens[c->i_prompt] = c->n_tokens;
    for (int32_t i = 0; i < c->n_tokens; i++) {
        h->tokens[c->i_prompt][i]   = c->tokens[i].id;
        h->readings[c->i_prompt][i] = c->tokens[i].reading;
    }
}

static void hear(struct llama_model *model, struct heard *h, const struct soothe__prompt *prompts, bool risk) {
    struct soothe__generate_options o = soothe__generate_options_default();
    struct soothe_session_params    p = soothe_session_params_default();
    struct soothe_session          *s;
    p.context.n_threads = p.context.n_threads_batch = 1;
    o.n_predict                                     = 9;
    o.sampling.seed                                 = 3;
    o.on_done                                       = on_done;
    o.user                                          = &o;
    o.read                                          = risk ? read_logit : NULL;
    o.read_user                                     = h;
    soothe__generate_context(&p.context, model, prompts, 3, &o, 2);
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    if (risk)
        must(soothe__session_tap(s, SOOTHE__LISTENER_CALLER, "l_out-2", &err), &err);
    must(soothe__generate(s, prompts, 3, &o, NULL, &err), &err);
    soothe_session_free(s);
}

/* The risk of each token is that of the prompt and the tokens up to it, read again as a text; the tokens are those
 * of a run without it. */
static void test_live_risk_is_that_of_the_text_so_far(void **state) {
    (void)state;
    static struct heard          live, plain;
    static float                 states[64 * WIDTH];
    struct llama_model          *model;
    struct soothe__layer_reader *reader;
    struct soothe__probe         probe = {.layer = 2, .d = WIDTH, .bias = 0.25};
    float                        weight[WIDTH];
    llama_token                  prompt[6]  = {5, 40, 77, 9, 130, 8}, text[64];
    const struct soothe__prompt  prompts[3] = {soothe__prompt_of(prompt, 6, 0), soothe__prompt_of(prompt, 3, 1),
                                               soothe__prompt_of(prompt + 2, 4, 2)};
    for (int i = 0; i < WIDTH; i++)
        weight[i] = (float)sin(i);
    probe.weight = weight;
    live.probe   = &probe;
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    hear(model, &live, prompts, true);
    hear(model, &plain, prompts, false);
    must(soothe__layer_reader_new(&reader, model, &probe.layer, 1, 64, 1, &err), &err);
    for (int i = 0; i < 3; i++) {
        const int32_t n = prompts[i].n_tokens;
        assert_int_equal(live.n_tokens[i], plain.n_tokens[i]);
        assert_memory_equal(live.tokens[i], plain.tokens[i], (size_t)plain.n_tokens[i] * sizeof(llama_token));
        memcpy(text, prompts[i].tokens, (size_t)n * sizeof *text);
        memcpy(text + n, live.tokens[i], (size_t)live.n_tokens[i] * sizeof *text);
        must(soothe__layer_reader_read(reader, &(struct soothe__token_text){text, n + live.n_tokens[i]}, 1, keep_one,
                                       states, &err),
             &err);
        for (int32_t t = 0; t < live.n_tokens[i]; t++)
            assert_true(fabs((double)live.readings[i][t] - soothe__probe_logit(&probe, states + (n + t) * WIDTH)) <
                        2e-3);
        assert_true(plain.n_tokens[i] == 0 || isnan(plain.readings[i][0]));
    }
    soothe__layer_reader_free(reader);
    llama_model_free(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lda_agrees_with_numpy),
        cmocka_unit_test(test_lda_needs_both_classes),
        cmocka_unit_test(test_logistic_regression_agrees_with_scikit_learn),
        cmocka_unit_test(test_platt_agrees_with_scipy),
        cmocka_unit_test(test_a_texts_part_is_decided_by_its_bytes),
        cmocka_unit_test(test_pooling_of_a_case_done_by_hand),
        cmocka_unit_test(test_states_do_not_depend_on_the_batch_or_on_the_other_layers),
        cmocka_unit_test(test_layers_that_do_not_exist_are_refused),
        cmocka_unit_test(test_listening_gives_the_layers_rows_and_changes_no_logit),
        cmocka_unit_test(test_listening_to_a_node_that_is_not_there_is_an_error_of_the_decode),
        cmocka_unit_test(test_a_probe_learns_what_a_state_shows),
        cmocka_unit_test(test_a_probe_file_belongs_to_its_model),
        cmocka_unit_test(test_a_probe_is_a_scorer_that_needs_its_model),
        cmocka_unit_test(test_live_risk_is_that_of_the_text_so_far),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
