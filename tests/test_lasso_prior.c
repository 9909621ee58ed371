/* SPDX-License-Identifier: Apache-2.0
 * What goes into a Lasso besides numbers: factors from a model and from files, words of texts, tables. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/target_model.h"
#include "engine/text_tokens.h"
#include "lasso/feature_table.h"
#include "lasso/penalty_factors.h"
#include "lasso/word_features.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "test_lasso_prior.gguf"
#define FILE_NAME "test_lasso_prior.csv"

static struct soothe_error err;

/* ---- a model's factors ---------------------------------------------------------------------------------- */

enum { N_NAMES = 150 };

/* The engine keeps keys and values in F16 and rounds otherwise in other batches: up to 0.003 on these models of random
 * weights, under 0.001 with F32. Names move the factors by more than that. */
static const double ROUNDING = 0.01;

/* More names than sequences, of different lengths, one empty, one with a line break, one very long. */
static void make_names(char *names[N_NAMES]) {
    for (int i = 0; i < N_NAMES; i++)
        names[i] = soothe__format("name %d%.*s", i, i % 7, "abcdefg");
    free(names[3]);
    names[3] = soothe__strdup("");
    free(names[4]);
    names[4] = soothe__strdup("two\nlines");
    free(names[5]);
    names[5] = soothe__calloc(400, 1);
    memset(names[5], 'x', 399);
}

static struct llama_model *tiny(enum tiny_family family) {
    struct llama_model *model;
    llama_log_set(quiet, NULL);
    assert_true(tiny_model_write(MODEL, &(struct tiny_options){.family = family, .seed = 3, .n_context = 2048}));
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    return model;
}

static const struct soothe__factor_options OPTIONS = {.task = "whether it rains", .n_threads = 1};

static void test_factors_are_in_range_repeatable_and_free_of_the_batch(void **state) {
    (void)state;
    for (int family = 0; family < 4; family++) {
        char               *names[N_NAMES];
        double              a[N_NAMES], b[N_NAMES], alone;
        struct llama_model *model = tiny((enum tiny_family)family);
        make_names(names);
        const char *const *list = (const char *const *)names;
        must(soothe__penalty_factors(a, list, N_NAMES, model, &OPTIONS, &err), &err);
        must(soothe__penalty_factors(b, list, N_NAMES, model, &OPTIONS, &err), &err);
        assert_memory_equal(a, b, sizeof a);
        bool differ = false;
        for (int i = 0; i < N_NAMES; i++) {
            assert_true(a[i] >= 2 && a[i] <= 5);
            differ = differ || fabs(a[i] - a[0]) > 3 * ROUNDING;
        }
        assert_true(differ);
        for (int i = 3; i < N_NAMES; i += 37) {
            must(soothe__penalty_factors(&alone, list + i, 1, model, &OPTIONS, &err), &err);
            if (!(fabs(alone - a[i]) < ROUNDING))
                fail_msg("family %d, name %d: %g, alone %g", family, i, a[i], alone);
        }
        for (int i = 0; i < N_NAMES; i++)
            free(names[i]);
        llama_model_free(model);
        unlink(MODEL);
    }
}

/* The same factor from one plain decode of the whole prompt, whose text is written out here. */
static void test_a_factor_is_the_mean_digit_of_one_whole_prompt(void **state) {
    (void)state;
    static const char PROMPT[] =
        "How much does each item tell about the answer to the question? 2 = a lot, 3 = something, 4 = little, "
        "5 = nothing\n\nQuestion: whether a text is about sports\n- football: 2\n- the: 5\n- team: 3\n- today: 5\n"
        "- goalkeeper: 2\n- watch: 4\n- and: 5\n- player: 3\n- tennis: 2\n- green: 5\n\n"
        "Question: whether a patient has diabetes\n- blood glucose: 2\n- surname: 5\n- body mass index: 3\n"
        "- shoe colour: 5\n- insulin: 2\n- height: 4\n- weekday: 5\n- age: 3\n\nQuestion: whether it rains\n- cloud: ";
    struct llama_model *model = tiny(TINY_QWEN2);
    llama_token        *tokens;
    int32_t             n;
    double              factor, sum = 0, mean = 0;
    const char         *name = "cloud";
    must(soothe__penalty_factors(&factor, &name, 1, model, &OPTIONS, &err), &err);
    const struct llama_vocab *vocab = llama_model_get_vocab(model);
    must(soothe__tokenize(&tokens, &n, vocab, PROMPT, strlen(PROMPT), SOOTHE__TOKENIZE_START, &err), &err);
    struct llama_context_params p = llama_context_default_params();
    p.n_threads = p.n_threads_batch = 1;
    p.n_ctx = p.n_batch = p.n_ubatch = 2048;
    struct llama_context *ctx        = llama_init_from_model(model, p);
    assert_int_equal(llama_decode(ctx, llama_batch_get_one(tokens, n)), 0);
    const float *z = llama_get_logits_ith(ctx, -1);
    for (int d = 2; d <= 5; d++) {
        char        bytes[4];
        llama_token digit = -1;
        for (llama_token t = 0; t < 256; t++)
            if (soothe__token_bytes(vocab, t, bytes, sizeof bytes) == 1 && bytes[0] == '0' + d)
                digit = t;
        const double right = exp((double)z[digit]);
        sum += right;
        mean += d * right;
    }
    if (!(fabs(factor - mean / sum) < ROUNDING))
        fail_msg("%g, the whole prompt's %g", factor, mean / sum);
    free(tokens);
    llama_free(ctx);
    llama_model_free(model);
    unlink(MODEL);
}

static void test_a_prompt_longer_than_the_model_takes_is_refused(void **state) {
    (void)state;
    struct llama_model *model;
    double              factor;
    const char         *name = "x";
    assert_true(tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    must(soothe__target_load(&model, MODEL, 0, &err), &err);
    assert_int_equal(soothe__penalty_factors(&factor, &name, 1, model, &OPTIONS, &err), SOOTHE_E_ARGUMENT);
    llama_model_free(model);
    unlink(MODEL);
}

/* ---- a file's factors ------------------------------------------------------------------------------------- */

static void write_text(const char *text) {
    FILE *f = fopen(FILE_NAME, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void test_factors_survive_a_file(void **state) {
    (void)state;
    const char  *names[] = {"plain", "with, comma", "with \"quotes\"", "two\nlines"};
    const double given[] = {2, 3.25, 4.125, 5};
    double       read[4];
    size_t       n_missing;
    must(soothe__factors_write(given, names, 4, FILE_NAME, &err), &err);
    must(soothe__factors_read(read, names, 4, FILE_NAME, &n_missing, &err), &err);
    assert_int_equal(n_missing, 0);
    assert_memory_equal(read, given, sizeof given);
    write_text("feature,factor\nplain,2\nunknown,9\nwith \"quotes\",4\n");
    must(soothe__factors_read(read, names, 4, FILE_NAME, &n_missing, &err), &err);
    assert_int_equal(n_missing, 2);
    assert_true(read[0] == 2 && read[1] == 3 && read[2] == 4 && read[3] == 3);
    unlink(FILE_NAME);
}

static void test_bad_factor_files_are_refused_by_line(void **state) {
    (void)state;
    const char *name   = "a";
    const char *bad[]  = {"feature,factor\na,0\n",      "feature,factor\na,-1\n", "feature,factor\na,x\n",
                          "feature,factor\na,2\na,3\n", "feature,weight\na,2\n",  "name,factor\na,2\n"};
    const int   line[] = {2, 2, 2, 3, 2, 2};
    double      factor;
    size_t      n_missing;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char where[16];
        write_text(bad[i]);
        assert_int_equal(soothe__factors_read(&factor, &name, 1, FILE_NAME, &n_missing, &err), SOOTHE_E_FORMAT);
        snprintf(where, sizeof where, "line %d", line[i]);
        if (!strstr(err.message, where))
            fail_msg("\"%s\" lacks \"%s\"", err.message, where);
    }
    write_text("feature,factor\nb,2\n");
    assert_int_equal(soothe__factors_read(&factor, &name, 1, FILE_NAME, &n_missing, &err), SOOTHE_E_FORMAT);
    unlink(FILE_NAME);
}

static void test_ranks_are_spread_and_ties_share_theirs(void **state) {
    (void)state;
    double f[] = {2.9, 2.7, 2.9, 3.5, 2.8}, one = 3;
    must(soothe__factors_by_rank(f, 5, &err), &err);
    const double wanted[] = {2 + 3 * 2.5 / 4, 2, 2 + 3 * 2.5 / 4, 5, 2.75};
    for (int i = 0; i < 5; i++)
        assert_true(fabs(f[i] - wanted[i]) < 1e-12);
    must(soothe__factors_by_rank(&one, 1, &err), &err);
    assert_true(one == 3.5);
}

/* ---- words ------------------------------------------------------------------------------------------------- */

static void test_words_are_found_counted_once_a_text_and_ordered(void **state) {
    (void)state;
    const char *texts[] = {"The sea, the SEA! Don't @someone_1: http://sea.org/the &amp; 42 c3", "sea 'quoted' don't",
                           "", "caf\xC3\xA9 the"};
    struct soothe__words  words;
    struct soothe__design x;
    must(soothe__words_choose(&words, texts, 4, 100, 1, &err), &err);
    const char *wanted[] = {"c3", "caf\xC3\xA9", "don't", "quoted", "sea", "the"};
    assert_int_equal(words.n, 6);
    for (int i = 0; i < 6; i++)
        assert_string_equal(words.names[i], wanted[i]);
    must(soothe__words_design(&x, &words, texts, 4, &err), &err);
    assert_int_equal(x.columns[4].n_values, 2); /* sea: texts 0 and 1, once each */
    assert_int_equal(x.columns[4].rows[0], 0);
    assert_int_equal(x.columns[4].rows[1], 1);
    assert_int_equal(x.columns[5].n_values, 2); /* the: 0 and 3 */
    assert_int_equal(x.columns[5].rows[1], 3);
    soothe__design_free(&x);
    soothe__words_free(&words);
    must(soothe__words_choose(&words, texts, 4, 2, 1, &err), &err); /* don't, sea and the stand in two texts each */
    assert_int_equal(words.n, 2);
    assert_string_equal(words.names[0], "don't");
    assert_string_equal(words.names[1], "sea");
    soothe__words_free(&words);
    assert_int_equal(soothe__words_choose(&words, texts, 4, 100, 3, &err), SOOTHE_E_ARGUMENT);
}

/* ---- tables -------------------------------------------------------------------------------------------------- */

static void test_bad_cells_are_named_or_passed_over(void **state) {
    (void)state;
    struct soothe__table        table;
    struct soothe__table_choice choice = {.target = "y"};
    write_text("a,b,y\n1,2,0\n3,,1\n4,5,1\n6,seven,0\n8,9,\n");
    assert_int_equal(soothe__table_read(&table, FILE_NAME, &choice, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 3"));
    assert_non_null(strstr(err.message, "\"b\""));
    choice.skip_bad = true;
    must(soothe__table_read(&table, FILE_NAME, &choice, &err), &err);
    assert_int_equal(table.n_rows, 2);
    assert_int_equal(table.n_columns, 2);
    assert_int_equal(table.counts.n_bad, 3);
    assert_true(table.cells[2] == 4 && table.cells[3] == 5 && table.lines[1] == 4);
    soothe__table_free(&table);
    choice.target = "z";
    assert_int_equal(soothe__table_read(&table, FILE_NAME, &choice, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "\"z\""));
    unlink(FILE_NAME);
}

static void test_targets_become_classes_or_numbers(void **state) {
    (void)state;
    struct soothe__table              table;
    struct soothe__target             target;
    const struct soothe__table_choice choice = {.target = "y"};
    double                            y[4];
    write_text("a,y\n1,10\n2,9\n3,10\n4,9\n");
    must(soothe__table_read(&table, FILE_NAME, &choice, &err), &err);
    must(soothe__target_decide(&target, &table, SOOTHE__FAMILY_AUTO, NULL, &err), &err);
    assert_int_equal(target.family, SOOTHE__BINOMIAL);
    assert_string_equal(target.positive[0], "10"); /* by number: "9" would be larger by bytes */
    must(soothe__target_values(y, &target, &table, FILE_NAME, &err), &err);
    assert_true(y[0] == 1 && y[1] == 0);
    soothe__target_free(&target);
    must(soothe__target_decide(&target, &table, SOOTHE__FAMILY_GAUSSIAN, NULL, &err), &err);
    must(soothe__target_values(y, &target, &table, FILE_NAME, &err), &err);
    assert_true(y[0] == 10 && y[1] == 9);
    soothe__target_free(&target);
    soothe__table_free(&table);
    write_text("a,y\n1,red\n2,green\n3,blue\n4,red\n");
    must(soothe__table_read(&table, FILE_NAME, &choice, &err), &err);
    assert_int_equal(soothe__target_decide(&target, &table, SOOTHE__FAMILY_BINOMIAL, NULL, &err), SOOTHE_E_FORMAT);
    soothe__target_free(&target);
    assert_int_equal(soothe__target_decide(&target, &table, SOOTHE__FAMILY_AUTO, "red,pink", &err), SOOTHE_E_FORMAT);
    soothe__target_free(&target);
    must(soothe__target_decide(&target, &table, SOOTHE__FAMILY_AUTO, "red,blue", &err), &err);
    must(soothe__target_values(y, &target, &table, FILE_NAME, &err), &err);
    assert_true(y[0] == 1 && y[1] == 0 && y[2] == 1 && y[3] == 1);
    soothe__target_free(&target);
    must(soothe__target_decide(&target, &table, SOOTHE__FAMILY_AUTO, NULL, &err), &err); /* three values: numbers … */
    assert_int_equal(soothe__target_values(y, &target, &table, FILE_NAME, &err), SOOTHE_E_FORMAT); /* … they are not */
    soothe__target_free(&target);
    soothe__table_free(&table);
    unlink(FILE_NAME);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_factors_are_in_range_repeatable_and_free_of_the_batch),
        cmocka_unit_test(test_a_factor_is_the_mean_digit_of_one_whole_prompt),
        cmocka_unit_test(test_a_prompt_longer_than_the_model_takes_is_refused),
        cmocka_unit_test(test_factors_survive_a_file),
        cmocka_unit_test(test_bad_factor_files_are_refused_by_line),
        cmocka_unit_test(test_ranks_are_spread_and_ties_share_theirs),
        cmocka_unit_test(test_words_are_found_counted_once_a_text_and_ordered),
        cmocka_unit_test(test_bad_cells_are_named_or_passed_over),
        cmocka_unit_test(test_targets_become_classes_or_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
