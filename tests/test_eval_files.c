/* SPDX-License-Identifier: Apache-2.0
 * The files of an evaluation: methods in words, manifests, records, and the folder that is never torn. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "eval/conditional.h"
#include "eval/eval.h"
#include "test_support.h"
#include "tiny_model.h"

/* ---- methods ---- */

static void test_methods_are_read_from_one_line(void **state) {
    (void)state;
    struct soothe_error         err;
    struct soothe__eval_methods m;
    must(soothe__eval_methods_parse(
             &m, "plain,fusion,fusion:strength=0.5:calibrator=dir/c.gguf,fusion:strength=0.25..1/4", &err),
         &err);
    assert_int_equal(m.n, 7);
    assert_string_equal(m.items[0].name, "plain");
    assert_string_equal(m.items[0].chain.items[0].method->name, "none");
    assert_true(!m.items[1].chain.items[0].values[0].given);
    assert_string_equal(m.items[2].name, "fusion:strength=0.5:calibrator=c.gguf");
    assert_string_equal(m.items[2].chain.items[0].values[1].text, "dir/c.gguf");
    assert_string_equal(m.items[4].name, "fusion:strength=0.5");
    assert_true(m.items[6].chain.items[0].values[0].number == 1.0);
    soothe__eval_methods_free(&m);
}

static void test_bad_methods_are_refused_with_a_sentence(void **state) {
    (void)state;
    static const char *const bad[] = {"",
                                      "plain,",
                                      "nosuch",
                                      "fusion:strength=x",
                                      "fusion:strength",
                                      "fusion:depth=2",
                                      "fusion:strength=0..1",
                                      "fusion:strength=0..1/1",
                                      "plain,plain",
                                      "fusion:strength=0.5,fusion:strength=0.50"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct soothe_error         err = {.message = ""};
        struct soothe__eval_methods m;
        if (soothe__eval_methods_parse(&m, bad[i], &err) != SOOTHE_E_ARGUMENT || !err.message[0] || m.items)
            fail_msg("\"%s\" was taken", bad[i]);
    }
}

/* ---- manifests ---- */

static const char MANIFEST[] =
    "{\"kind\": \"soothe-eval\", \"schema\": 1, \"model\": {\"file\": \"a.gguf\", \"sha256\": \"12\"},"
    " \"methods\": [{\"name\": \"plain\", \"method\": \"none\"}, {\"name\": \"fusion\", \"method\": \"fusion\"}],"
    " \"scorers\": [{\"spec\": \"lexicon\", \"kind\": \"lexicon\", \"identity\": \"ab\"}],"
    " \"prompts\": {\"n\": 5}, \"benign\": {\"n\": 3}, \"corpus\": null, \"n_samples\": 1, \"group\": 2, \"seed\": 1}";

static json_t *manifest(struct soothe__eval_plan *plan) {
    struct soothe_error err;
    json_t             *m;
    must(soothe__eval_manifest_parse(&m, plan, MANIFEST, strlen(MANIFEST), "MANIFEST", &err), &err);
    return m;
}

static void test_units_cover_every_item_once(void **state) {
    (void)state;
    struct soothe__eval_plan plan;
    json_t                  *m                     = manifest(&plan);
    size_t                   n[SOOTHE__EVAL_KINDS] = {0};
    assert_int_equal(soothe__eval_n_groups(&plan), 3 + 2);
    for (size_t g = 0; g < soothe__eval_n_groups(&plan); g++) {
        const struct soothe__eval_unit u = soothe__eval_unit_at(&plan, 1, g);
        assert_int_equal(u.from, n[u.kind]);
        for (size_t i = 0; i < u.n; i++)
            assert_int_equal(soothe__eval_group_of(&plan, u.kind, u.from + i), g);
        n[u.kind] += u.n;
    }
    assert_int_equal(n[SOOTHE__EVAL_PROMPT], 5);
    assert_int_equal(n[SOOTHE__EVAL_BENIGN], 3);
    json_decref(m);
}

static void test_the_first_setting_that_differs_is_named(void **state) {
    (void)state;
    struct soothe__eval_plan plan;
    json_t                  *a = manifest(&plan), *b = json_deep_copy(a);
    assert_null(soothe__eval_manifest_difference(a, "A", b, "B"));
    json_object_set_new(json_object_get(b, "model"), "file", json_string("elsewhere.gguf")); /* a name is no setting */
    assert_null(soothe__eval_manifest_difference(a, "A", b, "B"));
    json_object_set_new(b, "seed", json_integer(2));
    char *text = soothe__eval_manifest_difference(a, "A", b, "B");
    assert_string_equal(text, "seed is 1 in A and 2 in B");
    free(text);
    json_object_set_new(json_object_get(b, "model"), "sha256", json_string("34"));
    text = soothe__eval_manifest_difference(a, "A", b, "B");
    assert_string_equal(text, "model.sha256 is \"12\" in A and \"34\" in B");
    free(text);
    json_decref(b);
    b = json_deep_copy(a);
    json_object_set_new(b, "extra", json_true());
    text = soothe__eval_manifest_difference(a, "A", b, "B");
    assert_string_equal(text, "extra is nothing in A and true in B");
    free(text);
    json_decref(a);
    json_decref(b);
}

/* ---- records ---- */

static char *record_line(size_t i_method, size_t i_item, double score) {
    double                     scores[] = {score}, greedy[] = {NAN};
    llama_token                tokens[]  = {3, 1, 4};
    struct soothe__eval_sample samples[] = {{.text     = (char *)(uintptr_t) " \"h\xc3\xa9\"\n",
                                             .tokens   = tokens,
                                             .n_tokens = 3,
                                             .finish   = SOOTHE__FINISH_LENGTH,
                                             .scores   = scores,
                                             .nll      = 0.1 + 0.2,
                                             .n_ppl    = 3}};
    struct soothe__eval_record r         = {.kind      = SOOTHE__EVAL_PROMPT,
                                            .i_method  = i_method,
                                            .i_item    = i_item,
                                            .prompt    = (char *)(uintptr_t) "You",
                                            .toxicity  = NAN,
                                            .toxic     = -1,
                                            .samples   = samples,
                                            .n_samples = 1,
                                            .greedy    = {.scores = greedy, .why = "no vowel"}};
    return soothe__eval_record_line(&r, 1);
}

static void test_a_record_comes_back_as_it_was(void **state) {
    (void)state;
    struct soothe_error        err;
    struct soothe__eval_plan   plan;
    struct soothe__eval_record r;
    json_t                    *m    = manifest(&plan);
    char                      *line = record_line(1, 4, 1.0 / 3);
    must(soothe__eval_record_parse(&r, &plan, line, strlen(line), &err), &err);
    assert_true(r.samples[0].scores[0] == 1.0 / 3 && r.samples[0].nll == 0.1 + 0.2); /* to the last bit */
    assert_true(isnan(r.greedy.scores[0]) && r.toxic == -1);
    assert_string_equal(r.greedy.why, "no vowel");
    char *again = soothe__eval_record_line(&r, 1);
    assert_string_equal(line, again);
    free(again);
    free(line);
    soothe__eval_record_free(&r);
    json_decref(m);
}

static void test_reasons_of_all_scorers_come_back(void **state) {
    (void)state;
    struct soothe_error            err;
    const struct soothe__eval_plan plan = {
        .n_methods = 1, .n_scorers = 3, .n_samples = 1, .group = 1, .n_items = {[SOOTHE__EVAL_BENIGN] = 1}};
    double                     scores[] = {0.5, 0.25, NAN};
    struct soothe__eval_record r        = {.kind   = SOOTHE__EVAL_BENIGN,
                                           .prompt = (char *)(uintptr_t) "x",
                                           .greedy = {.scores = scores, .finish = SOOTHE__FINISH_LENGTH}},
                               back;
    soothe__eval_note_reason(&r.greedy, 2, 3, "caf\xc3"); /* cut in the middle of a character */
    char *line = soothe__eval_record_line(&r, 3);
    json_decref(r.greedy.other_why);
    assert_non_null(line);
    must(soothe__eval_record_parse(&back, &plan, line, strlen(line), &err), &err);
    assert_true(json_is_null(json_array_get(back.greedy.other_why, 0)));
    assert_string_equal(json_string_value(json_array_get(back.greedy.other_why, 1)), "caf");
    soothe__eval_record_free(&back);
    free(line);
}

static void test_records_that_do_not_fit_the_manifest_are_refused(void **state) {
    (void)state;
    struct soothe__eval_plan plan;
    json_t                  *m            = manifest(&plan);
    char                    *good         = record_line(0, 0, 0.5);
    static const char *const changes[][2] = {{"\"method\":0", "\"method\":2"},
                                             {"\"item\":0", "\"item\":5"},
                                             {"\"kind\":\"prompt\"", "\"kind\":\"corpus\""},
                                             {"[0.5]", "[1.5]"},
                                             {"[0.5]", "[0.5,0.5]"},
                                             {"[0.5]", "[\"0.5\"]"},
                                             {"\"n_ppl\":3", "\"n_ppl\":-3"},
                                             {"\"finish\":\"length\"", "\"finish\":\"long\""},
                                             {"[3,1,4]", "[3,1e9]"},
                                             {"\"toxic\":null", "\"toxic\":2"}};
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct soothe_error        err = {.message = ""};
        struct soothe__eval_record r;
        char                      *at = strstr(good, changes[i][0]);
        assert_non_null(at);
        char *bad = soothe__format("%.*s%s%s", (int)(at - good), good, changes[i][1], at + strlen(changes[i][0]));
        if (soothe__eval_record_parse(&r, &plan, bad, strlen(bad), &err) != SOOTHE_E_FORMAT || !err.message[0])
            fail_msg("taken: %s", bad);
        free(bad);
    }
    free(good);
    json_decref(m);
}

/* ---- the folder ---- */

static const char FOLDER[] = "eval_store_test";

static void clean_folder(void) {
    static const char *const files[] = {"manifest.json", "samples.jsonl", "timing.jsonl"};
    for (size_t i = 0; i < 3; i++) {
        char *path = soothe__format("%s/%s", FOLDER, files[i]);
        unlink(path);
        free(path);
    }
    rmdir(FOLDER);
}

static void append_unit(struct soothe__eval_store *s, size_t i_method, size_t i_group) {
    struct soothe_error            err;
    const struct soothe__eval_unit u     = soothe__eval_unit_at(&s->plan, i_method, i_group);
    char                          *lines = soothe__strdup("");
    for (size_t i = 0; i < u.n; i++) {
        char *line = record_line(i_method, u.from + i, 0.25), *more = soothe__format("%s%s", lines, line);
        free(line);
        free(lines);
        lines = more;
    }
    must(soothe__eval_store_append(s, &u, lines, strlen(lines), NULL, &err), &err);
    free(lines);
}

static void add_bytes(const char *bytes) {
    char *path = soothe__format("%s/samples.jsonl", FOLDER);
    FILE *f    = fopen(path, "ab");
    fputs(bytes, f);
    fclose(f);
    free(path);
}

static size_t n_units(const struct soothe__eval_store *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->plan.n_methods; i++) {
        for (size_t g = 0; g < soothe__eval_n_groups(&s->plan); g++) {
            const struct soothe__eval_unit u = soothe__eval_unit_at(&s->plan, i, g);
            n += soothe__eval_store_has(s, &u);
        }
    }
    return n;
}

static void test_a_torn_end_costs_one_unit_and_no_more(void **state) {
    (void)state;
    struct soothe_error       err;
    struct soothe__eval_plan  plan;
    struct soothe__eval_store s;
    json_t                   *m = manifest(&plan);
    clean_folder();
    must(soothe__eval_store_open(&s, FOLDER, m, false, &err), &err);
    append_unit(&s, 0, 0);
    append_unit(&s, 0, 1);
    soothe__eval_store_close(&s);
    /* a whole line of a unit of two, and half of the other */
    char *line = record_line(1, 0, 0.25), *torn = record_line(1, 1, 0.25);
    torn[20] = '\0';
    add_bytes(line);
    add_bytes(torn);
    must(soothe__eval_store_open(&s, FOLDER, m, true, &err), &err);
    assert_int_equal(n_units(&s), 2);
    append_unit(&s, 1, 0); /* and it goes on where the last whole unit ended */
    soothe__eval_store_close(&s);
    must(soothe__eval_store_open(&s, FOLDER, m, true, &err), &err);
    assert_int_equal(n_units(&s), 3);
    soothe__eval_store_close(&s);
    free(line);
    free(torn);
    json_decref(m);
    clean_folder();
}

static void test_damage_before_the_end_is_refused(void **state) {
    (void)state;
    struct soothe_error       err;
    struct soothe__eval_plan  plan;
    struct soothe__eval_store s;
    json_t                   *m = manifest(&plan);
    clean_folder();
    must(soothe__eval_store_open(&s, FOLDER, m, false, &err), &err);
    append_unit(&s, 0, 0);
    soothe__eval_store_close(&s);
    add_bytes("{\"kind\":\n");
    char *line = record_line(1, 0, 0.25);
    add_bytes(line);
    free(line);
    assert_int_equal(soothe__eval_store_open(&s, FOLDER, m, true, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 3 of"));
    json_decref(m);
    clean_folder();
}

static void test_a_folder_belongs_to_one_run_and_one_process(void **state) {
    (void)state;
    struct soothe_error       err;
    struct soothe__eval_plan  plan;
    struct soothe__eval_store s, other;
    json_t                   *m = manifest(&plan), *changed = json_deep_copy(m);
    json_object_set_new(changed, "seed", json_integer(2));
    clean_folder();
    must(soothe__eval_store_open(&s, FOLDER, m, true, &err), &err); /* to resume what has not begun is to begin */
    assert_int_equal(soothe__eval_store_open(&other, FOLDER, m, true, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "another process"));
    append_unit(&s, 0, 0);
    soothe__eval_store_close(&s);
    assert_int_equal(soothe__eval_store_open(&other, FOLDER, m, false, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "1 of 10 groups"));
    assert_int_equal(soothe__eval_store_open(&other, FOLDER, changed, true, &err), SOOTHE_E_MISMATCH);
    assert_non_null(strstr(err.message, "seed is 1"));
    json_decref(m);
    json_decref(changed);
    clean_folder();
}

static void test_samples_without_a_manifest_are_nobodys(void **state) {
    (void)state;
    struct soothe_error       err;
    struct soothe__eval_plan  plan;
    struct soothe__eval_store s;
    json_t                   *m = manifest(&plan);
    clean_folder();
    must(soothe__eval_store_open(&s, FOLDER, m, false, &err), &err);
    append_unit(&s, 0, 0);
    soothe__eval_store_close(&s);
    char *path = soothe__format("%s/manifest.json", FOLDER);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(soothe__eval_store_open(&s, FOLDER, m, true, &err), SOOTHE_E_MISMATCH);
    assert_non_null(strstr(err.message, "no manifest.json"));
    assert_false(soothe__file_exists(path));
    free(path);
    json_decref(m);
    clean_folder();
}

/* A program that a scorer started may outlive a killed run: it must not hold the folder. */
static void test_the_lock_is_not_inherited(void **state) {
    (void)state;
    struct soothe_error       err;
    struct soothe__eval_plan  plan;
    struct soothe__eval_store s;
    json_t                   *m = manifest(&plan);
    clean_folder();
    must(soothe__eval_store_open(&s, FOLDER, m, false, &err), &err);
    assert_true(fcntl(fileno(s.samples), F_GETFD) & FD_CLOEXEC);
    assert_true(fcntl(fileno(s.timing), F_GETFD) & FD_CLOEXEC);
    soothe__eval_store_close(&s);
    json_decref(m);
    clean_folder();
}

/* The disk is full in the middle of a line: it is cut off, and nothing is put behind what may be left of it. */
static void test_a_failed_append_is_the_last(void **state) {
    (void)state;
    struct soothe_error       err;
    struct soothe__eval_plan  plan;
    struct soothe__eval_store s;
    struct rlimit             limit, small;
    struct stat               info;
    json_t                   *m    = manifest(&plan);
    char                     *line = record_line(0, 4, 0.25);
    clean_folder();
    must(soothe__eval_store_open(&s, FOLDER, m, false, &err), &err);
    append_unit(&s, 0, 0);
    assert_int_equal(fstat(fileno(s.samples), &info), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small          = limit;
    small.rlim_cur = (rlim_t)info.st_size + 10;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    const struct soothe__eval_unit u      = soothe__eval_unit_at(&s.plan, 0, 2);
    const enum soothe_status       first  = soothe__eval_store_append(&s, &u, line, strlen(line), NULL, &err);
    const off_t                    before = info.st_size;
    setrlimit(RLIMIT_FSIZE, &limit);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(first, SOOTHE_E_IO);
    assert_int_equal(fstat(fileno(s.samples), &info), 0);
    assert_int_equal(info.st_size, before);
    assert_int_equal(soothe__eval_store_append(&s, &u, line, strlen(line), NULL, &err), SOOTHE_E_IO);
    soothe__eval_store_close(&s);
    must(soothe__eval_store_open(&s, FOLDER, m, true, &err), &err);
    assert_int_equal(n_units(&s), 1);
    append_unit(&s, 0, 2);
    soothe__eval_store_close(&s);
    must(soothe__eval_store_open(&s, FOLDER, m, true, &err), &err);
    assert_int_equal(n_units(&s), 2);
    soothe__eval_store_close(&s);
    free(line);
    json_decref(m);
    clean_folder();
}

/* ---- conditional perplexity ---- */

/* -log p of a text's tokens by llama_decode alone, one token at a time, sums in long double. */
static double slow_nll(struct llama_model *model, const llama_token *prompt, int32_t n_prompt, const llama_token *text,
                       int32_t n) {
    struct llama_context_params p    = llama_context_default_params();
    const int32_t               V    = llama_vocab_n_tokens(llama_model_get_vocab(model));
    struct llama_context       *ctx  = NULL;
    long double                 loss = 0;
    p.n_ctx                          = 64;
    ctx                              = llama_init_from_model(model, p);
    assert_non_null(ctx);
    for (int32_t i = 0; i + 1 < n_prompt + n; i++) {
        llama_token token = i < n_prompt ? prompt[i] : text[i - n_prompt];
        assert_int_equal(llama_decode(ctx, llama_batch_get_one(&token, 1)), 0);
        if (i < n_prompt - 1)
            continue;
        const float *z   = llama_get_logits_ith(ctx, -1);
        long double  sum = 0;
        for (int32_t k = 0; k < V; k++)
            sum += expl((long double)z[k]);
        loss += logl(sum) - (long double)z[text[i + 1 - n_prompt]];
    }
    llama_free(ctx);
    return (double)loss;
}

/* The prompt shared by sequences, several passes where there is no room for all. */
static void test_shared_prompts_give_the_likelihoods_of_single_tokens(void **state) {
    (void)state;
    struct soothe_error          err;
    const struct tiny_options    tiny = {.family = TINY_LLAMA, .seed = 3};
    struct soothe_session_params p    = soothe_session_params_default();
    struct llama_model_params    lp   = llama_model_default_params();
    struct soothe_session       *s;
    const llama_token            prompt[]    = {5, 6, 7, 8, 9};
    const llama_token            texts[4][6] = {{10, 11, 12, 13, 14, 15}, {20, 21}, {30}, {40, 41, 42, 43}};
    const int32_t                sizes[4]    = {6, 2, 1, 4};
    struct soothe__conditional   all[5];
    assert_true(tiny_model_write("eval_tiny.gguf", &tiny));
    struct llama_model *model = llama_model_load_from_file("eval_tiny.gguf", lp);
    assert_non_null(model);
    p.context.n_ctx     = 16; /* what llama.cpp makes of it is enough for some at a time */
    p.context.n_seq_max = 3;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    for (int i = 0; i < 4; i++)
        all[i] = (struct soothe__conditional){.tokens = texts[i], .n_tokens = sizes[i]};
    all[4] = (struct soothe__conditional){.n_tokens = 0};
    must(soothe__conditional_nll(s, prompt, 5, all, 5, &err), &err);
    for (int i = 0; i < 4; i++) {
        const double slow = slow_nll(model, prompt, 5, texts[i], sizes[i]);
        assert_int_equal(all[i].n_counted, sizes[i]);
        assert_true(slow > 0 && fabs(all[i].nll - slow) < 1e-3 * slow); /* other batches round differently */
    }
    assert_int_equal(all[4].n_counted, 0);
    soothe_session_free(s);
    llama_model_free(model);
    unlink("eval_tiny.gguf");
}

/* A model of learned positions has none behind its context: what does not fit is not measured, and nothing aborts. */
static void test_what_a_model_has_no_positions_for_is_not_measured(void **state) {
    (void)state;
    struct soothe_error          err;
    const struct tiny_options    tiny = {.family = TINY_GPT2, .seed = 3, .n_context = 32};
    struct soothe_session_params p    = soothe_session_params_default();
    struct soothe_session       *s;
    llama_token                  tokens[64];
    assert_true(tiny_model_write("eval_tiny.gguf", &tiny));
    struct llama_model *model = llama_model_load_from_file("eval_tiny.gguf", llama_model_default_params());
    assert_non_null(model);
    p.context.n_ctx     = 512; /* room enough, of no use */
    p.context.n_seq_max = 3;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    assert_int_equal(soothe__conditional_most(soothe_session_context(s)), 32);
    for (int i = 0; i < 64; i++)
        tokens[i] = 5 + i;
    struct soothe__conditional items[] = {{.tokens = tokens, .n_tokens = 7},
                                          {.tokens = tokens, .n_tokens = 28},
                                          {.tokens = tokens, .n_tokens = 27},
                                          {.tokens = tokens, .n_tokens = 60}};
    must(soothe__conditional_nll(s, tokens, 5, items, 4, &err), &err);
    assert_int_equal(items[0].n_counted, 7);
    assert_int_equal(items[1].n_counted, 0);
    assert_int_equal(items[2].n_counted, 27);
    assert_int_equal(items[3].n_counted, 0);
    assert_true(items[0].nll > 0 && items[1].nll == 0);
    assert_int_equal(soothe__conditional_nll(s, tokens, 33, items, 1, &err), SOOTHE_E_ARGUMENT);
    soothe_session_free(s);
    llama_model_free(model);
    unlink("eval_tiny.gguf");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_are_read_from_one_line),
        cmocka_unit_test(test_bad_methods_are_refused_with_a_sentence),
        cmocka_unit_test(test_units_cover_every_item_once),
        cmocka_unit_test(test_the_first_setting_that_differs_is_named),
        cmocka_unit_test(test_a_record_comes_back_as_it_was),
        cmocka_unit_test(test_reasons_of_all_scorers_come_back),
        cmocka_unit_test(test_records_that_do_not_fit_the_manifest_are_refused),
        cmocka_unit_test(test_a_torn_end_costs_one_unit_and_no_more),
        cmocka_unit_test(test_damage_before_the_end_is_refused),
        cmocka_unit_test(test_a_folder_belongs_to_one_run_and_one_process),
        cmocka_unit_test(test_samples_without_a_manifest_are_nobodys),
        cmocka_unit_test(test_the_lock_is_not_inherited),
        cmocka_unit_test(test_a_failed_append_is_the_last),
        cmocka_unit_test(test_shared_prompts_give_the_likelihoods_of_single_tokens),
        cmocka_unit_test(test_what_a_model_has_no_positions_for_is_not_measured),
    };
    llama_log_set(quiet, NULL);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
