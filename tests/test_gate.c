/* SPDX-License-Identifier: Apache-2.0
 * The gate: its curve, its memory of alarms, and that rows at dose 0 and 1 are the plain and the ungated ones. */
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
#include "fusion/stage.h"
#include "methods/gate.h"
#include "methods/methods.h"
#include "score/probe.h"
#include "score/scorer.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "test_gate_model.gguf"
#define OTHER "test_gate_other.gguf"
#define CALIBRATOR "test_gate_calibrator.gguf"
#define PROBE "test_gate.probe.gguf"
#define FUSION "fusion:strength=1:calibrator=" CALIBRATOR

enum { D = 64, N_TOKENS = 24, LAYER = 2 };

static struct soothe_error err;
static struct llama_model *model;

/* ---- a model, a calibrator, a probe ------------------------------------------------------------------------ */

static float *random_values(size_t n, double scale, uint64_t seed) {
    struct soothe__rng rng = soothe__rng_seed(seed, 7);
    float             *x   = soothe__calloc(n, sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(scale * soothe__rng_normal(&rng));
    return x;
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    if (!tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) ||
        !tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 6, .other_words = true}))
        return -1;
    float                               *b    = random_values(D * D, 0.05, 3);
    const struct soothe__calibrator_spec spec = {.name        = "test",
                                                 .target_path = MODEL,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 1.0f,
                                                 .d_tgt       = D,
                                                 .b           = b,
                                                 .matrix_type = GGML_TYPE_F32};
    const bool                           ok   = soothe__calibrator_write(CALIBRATOR, &spec, &err) == SOOTHE_OK &&
                    soothe__target_load(&model, MODEL, 0, &err) == SOOTHE_OK;
    free(b);
    return ok ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    llama_model_free(model);
    unlink(MODEL);
    unlink(OTHER);
    unlink(CALIBRATOR);
    unlink(PROBE);
    return 0;
}

/* Random weights, for MODEL or another model. */
static void write_probe(int32_t layer, enum soothe__pool pool, bool of_other) {
    struct soothe__probe probe = {
        .layer = layer, .d = D, .pool = pool, .weight = random_values(D, 0.3, 9), .target_name = "tiny"};
    struct soothe__gguf file = {0};
    must(soothe__gguf_open(&file, of_other ? OTHER : MODEL, &err), &err);
    must(soothe__model_fingerprint(probe.target, &file, &err), &err);
    soothe__gguf_close(&file);
    must(soothe__probe_write(PROBE, &probe, NULL, 0, &err), &err);
    free(probe.weight);
}

/* ---- sessions ------------------------------------------------------------------------------------------------ */

struct setting {
    struct soothe__chain   chain;
    struct soothe__applied applied;
};

static enum soothe_status try_words(struct setting *x, const char *words) {
    struct llama_context_params context = soothe_session_params_default().context;
    context.n_ctx                       = 256;
    context.n_seq_max                   = 8;
    context.kv_unified                  = true;
    *x                                  = (struct setting){.chain = {.n = 0}};
    enum soothe_status status           = soothe__chain_add(&x->chain, words, &err);
    return status ? status : soothe__chain_apply(&x->applied, &x->chain, model, MODEL, &context, &err);
}

static struct setting open_words(const char *words) {
    struct setting x;
    must(try_words(&x, words), &err);
    return x;
}

static void close_setting(struct setting *x) {
    soothe__applied_release(&x->applied);
    soothe__chain_free(&x->chain);
}

static llama_token token_at(int32_t as_seq, int32_t pos) {
    return (llama_token)((37 * pos + 101 * as_seq + pos * pos) % 250);
}

/* Tokens [from, to) of the text as_seq, all of them output. */
static void decode(struct setting *x, llama_seq_id seq, int32_t as_seq, int32_t from, int32_t to) {
    struct llama_batch b = llama_batch_init(64, 0, 1);
    for (int32_t i = from; i < to; i++)
        soothe__batch_add(&b, token_at(as_seq, i), i, seq, true);
    must(soothe_decode(x->applied.session, b, &err), &err);
    llama_batch_free(b);
}

static bool same_row(const struct setting *x, const struct setting *y, int32_t i) {
    const int32_t n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    return memcmp(soothe_get_logits_ith(x->applied.session, i), soothe_get_logits_ith(y->applied.session, i),
                  (size_t)n_vocab * sizeof(float)) == 0;
}

static int by_size(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The risks of the text's tokens as a session without any method shows them to a listener; their tertiles. */
static void risks_of_text(double risks[N_TOKENS], double *low, double *high) {
    struct soothe__probe *probe;
    struct setting        plain = open_words("plain");
    char                  node[32];
    double                sorted[N_TOKENS];
    must(soothe__probe_open(&probe, PROBE, MODEL, &err), &err);
    snprintf(node, sizeof node, probe->layer == SOOTHE__LAYER_FINAL ? "result_norm" : "l_out-%d", probe->layer);
    must(soothe__session_tap(plain.applied.session, SOOTHE__LISTENER_CALLER, node, &err), &err);
    decode(&plain, 0, 0, 0, N_TOKENS);
    for (int32_t i = 0; i < N_TOKENS; i++)
        risks[i] = soothe__probe_risk(probe, soothe__session_tapped(plain.applied.session, SOOTHE__LISTENER_CALLER, i));
    memcpy(sorted, risks, sizeof sorted);
    qsort(sorted, N_TOKENS, sizeof *sorted, by_size);
    *low  = (sorted[N_TOKENS / 3] + sorted[N_TOKENS / 3 + 1]) / 2;
    *high = (sorted[2 * N_TOKENS / 3] + sorted[2 * N_TOKENS / 3 + 1]) / 2;
    soothe__probe_free(probe);
    close_setting(&plain);
}

static void gate_words(char *out, size_t size, double low, double high, const char *more) {
    snprintf(out, size, "gate:probe=" PROBE ":low=%.12g:high=%.12g%s+" FUSION, low, high, more);
}

/* ---- the curve and the alarms -------------------------------------------------------------------------------- */

static void test_the_curve_is_flat_at_both_ends_and_smooth_between(void **state) {
    (void)state;
    assert_float_equal(soothe__gate_dose(0.1, 0.2, 0.6), 0, 0);
    assert_float_equal(soothe__gate_dose(0.2, 0.2, 0.6), 0, 0);
    assert_float_equal(soothe__gate_dose(0.3, 0.2, 0.6), 0.15625, 1e-6); /* 3/16 - 2/64 */
    assert_float_equal(soothe__gate_dose(0.4, 0.2, 0.6), 0.5, 1e-6);
    assert_float_equal(soothe__gate_dose(0.6, 0.2, 0.6), 1, 0);
    assert_float_equal(soothe__gate_dose(0.7, 0.2, 0.6), 1, 0);
    assert_float_equal(soothe__gate_dose(0.5, 0.5, 0.5), 0, 0); /* a step */
    assert_float_equal(soothe__gate_dose(0.51, 0.5, 0.5), 1, 0);
    assert_float_equal(soothe__gate_dose((double)NAN, 0.2, 0.6), 0, 0);
}

static void test_an_alarm_halves_in_hold_tokens(void **state) {
    (void)state;
    struct soothe__alarms a = {.n = 0};
    assert_true(soothe__alarms_reserve(&a, 8));
    assert_float_equal(soothe__alarms_note(&a, 0, 0.1f, 4), 0.1, 1e-6);
    assert_float_equal(soothe__alarms_note(&a, 1, 0.8f, 4), 0.8, 1e-6);
    assert_float_equal(soothe__alarms_note(&a, 5, 0.1f, 4), 0.4, 1e-6);
    assert_float_equal(soothe__alarms_note(&a, 6, 0.9f, 4), 0.9, 1e-6);
    assert_float_equal(soothe__alarms_note(&a, 6, 0.2f, 4), 0.4f * exp2f(-0.25f),
                       1e-6f); /* again, the last is replaced */
    assert_int_equal(a.n, 4);
    free(a.items);
}

static void test_alarms_are_cut_and_copied_like_the_text(void **state) {
    (void)state;
    struct soothe__alarms a = {.n = 0}, b = {.n = 0};
    assert_true(soothe__alarms_reserve(&a, 10));
    for (int i = 0; i < 10; i++)
        soothe__alarms_note(&a, i, (float)i / 10, 0);
    assert_true(soothe__alarms_cp(&a, &b, 2, 5));
    assert_int_equal(b.n, 3);
    assert_int_equal(b.items[0].pos, 2);
    assert_true(soothe__alarms_cp(&a, &b, -1, 3)); /* 2 is there already */
    assert_int_equal(b.n, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(b.items[i].pos, i);
        assert_float_equal(b.items[i].level, (double)i / 10, 1e-6);
    }
    assert_true(soothe__alarms_cp(&a, &a, -1, -1));
    soothe__alarms_rm(&a, 3, 7);
    assert_int_equal(a.n, 6);
    assert_int_equal(a.items[3].pos, 7);
    soothe__alarms_rm(&a, 8, -1);
    assert_int_equal(a.n, 4);
    soothe__alarms_rm(&a, -1, -1);
    assert_int_equal(a.n, 0);
    free(a.items);
    free(b.items);
}

/* ---- at a decode ------------------------------------------------------------------------------------------------ */

static void check_rows(int32_t layer, enum soothe__pool pool) {
    double risks[N_TOKENS], low, high;
    char   words[256];
    int    n_plain = 0, n_full = 0, n_between = 0;
    write_probe(layer, pool, false);
    risks_of_text(risks, &low, &high);
    gate_words(words, sizeof words, low, high, ":hold=0");
    struct setting plain = open_words("plain"), full = open_words(FUSION), gated = open_words(words);
    decode(&plain, 0, 0, 0, N_TOKENS);
    decode(&full, 0, 0, 0, N_TOKENS);
    decode(&gated, 0, 0, 0, N_TOKENS);
    for (int32_t i = 0; i < N_TOKENS; i++) {
        const float dose = soothe__session_row_dose(gated.applied.session, i);
        assert_false(same_row(&plain, &full, i));
        assert_float_equal(dose, soothe__gate_dose(risks[i], low, high), 1e-4);
        if (dose == 0.0f)
            assert_true(same_row(&plain, &gated, i));
        else if (dose == 1.0f)
            assert_true(same_row(&full, &gated, i));
        n_plain += dose == 0.0f;
        n_full += dose == 1.0f;
        n_between += dose > 0.0f && dose < 1.0f;
    }
    assert_true(n_plain > 4 && n_full > 4 && n_between > 4);
    assert_true(isnan(soothe__session_row_dose(gated.applied.session, N_TOKENS)));
    close_setting(&plain);
    close_setting(&full);
    close_setting(&gated);
}

static void test_rows_at_rest_are_plain_and_rows_in_alarm_are_ungated(void **state) {
    (void)state;
    check_rows(LAYER, SOOTHE__POOL_TOKEN);
    check_rows(3, SOOTHE__POOL_LAST); /* the last block: its node holds the rows of outputs alone */
    check_rows(SOOTHE__LAYER_FINAL, SOOTHE__POOL_TOKEN);
}

static void test_strength_zero_is_no_gate_and_half_is_half_of_one(void **state) {
    (void)state;
    double risks[N_TOKENS], low, high;
    char   words[256];
    write_probe(LAYER, SOOTHE__POOL_TOKEN, false);
    risks_of_text(risks, &low, &high);
    struct setting full = open_words(FUSION), none = open_words("gate:strength=0:probe=/nonexistent+" FUSION);
    gate_words(words, sizeof words, low, high, ":strength=0.5:hold=0");
    struct setting half = open_words(words);
    decode(&full, 0, 0, 0, N_TOKENS);
    decode(&none, 0, 0, 0, N_TOKENS);
    decode(&half, 0, 0, 0, N_TOKENS);
    for (int32_t i = 0; i < N_TOKENS; i++) {
        assert_true(same_row(&full, &none, i));
        assert_float_equal(soothe__session_row_dose(half.applied.session, i),
                           0.5f + 0.5f * soothe__gate_dose(risks[i], low, high), 1e-4);
    }
    close_setting(&full);
    close_setting(&none);
    close_setting(&half);
}

/* ---- a scorer of what was said ------------------------------------------------------------------------------------
 */

#define SAID "you are an idiot, and so" /* one token a letter */

/* Letters [from, to) of a text, all of them output. */
static void decode_letters(struct setting *x, const char *text, int32_t from, int32_t to) {
    struct llama_batch b = llama_batch_init(64, 0, 1);
    llama_token       *tokens;
    int32_t            n;
    must(soothe__tokenize(&tokens, &n, llama_model_get_vocab(model), text, strlen(text), 0, &err), &err);
    assert_int_equal(n, strlen(text));
    for (int32_t i = from; i < to; i++)
        soothe__batch_add(&b, tokens[i], i, 0, true);
    must(soothe_decode(x->applied.session, b, &err), &err);
    llama_batch_free(b);
    free(tokens);
}

static double score_of(const char *text, int32_t from, int32_t to) {
    struct soothe__scorer *scorer;
    struct soothe__score   score;
    char                   part[64] = "";
    const char *const      texts[]  = {part};
    memcpy(part, text + from, (size_t)(to - from));
    must(soothe__scorer_open(&scorer, "lexicon", NULL, &err), &err);
    must(soothe__scorer_score(scorer, texts, 1, &score, &err), &err);
    soothe__scorer_close(scorer);
    return score.toxicity;
}

static void check_said(int32_t window) {
    const int32_t n = (int32_t)strlen(SAID);
    char          words[256];
    int           n_rest = 0, n_alarm = 0;
    snprintf(words, sizeof words, "gate:scorer=lexicon:window=%d:low=0.01:high=0.5:hold=0+" FUSION, window);
    struct setting x = open_words(words);
    decode_letters(&x, SAID, 0, n);
    for (int32_t i = 0; i < n; i++) {
        const double risk = score_of(SAID, window && i + 1 > window ? i + 1 - window : 0, i + 1);
        const float  dose = soothe__session_row_dose(x.applied.session, i);
        assert_float_equal(dose, soothe__gate_dose(risk, 0.01, 0.5), 1e-6);
        n_rest += dose == 0.0f;
        n_alarm += dose > 0.0f;
    }
    assert_true(n_rest > 10 && n_alarm > 2);
    /* said otherwise from the insult on: nothing is left of it */
    assert_true(soothe_seq_rm(x.applied.session, 0, 11, -1));
    decode_letters(&x, "you are an angel, and so", 11, n);
    for (int32_t i = 0; i < n - 11; i++)
        assert_float_equal(soothe__session_row_dose(x.applied.session, i), 0, 0);
    close_setting(&x);
}

static void test_a_scorer_of_what_was_said_can_gate(void **state) {
    (void)state;
    check_said(0);
    check_said(7); /* tokens: the insult leaves the window before the end */
}

static void test_of_probe_and_scorer_the_larger_risk_counts(void **state) {
    (void)state;
    const int32_t n = (int32_t)strlen(SAID);
    write_probe(LAYER, SOOTHE__POOL_TOKEN, false);
    struct setting probe  = open_words("gate:hold=0:low=0.1:high=1:probe=" PROBE "+" FUSION),
                   scorer = open_words("gate:hold=0:low=0.1:high=1:window=0:scorer=lexicon+" FUSION),
                   both   = open_words("gate:hold=0:low=0.1:high=1:window=0:scorer=lexicon:probe=" PROBE "+" FUSION);
    struct setting *const all[]      = {&probe, &scorer, &both};
    int                   n_by_probe = 0, n_by_scorer = 0;
    for (int k = 0; k < 3; k++)
        decode_letters(all[k], SAID, 0, n);
    for (int32_t i = 0; i < n; i++) {
        const float a = soothe__session_row_dose(probe.applied.session, i),
                    b = soothe__session_row_dose(scorer.applied.session, i);
        assert_float_equal(soothe__session_row_dose(both.applied.session, i), a > b ? a : b, 1e-6);
        n_by_probe += a > b;
        n_by_scorer += b > a;
    }
    assert_true(n_by_probe > 0 && n_by_scorer > 0);
    for (int k = 0; k < 3; k++)
        close_setting(all[k]);
}

/* ---- memory -------------------------------------------------------------------------------------------------------
 */

static void open_holding(struct setting *x) {
    double risks[N_TOKENS], low, high;
    char   words[256];
    write_probe(LAYER, SOOTHE__POOL_TOKEN, false);
    risks_of_text(risks, &low, &high);
    gate_words(words, sizeof words, low, high, ":hold=5");
    *x = open_words(words);
}

/* The doses of tokens [from, N_TOKENS) of text 0, decoded in that sequence, are those of a fresh session. */
static void check_goes_on(struct setting *x, llama_seq_id seq, int32_t from) {
    struct setting fresh;
    open_holding(&fresh);
    decode(&fresh, 0, 0, 0, N_TOKENS);
    decode(x, seq, 0, from, N_TOKENS);
    for (int32_t i = from; i < N_TOKENS; i++)
        assert_float_equal(soothe__session_row_dose(x->applied.session, i - from),
                           soothe__session_row_dose(fresh.applied.session, i), 1e-3);
    close_setting(&fresh);
}

static void test_alarms_last(void **state) {
    (void)state;
    double         risks[N_TOKENS], low, high, level = 0;
    struct setting x;
    open_holding(&x);
    risks_of_text(risks, &low, &high);
    decode(&x, 0, 0, 0, N_TOKENS);
    for (int32_t i = 0; i < N_TOKENS; i++) {
        level = fmax(risks[i], level * pow(2, -0.2));
        assert_float_equal(soothe__session_row_dose(x.applied.session, i), soothe__gate_dose(level, low, high), 1e-3);
    }
    close_setting(&x);
}

static void test_a_cut_tail_leaves_no_alarm(void **state) {
    (void)state;
    struct setting x;
    open_holding(&x);
    decode(&x, 0, 0, 0, 8);
    decode(&x, 0, 5, 8, 16); /* other tokens … */
    assert_true(soothe_seq_rm(x.applied.session, 0, 8, -1));
    check_goes_on(&x, 0, 8); /* … replaced */
    close_setting(&x);
}

static void test_copies_and_kept_sequences_keep_their_alarms(void **state) {
    (void)state;
    struct setting x;
    open_holding(&x);
    decode(&x, 1, 0, 0, 8);
    decode(&x, 2, 3, 0, 8);
    soothe_seq_cp(x.applied.session, 1, 3, -1, -1);
    assert_true(soothe_seq_rm(x.applied.session, 1, -1, -1));
    check_goes_on(&x, 3, 8);
    assert_true(soothe_seq_rm(x.applied.session, 3, 8, -1));
    soothe_seq_keep(x.applied.session, 3);
    check_goes_on(&x, 3, 8);
    soothe_clear(x.applied.session);
    check_goes_on(&x, 3, 0);
    close_setting(&x);
}

static void test_a_batch_without_positions_counts_on(void **state) {
    (void)state;
    struct setting x;
    llama_token    tokens[N_TOKENS];
    open_holding(&x);
    decode(&x, 0, 0, 0, 8);
    for (int32_t i = 0; i < N_TOKENS; i++)
        tokens[i] = token_at(0, i);
    for (int32_t i = 8; i < 12; i++)
        must(soothe_decode(x.applied.session, llama_batch_get_one(tokens + i, 1), &err), &err);
    check_goes_on(&x, 0, 12);
    close_setting(&x);
}

/* ---- words ----------------------------------------------------------------------------------------------------------
 */

static void test_what_cannot_gate_is_refused_with_a_sentence(void **state) {
    (void)state;
    struct setting x;
    write_probe(LAYER, SOOTHE__POOL_MEAN, false);
    assert_int_equal(try_words(&x, "gate:probe=" PROBE "+" FUSION), SOOTHE_E_UNSUPPORTED);
    assert_non_null(strstr(err.message, "reads the mean of a whole text"));
    close_setting(&x);
    write_probe(LAYER, SOOTHE__POOL_TOKEN, true);
    assert_int_equal(try_words(&x, "gate:probe=" PROBE "+" FUSION), SOOTHE_E_MISMATCH);
    close_setting(&x);
    assert_int_equal(try_words(&x, "gate:low=0.7:high=0.3+" FUSION), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "low of 0.7 is above its high of 0.3"));
    close_setting(&x);
    write_probe(LAYER, SOOTHE__POOL_TOKEN, false);
    assert_int_equal(try_words(&x, "gate:probe=" PROBE "+" FUSION "+gate:probe=" PROBE), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "one gate"));
    close_setting(&x);
    assert_int_equal(try_words(&x, "gate:probe=" PROBE "+best-of-n"), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "a gate needs a method that it can hold back"));
    close_setting(&x);
    assert_int_equal(try_words(&x, "gate:probe=" PROBE "+control-vector+" FUSION), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "method control-vector acts on the whole context"));
    close_setting(&x);
}

static void test_a_strength_is_that_of_what_is_gated(void **state) {
    (void)state;
    struct soothe__chain chain = {.n = 0};
    must(soothe__chain_add(&chain, "fusion", &err), &err);
    assert_false(soothe__chain_has_stage(&chain, "gate"));
    must(soothe__chain_add_first(&chain, "gate:hold=2", &err), &err);
    assert_true(soothe__chain_has_stage(&chain, "gate"));
    must(soothe__chain_set(&chain, "strength", "1.5", &err), &err);
    char *name = soothe__chain_name(&chain);
    assert_string_equal(name, "gate:hold=2+fusion:strength=1.5");
    free(name);
    assert_int_equal(soothe__chain_add_first(&chain, "magic", &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(chain.n, 2);
    soothe__chain_free(&chain);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_curve_is_flat_at_both_ends_and_smooth_between),
        cmocka_unit_test(test_an_alarm_halves_in_hold_tokens),
        cmocka_unit_test(test_alarms_are_cut_and_copied_like_the_text),
        cmocka_unit_test(test_rows_at_rest_are_plain_and_rows_in_alarm_are_ungated),
        cmocka_unit_test(test_strength_zero_is_no_gate_and_half_is_half_of_one),
        cmocka_unit_test(test_a_scorer_of_what_was_said_can_gate),
        cmocka_unit_test(test_of_probe_and_scorer_the_larger_risk_counts),
        cmocka_unit_test(test_alarms_last),
        cmocka_unit_test(test_a_cut_tail_leaves_no_alarm),
        cmocka_unit_test(test_copies_and_kept_sequences_keep_their_alarms),
        cmocka_unit_test(test_a_batch_without_positions_counts_on),
        cmocka_unit_test(test_what_cannot_gate_is_refused_with_a_sentence),
        cmocka_unit_test(test_a_strength_is_that_of_what_is_gated),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
