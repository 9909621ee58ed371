/* SPDX-License-Identifier: Apache-2.0
 * Multiple-choice questions: read, put into forms, measured against a slow loop of llama_decode over one text at a
 * time, counted by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "engine/text_tokens.h"
#include "eval/conditional.h"
#include "eval/utility.h"
#include "fusion/calibrator_file.h"
#include "test_support.h"
#include "tiny_model.h"

#define MODEL "test_utility_model.gguf"
#define OTHER "test_utility_other.gguf"
#define CALIBRATOR "test_utility_calibrator.gguf"
#define DATA "test_utility.jsonl"
#define RESULTS "test_utility_results.jsonl"

static struct soothe_error err;

static int tear_down(void **state) {
    (void)state;
    static const char *const files[] = {MODEL, OTHER, CALIBRATOR, DATA, RESULTS};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        unlink(files[i]);
    return 0;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

static const char *const DATA_FILES[] = {DATA, NULL};

static void write_data(const char *text) {
    FILE *f = fopen(DATA, "wb");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static struct soothe__quizzes read_data(const char *text) {
    const struct soothe__quiz_source s = {.files = DATA_FILES};
    struct soothe__quizzes           q;
    write_data(text);
    must(soothe__quizzes_read(&q, &s, &err), &err);
    return q;
}

/* The expected texts are those of a Python session with the rules of lm-evaluation-harness:
 *   pre = lambda t: re.sub("\\[.*?\\]", "", t.strip().replace(" [title]", ". ")).replace("  ", " ")
 *   pre(activity_label + ": " + ctx_a + " " + ctx_b.capitalize()) */
static void test_hellaswag_rows_become_the_harness_texts(void **state) {
    (void)state;
    struct soothe__quizzes q =
        read_data("{\"activity_label\": \"Family Life\", \"ctx_a\": \"[header] How to nap [title] Find a bed. [step] "
                  "Lie   down.\", "
                  "\"ctx_b\": \"then John SLEEPS [x\", \"ctx\": \"unused\", \"label\": \"1\", "
                  "\"endings\": [\"  [substeps] One [b]  two. [title] Three ]  \", \"four\"]}\n"
                  "{\"ctx\": \"Nap: [header] as it is \", \"endings\": [\"a\", \" b \", \"c\"], \"label\": 2}\n");
    assert_int_equal(q.n, 1);
    assert_string_equal(q.items[0].name, "test_utility");
    assert_int_equal(q.items[0].form, SOOTHE__QUIZ_PLAIN);
    const struct soothe__question *a = &q.items[0].items[0], *b = &q.items[0].items[1];
    assert_string_equal(a->prompt, "Family Life: How to nap. Find a bed. Lie  down. Then john sleeps [x");
    assert_string_equal(a->choices[0], "  One  two.. Three ]");
    assert_string_equal(a->choices[1], " four");
    assert_int_equal(a->right, 1);
    assert_string_equal(b->prompt, "Nap: [header] as it is");
    assert_string_equal(b->choices[1], " b");
    assert_int_equal(b->n, 3);
    assert_int_equal(b->right, 2);
    soothe__quizzes_free(&q);
}

static void test_questions_are_asked_by_letter_and_by_text(void **state) {
    (void)state;
    struct soothe__quizzes q = read_data(
        "{\"question\": \"Sky?\", \"choices\": [\"red\", \"blue\"], \"answer\": 1, \"subject\": \"high_school_sky\"}\n"
        "{\"prompt\": \" Which?\\nA. is no choice.\\n\\nA. one\\nB. two\\nC. three\", \"answer\": \"C\"}\n");
    assert_int_equal(q.n, 2);
    const struct soothe__quiz *letter = &q.items[0], *cloze = &q.items[1];
    assert_int_equal(letter->form, SOOTHE__QUIZ_LETTER);
    assert_int_equal(cloze->form, SOOTHE__QUIZ_CLOZE);
    assert_string_equal(letter->items[0].prompt,
                        "The following are multiple choice questions (with answers) about high school sky.\n\n"
                        "Sky?\nA. red\nB. blue\nAnswer:");
    assert_string_equal(letter->items[0].choices[1], " B");
    assert_string_equal(cloze->items[0].prompt, "The following are questions (with answers) about high school sky.\n\n"
                                                "Question: Sky?\nAnswer:");
    assert_string_equal(cloze->items[0].choices[1], " blue");
    assert_int_equal(cloze->items[0].right, 1);
    assert_string_equal(letter->items[1].prompt, "The following are multiple choice questions (with answers).\n\n"
                                                 "Which?\nA. is no choice.\nA. one\nB. two\nC. three\nAnswer:");
    assert_string_equal(cloze->items[1].choices[2], " three");
    assert_int_equal(cloze->items[1].n, 3);
    assert_int_equal(letter->items[1].right, 2);
    soothe__quizzes_free(&q);
}

static void test_named_fields_and_forms(void **state) {
    (void)state;
    const struct soothe__quiz_source s = {.files    = DATA_FILES,
                                          .question = "q",
                                          .choices  = "options",
                                          .answer   = "correct",
                                          .forms    = {[SOOTHE__QUIZ_PLAIN] = true},
                                          .limit    = 1};
    struct soothe__quizzes           q;
    write_data("{\"q\": \"The sky is\", \"options\": [\"red\", \"blue\"], \"correct\": \"blue\"}\nnot read\n");
    must(soothe__quizzes_read(&q, &s, &err), &err);
    assert_int_equal(q.n, 1);
    assert_string_equal(q.items[0].items[0].prompt, "The sky is");
    assert_int_equal(q.items[0].items[0].right, 1);
    soothe__quizzes_free(&q);
}

static void test_bad_rows_are_named_by_their_line(void **state) {
    (void)state;
    static const struct {
        const char *row, *sentence;
    } rows[] = {
        {"[1]", "no JSON object"},
        {"{\"question\": \"x\", \"choices\": [\"a\", \"b\"]}", "there is no \"answer\""},
        {"{\"question\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": 2}", "\"answer\" is none of the 2 choices"},
        {"{\"question\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": -1}", "\"answer\" is none of the 2 choices"},
        {"{\"question\": \"x\", \"choices\": [\"a\", \"b\"], \"answer\": \"C\"}",
         "\"answer\" is none of the 2 choices"},
        {"{\"question\": \"x\", \"choices\": [\"a\"], \"answer\": 0}", "\"choices\" must have 2 to 26 choices, not 1"},
        {"{\"question\": \"x\", \"choices\": [\"a\", \" \"], \"answer\": 0}", "choice 1 of \"choices\" is empty"},
        {"{\"question\": \"x\", \"choices\": [\"a\", 5], \"answer\": 0}", "choice 1 of \"choices\" is no text"},
        {"{\"question\": \" \", \"choices\": [\"a\", \"b\"], \"answer\": 0}", "\"question\" is empty"},
        {"{\"prompt\": \"x\\nA. b\", \"answer\": \"A\"}", "\"prompt\" does not end in choices"},
        {"{\"endings\": [\"a\", \"b\"], \"label\": 0}", "there is no \"ctx\""},
        {"{\"ctx\": \"x\", \"endings\": [\"a\", \"b\"], \"label\": \"\"}", "\"label\" is none of the 2 choices"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char                       text[512], where[64];
        struct soothe__quiz_source s = {.files = DATA_FILES};
        struct soothe__quizzes     q;
        snprintf(text, sizeof text, "\n{\"ctx\": \"x\", \"endings\": [\"a\", \"b\"], \"label\": 0}\n%s\n", rows[i].row);
        snprintf(where, sizeof where, "line 3 of %s: ", DATA);
        write_data(text);
        assert_int_equal(soothe__quizzes_read(&q, &s, &err), SOOTHE_E_FORMAT);
        if (strncmp(err.message, where, strlen(where)) != 0 || !strstr(err.message, rows[i].sentence))
            fail_msg("%s", err.message);
        s.skip_bad = true;
        must(soothe__quizzes_read(&q, &s, &err), &err);
        assert_int_equal(q.items[0].n, 1);
        assert_int_equal(q.n_bad, 1);
        soothe__quizzes_free(&q);
    }
}

static void test_the_built_in_suites_hold_forty_questions_each(void **state) {
    (void)state;
    static const char *const         names[] = {"hellaswag-mini", "mmlu-mini", NULL};
    const struct soothe__quiz_source s       = {.suites = names};
    struct soothe__quizzes           q;
    must(soothe__quizzes_read(&q, &s, &err), &err);
    assert_int_equal(q.n, 3); /* plain; letter, cloze */
    for (size_t i = 0; i < q.n; i++) {
        assert_int_equal(q.items[i].n, 40);
        for (size_t k = 0; k < 40; k++)
            assert_int_equal(q.items[i].items[k].n, 4);
    }
    soothe__quizzes_free(&q);
}

/* ---- likelihoods ------------------------------------------------------------------------------------------- */

static const char QUESTIONS[] =
    "{\"ctx\": \"The cat sat on\", \"endings\": [\"the mat.\", \"a hat, and slept\", \"x\"], \"label\": 0}\n"
    "{\"ctx\": \"n\", \"endings\": [\"no\", \"nothing at all, said the other one\"], \"label\": 1}\n"
    "{\"question\": \"How many legs?\", \"choices\": [\"four\", \"two and a half\", \"six\", \"eight\"], \"answer\": "
    "0}\n"
    "{\"question\": \"Why?\", \"choices\": [\"because\", \"\xc3\xa9t\xc3\xa9\"], \"answer\": 1, \"subject\": "
    "\"all\"}\n";

static void write_calibrator(void) {
    enum { D = 64 };
    struct soothe__rng rng = soothe__rng_seed(5, 7);
    float             *b   = soothe__calloc(D * D, sizeof *b);
    assert_non_null(b);
    for (size_t i = 0; i < D * D; i++)
        b[i] = (float)(0.05 * soothe__rng_normal(&rng));
    const struct soothe__calibrator_spec spec = {.name        = "test",
                                                 .target_path = MODEL,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 0.5f,
                                                 .d_tgt       = D,
                                                 .b           = b,
                                                 .matrix_type = GGML_TYPE_F32};
    must(soothe__calibrator_write(CALIBRATOR, &spec, &err), &err);
    free(b);
}

static double log_sum(const float *z, int32_t n) {
    long double sum = 0;
    for (int32_t i = 0; i < n; i++)
        sum += expl((long double)z[i] - (long double)z[0]);
    return (double)((long double)z[0] + logl(sum));
}

/* The engine's flash attention rounds otherwise for other numbers of tokens (1e-2 nats of 73), and its cache is f16.
 * What is to be compared to 1e-4 runs without both. */
static struct soothe_session_params session_params(uint32_t n_seq, bool exact) {
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = 512;
    p.context.n_threads = p.context.n_threads_batch = 1;
    p.context.n_seq_max                             = n_seq;
    if (exact) {
        p.context.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
        p.context.type_k = p.context.type_v = GGML_TYPE_F32;
    }
    return p;
}

/* One text at a time, whole, in a context of its own; through soothe_decode where a calibrator is given. */
static double slow_log_p(struct llama_model *model, const struct soothe_calibrator *cal, bool exact, const char *prompt,
                         const char *choice) {
    const struct llama_vocab          *vocab = llama_model_get_vocab(model);
    const struct soothe_session_params p     = session_params(1, exact);
    struct soothe_session             *s     = NULL;
    struct llama_context              *ctx   = NULL;
    llama_token                       *tokens;
    int32_t                            n, first;
    double                             log_p = 0;
    if (cal)
        must(soothe_session_new(&s, model, cal, &p, &err), &err);
    else
        assert_non_null(ctx = llama_init_from_model(model, p.context));
    must(soothe__tokenize_pair(&tokens, &n, &first, vocab, prompt, strlen(prompt), choice, strlen(choice), &err), &err);
    assert_true(first > 0 && n > first);
    struct llama_batch batch = llama_batch_init(n, 0, 1);
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(&batch, tokens[i], i, 0, true);
    if (cal)
        must(soothe_decode(s, batch, &err), &err);
    else
        assert_int_equal(llama_decode(ctx, batch), 0);
    for (int32_t i = first - 1; i + 1 < n; i++) {
        const float *z = cal ? soothe_get_logits_ith(s, i) : llama_get_logits_ith(ctx, i);
        log_p += (double)z[tokens[i + 1]] - log_sum(z, llama_vocab_n_tokens(vocab));
    }
    llama_batch_free(batch);
    free(tokens);
    soothe_session_free(s);
    if (ctx)
        llama_free(ctx);
    return log_p;
}

static void check_near(const struct soothe__question *q, size_t i_choice, double fast, double slow, double tolerance) {
    if (!(fabs(slow - fast) < tolerance))
        fail_msg("%s|%s: %.9g, slowly %.9g", q->prompt, q->choices[i_choice], fast, slow);
}

/* The choices share their prompt's cells; alone each reads the prompt itself. n_seq 1: they share it one after another.
 */
static void check_texts(const struct soothe__quizzes *quizzes, struct llama_model *model,
                        const struct soothe_calibrator *cal, uint32_t n_seq, double tolerance) {
    const struct soothe_session_params p = session_params(n_seq, true);
    struct soothe_session             *s;
    struct soothe__conditional         results[SOOTHE__QUIZ_CHOICES_MAX];
    must(soothe_session_new(&s, model, cal, &p, &err), &err);
    for (size_t i = 0; i < quizzes->n; i++)
        for (size_t k = 0; k < quizzes->items[i].n; k++) {
            const struct soothe__question *q = &quizzes->items[i].items[k];
            must(soothe__conditional_texts(s, q->prompt, (const char *const *)q->choices, q->n, results, &err), &err);
            for (size_t c = 0; c < q->n; c++) {
                assert_int_equal(results[c].n_counted, results[c].n_tokens);
                check_near(q, c, -results[c].nll, slow_log_p(model, cal, true, q->prompt, q->choices[c]), tolerance);
            }
        }
    soothe_session_free(s);
}

static struct soothe__utility measure(const char *const *models, size_t n_models, const char *methods,
                                      const struct soothe__quizzes *q, int32_t n_threads, const char *out,
                                      bool resume) {
    struct soothe__eval_methods m;
    struct soothe__utility      u;
    must(soothe__eval_methods_parse(&m, methods, &err), &err);
    const struct soothe__utility_options o = {.model_paths = models,
                                              .model_names = models,
                                              .n_models    = n_models,
                                              .methods     = &m,
                                              .quizzes     = q,
                                              .n_threads   = n_threads,
                                              .out         = out,
                                              .resume      = resume,
                                              .quiet       = true};
    must(soothe__utility_measure(&u, &o, &err), &err);
    soothe__eval_methods_free(&m);
    return u;
}

static const char *const ONE_MODEL[] = {MODEL, OTHER};

static void check_results(const struct soothe__utility *u, size_t i_system, const struct soothe__quizzes *quizzes,
                          struct llama_model *model, const struct soothe_calibrator *cal) {
    const double *log_p = &u->log_p[i_system * u->n_texts];
    for (size_t i = 0; i < quizzes->n; i++)
        for (size_t k = 0; k < quizzes->items[i].n; k++)
            for (size_t c = 0; c < quizzes->items[i].items[k].n; c++, log_p++) {
                const struct soothe__question *q    = &quizzes->items[i].items[k];
                const double                   slow = slow_log_p(model, cal, false, q->prompt, q->choices[c]);
                check_near(q, c, *log_p, slow, 1e-3 * fabs(slow));
            }
}

static void check_family(enum tiny_family family, bool sentence_piece, double tolerance) {
    assert_true(
        tiny_model_write(MODEL, &(struct tiny_options){.family = family, .seed = 3, .sentence_piece = sentence_piece}));
    write_calibrator();
    struct llama_model *model = llama_model_load_from_file(MODEL, llama_model_default_params());
    assert_non_null(model);
    struct soothe_calibrator *cal;
    must(soothe_calibrator_open(&cal, CALIBRATOR, MODEL, NULL, &err), &err);
    struct soothe__quizzes q = read_data(QUESTIONS);
    assert_int_equal(q.n, 3);
    struct soothe__utility u =
        measure(ONE_MODEL, 1, "plain,fusion:calibrator=" CALIBRATOR ",fusion:strength=0:calibrator=" CALIBRATOR, &q, 1,
                NULL, false);
    assert_int_equal(u.n_systems, 3);
    check_results(&u, 0, &q, model, NULL);
    check_results(&u, 1, &q, model, cal);
    check_texts(&q, model, NULL, 4, tolerance);
    check_texts(&q, model, cal, 4, tolerance);
    check_texts(&q, model, NULL, 1, tolerance);
    assert_memory_equal(u.log_p, u.log_p + 2 * u.n_texts, u.n_texts * sizeof *u.log_p); /* strength 0 is plain */
    assert_memory_not_equal(u.log_p, u.log_p + u.n_texts, u.n_texts * sizeof *u.log_p);
    struct soothe__utility v = measure(ONE_MODEL, 1, "plain", &q, 3, NULL, false);
    assert_memory_equal(u.log_p, v.log_p, u.n_texts * sizeof *u.log_p); /* by however many workers */
    soothe__utility_free(&v);
    soothe__utility_free(&u);
    soothe__quizzes_free(&q);
    soothe_calibrator_free(cal);
    llama_model_free(model);
}

static void test_likelihoods_are_those_of_a_slow_loop(void **state) {
    (void)state;
    check_family(TINY_LLAMA, false, 1e-4);
    check_family(TINY_LLAMA, true, 1e-4);
    check_family(TINY_GEMMA3, false,
                 1e-3); /* the engine reads GELU from a table of f16, where a last bit becomes many */
    check_family(TINY_GPT2, false, 1e-3);
}

static void test_a_question_too_long_is_a_null_and_no_wrong_answer(void **state) {
    (void)state;
    char text[2048], word[700];
    memset(word, 'x', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    snprintf(text, sizeof text,
             "{\"ctx\": \"a b\", \"endings\": [\"c\", \"d\"], \"label\": 0}\n"
             "{\"ctx\": \"%s\", \"endings\": [\"c\", \"d\"], \"label\": 0}\n"
             "{\"ctx\": \"a\", \"endings\": [\"c\", \"%s\"], \"label\": 0}\n",
             word, word);
    assert_true(tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3, .n_context = 64}));
    struct soothe__quizzes         q = read_data(text);
    struct soothe__utility         u = measure(ONE_MODEL, 1, "plain", &q, 1, NULL, false);
    struct soothe__utility_figures f;
    must(soothe__utility_figures(&f, &u, &q, &err), &err);
    assert_int_equal(f.n, 3);
    assert_int_equal(f.n_null, 2);
    assert_true(isfinite(u.log_p[0]) && isnan(u.log_p[2]) && isnan(u.log_p[4]) && isnan(u.log_p[5]));
    assert_true(f.acc.value == 0 || f.acc.value == 1); /* of the one question that fits */
    soothe__utility_free(&u);
    soothe__quizzes_free(&q);
}

static void test_methods_without_a_likelihood_are_refused_by_name(void **state) {
    (void)state;
    static const struct {
        const char *chain, *name;
    } chains[]         = {{"rad", "rad"},
                          {"sasa+fusion", "sasa"},
                          {"fusion+best-of-n", "best-of-n"},
                          {"cmd+fusion", "cmd"},
                          {"safe-prompt", "safe-prompt"}};
    const char *method = NULL;
    for (size_t i = 0; i < sizeof chains / sizeof *chains; i++) {
        struct soothe__chain chain = {.n = 0};
        must(soothe__chain_add(&chain, chains[i].chain, &err), &err);
        assert_non_null(soothe__utility_refuses(&chain, &method));
        assert_string_equal(method, chains[i].name);
        soothe__chain_free(&chain);
    }
    struct soothe__chain chain = {.n = 0};
    must(soothe__chain_add(&chain, "auto", &err), &err);
    must(soothe__chain_add(&chain, "word-filter+control-vector+self-debias+lm-steer+none", &err), &err);
    assert_null(soothe__utility_refuses(&chain, &method));
    soothe__chain_free(&chain);
}

/* ---- figures ------------------------------------------------------------------------------------------------ */

/* Five questions of choices " aa" and " b", the first right; likelihoods by system.
 *   question     1           2           3           4          5
 *   first        -2 -3       -3 -2       -5 -2       null       -1 -9     acc 1 0 0 - 1   per byte 1 1 0 - 1
 *   second       -3 -2       -3 -2       -2 -3       -1 -9      -9 -1     acc 0 0 1 1 0   per byte 1 1 1 1 0
 * per byte the first choice's is halved; question 4 counts for no difference. */
static void test_accuracies_and_differences_by_hand(void **state) {
    (void)state;
    struct soothe__quizzes       q       = read_data("{\"ctx\": \"x\", \"endings\": [\"aa\", \"b\"], \"label\": 0}\n"
                                                                 "{\"ctx\": \"x\", \"endings\": [\"aa\", \"b\"], \"label\": 0}\n"
                                                                 "{\"ctx\": \"x\", \"endings\": [\"aa\", \"b\"], \"label\": 0}\n"
                                                                 "{\"ctx\": \"x\", \"endings\": [\"aa\", \"b\"], \"label\": 0}\n"
                                                                 "{\"ctx\": \"x\", \"endings\": [\"aa\", \"b\"], \"label\": 0}\n");
    double                       log_p[] = {-2, -3, -3, -2, -5, -2, NAN, NAN, -1, -9, /* the second: */
                                            -3, -2, -3, -2, -2, -3, -1,  -9,  -9, -1};
    size_t                       first[] = {0, 2, 4, 6, 8};
    const struct soothe__utility u = {.n_systems = 2, .n_questions = 5, .n_texts = 10, .first = first, .log_p = log_p};
    struct soothe__utility_figures f[2];
    must(soothe__utility_figures(f, &u, &q, &err), &err);
    assert_int_equal(f[0].n_null, 1);
    assert_int_equal(f[1].n_null, 0);
    assert_true(f[0].acc.value == 0.5 && f[0].acc_norm.value == 0.75);
    assert_true(f[1].acc.value == 0.4 && f[1].acc_norm.value == 0.8);
    assert_true(isnan(f[0].change.value) && isnan(f[0].change_norm.value));
    assert_true(f[1].change.value == 0.25 - 0.5);       /* 0 0 1 0 against 1 0 0 1 */
    assert_true(f[1].change_norm.value == 0.75 - 0.75); /* 1 1 1 0 against 1 1 0 1 */
    assert_int_equal(f[1].n_lost, 1);
    assert_int_equal(f[1].n_gained, 1);
    assert_true(f[1].acc_norm.lo < 0.8 && f[1].acc_norm.hi == 1);
    q.items[0].form = SOOTHE__QUIZ_LETTER; /* then only acc is told, and what was lost is of it */
    must(soothe__utility_figures(f, &u, &q, &err), &err);
    assert_true(isnan(f[1].acc_norm.value) && f[1].acc.value == 0.4);
    assert_int_equal(f[1].n_lost, 2);
    soothe__quizzes_free(&q);
}

/* The share's interval of 400 questions against the normal approximation, and a paired one that is narrower than an
 * unpaired one could be: of 400 questions 20 are lost, none is gained. */
static void test_intervals_are_paired_by_question(void **state) {
    (void)state;
    enum { N = 400 };
    static double log_p[2 * 2 * N];
    static size_t first[N];
    char         *text = soothe__calloc(N, 64);
    assert_non_null(text);
    for (size_t i = 0; i < N; i++)
        strcat(text, "{\"ctx\": \"x\", \"endings\": [\"a\", \"b\"], \"label\": 0}\n");
    struct soothe__quizzes q = read_data(text);
    free(text);
    for (size_t i = 0; i < N; i++) {
        first[i]               = 2 * i;
        log_p[2 * i]           = i % 2 ? -1 : -3; /* half of them right */
        log_p[2 * i + 1]       = -2;
        log_p[2 * (N + i)]     = i % 2 && i >= 40 ? -1 : -3;
        log_p[2 * (N + i) + 1] = -2;
    }
    const struct soothe__utility u = {
        .n_systems = 2, .n_questions = N, .n_texts = 2 * N, .first = first, .log_p = log_p};
    struct soothe__utility_figures f[2];
    must(soothe__utility_figures(f, &u, &q, &err), &err);
    const double half = 1.96 * sqrt(0.5 * 0.5 / N), paired = 1.96 * sqrt(0.05 * 0.95 / N);
    assert_true(fabs(f[0].acc.hi - (0.5 + half)) < 0.1 * half && fabs(f[0].acc.lo - (0.5 - half)) < 0.1 * half);
    assert_true(fabs(f[1].change.value + 0.05) < 1e-12);
    assert_true(fabs(f[1].change.lo - (-0.05 - paired)) < 0.15 * paired);
    assert_true(fabs(f[1].change.hi - (-0.05 + paired)) < 0.15 * paired);
    assert_int_equal(f[1].n_lost, 20);
    assert_int_equal(f[1].n_gained, 0);
    soothe__quizzes_free(&q);
}

/* ---- the file of results ------------------------------------------------------------------------------------ */

static enum soothe_status try_again(const struct soothe__quizzes *q, const char *const *models, bool resume) {
    struct soothe__eval_methods m;
    struct soothe__utility      u;
    must(soothe__eval_methods_parse(&m, "plain", &err), &err);
    const struct soothe__utility_options o      = {.model_paths = models,
                                                   .model_names = models,
                                                   .n_models    = 2,
                                                   .methods     = &m,
                                                   .quizzes     = q,
                                                   .out         = RESULTS,
                                                   .resume      = resume,
                                                   .quiet       = true};
    const enum soothe_status             status = soothe__utility_measure(&u, &o, &err);
    soothe__utility_free(&u);
    soothe__eval_methods_free(&m);
    return status;
}

static void test_a_run_goes_on_from_its_file(void **state) {
    (void)state;
    static const char *const changed[] = {OTHER, OTHER};
    char                    *text;
    size_t                   size, cut = 0;
    assert_true(tiny_model_write(MODEL, &(struct tiny_options){.family = TINY_LLAMA, .seed = 3}));
    assert_true(tiny_model_write(OTHER, &(struct tiny_options){.family = TINY_LLAMA, .seed = 4, .other_words = true}));
    struct soothe__quizzes q = read_data(QUESTIONS);
    struct soothe__utility u = measure(ONE_MODEL, 2, "plain", &q, 1, RESULTS, false);
    must(soothe__read_file(&text, &size, RESULTS, &err), &err);
    for (int lines = 0; lines < 5; cut++) /* the settings, a system, three questions; then half a line */
        lines += text[cut] == '\n';
    assert_int_equal(truncate(RESULTS, (off_t)cut + 20), 0);
    assert_int_equal(try_again(&q, ONE_MODEL, false), SOOTHE_E_ARGUMENT);
    struct soothe__utility v = measure(ONE_MODEL, 2, "plain", &q, 1, RESULTS, true);
    assert_memory_equal(u.log_p, v.log_p, 2 * u.n_texts * sizeof *u.log_p);
    char  *again;
    size_t n_again;
    must(soothe__read_file(&again, &n_again, RESULTS, &err), &err);
    assert_int_equal(n_again, size);
    assert_memory_equal(again, text, size); /* one worker: the order is the same, too */
    assert_int_equal(try_again(&q, changed, true), SOOTHE_E_MISMATCH);
    q.items[0].sha256[0] ^= 1;
    assert_int_equal(try_again(&q, ONE_MODEL, true), SOOTHE_E_MISMATCH);
    q.items[0].sha256[0] ^= 1;
    text[cut + 3] = '!'; /* in the middle of the file */
    FILE *f       = fopen(RESULTS, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, size, f), size);
    fclose(f);
    assert_int_equal(try_again(&q, ONE_MODEL, true), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 6 of " RESULTS));
    free(text);
    free(again);
    soothe__utility_free(&u);
    soothe__utility_free(&v);
    soothe__quizzes_free(&q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hellaswag_rows_become_the_harness_texts),
        cmocka_unit_test(test_questions_are_asked_by_letter_and_by_text),
        cmocka_unit_test(test_named_fields_and_forms),
        cmocka_unit_test(test_bad_rows_are_named_by_their_line),
        cmocka_unit_test(test_the_built_in_suites_hold_forty_questions_each),
        cmocka_unit_test(test_likelihoods_are_those_of_a_slow_loop),
        cmocka_unit_test(test_a_question_too_long_is_a_null_and_no_wrong_answer),
        cmocka_unit_test(test_methods_without_a_likelihood_are_refused_by_name),
        cmocka_unit_test(test_accuracies_and_differences_by_hand),
        cmocka_unit_test(test_intervals_are_paired_by_question),
        cmocka_unit_test(test_a_run_goes_on_from_its_file),
    };
    return cmocka_run_group_tests(tests, quiet_engine, tear_down);
}
