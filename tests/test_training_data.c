/* SPDX-License-Identifier: Apache-2.0
 * Texts from JSON lines to tokens, their split and order, the target's states of them, and checkpoints. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/text_tokens.h"
#include "test_support.h"
#include "tiny_model.h"
#include "train/checkpoint.h"
#include "corpus/corpus.h"
#include "train/target_states.h"

#define DATA "test_training_data.jsonl"
#define MODEL "test_training_data.gguf"
#define CHECKPOINT "test_training_data.ckpt"

static int tear_down(void **state) {
    (void)state;
    unlink(DATA);
    unlink(DATA ".xz");
    unlink(DATA ".gz");
    unlink(MODEL);
    unlink(CHECKPOINT);
    return 0;
}

static void write_bytes(const char *path, const void *bytes, size_t size) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
}

static void write_text(const char *text) {
    write_bytes(DATA, text, strlen(text));
}

static void run(const char *command) {
    assert_int_equal(system(command), 0); /* xz and gzip, which every build machine has */
}

static struct soothe__corpus read_corpus(const char *path) {
    struct soothe_error   err;
    struct soothe__corpus c;
    soothe__corpus_init(&c);
    must(soothe__corpus_read(&c, path, &err), &err);
    return c;
}

/* ---- reading --------------------------------------------------------------------------------------- */

static const char GOOD[] = "{\"prompt\": \"a\", \"chosen\": \" kind\", \"rejected\": \" rude\"}\n"
                           "{\"prompt\": \"b\", \"completion\": \" clean\"}\r\n"
                           "\n"
                           "{\"text\": \"alone, with \\u00e4 and \\ud83d\\ude00\"}"; /* no line break at the end */

static void test_pairs_and_texts_are_read_plain_and_compressed(void **state) {
    (void)state;
    char first[65] = "";
    write_text(GOOD);
    run("xz -kf " DATA);
    run("gzip -kf " DATA);
    static const char *const paths[] = {DATA, DATA ".xz", DATA ".gz"};
    for (size_t i = 0; i < 3; i++) {
        struct soothe__corpus c = read_corpus(paths[i]);
        assert_int_equal(c.n_pairs, 1);
        assert_int_equal(c.n_singles, 2);
        assert_int_equal(c.n_texts, 4);
        assert_int_equal(c.n_bad, 0);
        assert_string_equal(c.texts[c.pairs[0].i_rejected].completion, " rude");
        assert_string_equal(c.texts[c.pairs[0].i_rejected].prompt, "a");
        assert_string_equal(c.texts[c.singles[1]].completion, "alone, with \xc3\xa4 and \xf0\x9f\x98\x80");
        assert_string_equal(c.texts[c.singles[1]].prompt, "");
        assert_int_equal(c.sources[0].n_lines, 4);
        if (i == 0)
            memcpy(first, c.sources[0].sha256, sizeof first);
        assert_string_equal(c.sources[0].sha256, first); /* of the unpacked bytes */
        soothe__corpus_free(&c);
    }
}

/* A bad line and the word its reason must name. */
static const struct {
    const char *line, *reason;
} BAD[] = {
    {"nonsense", "not JSON"},
    {"[1, 2]", "not a JSON object"},
    {"{\"prompt\": \"a\"}", "completion"},
    {"{\"prompt\": 3, \"completion\": \"x\"}", "prompt"},
    {"{\"completion\": \"x\"}", "prompt"},
    {"{\"prompt\": \"a\", \"chosen\": \"x\"}", "rejected"},
    {"{\"prompt\": \"a\", \"chosen\": \"x\", \"rejected\": null}", "rejected"},
    {"{\"prompt\": \"a\", \"chosen\": \"x\", \"rejected\": \"x\"}", "the same"},
    {"{\"prompt\": \"a\", \"completion\": \" \\n\"}", "empty"},
    {"{\"text\": \"zero \\u0000 byte\"}", "not JSON"},
    {"{\"text\": \"lone \\ud800 surrogate\"}", "not JSON"},
    {"{\"text\": \"x\", \"text\": \"y\"}", "not JSON"},
    {"{\"text\": \"bytes \xff\xfe\"}", "UTF-8"},
    {"{\"text\": \"cut off\"", "not JSON"},
};

static void test_bad_lines_are_counted_and_the_first_reason_told(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        char text[512];
        snprintf(text, sizeof text, "{\"text\": \"good\"}\n%s\n{\"text\": \"better\"}\n%s\n", BAD[i].line, BAD[i].line);
        write_text(text);
        struct soothe__corpus c = read_corpus(DATA);
        assert_int_equal(c.n_bad, 2);
        assert_int_equal(c.n_singles, 2);
        assert_non_null(strstr(c.first_bad, "line 2 of " DATA));
        if (!strstr(c.first_bad, BAD[i].reason))
            fail_msg("\"%s\" does not name \"%s\"", c.first_bad, BAD[i].reason);
        soothe__corpus_free(&c);
    }
}

/* {"text": "xxx…"} with n letters. */
static char *text_line(size_t n) {
    char *line = soothe__calloc(n + 16, 1);
    assert_non_null(line);
    strcpy(line, "{\"text\": \"");
    memset(line + 10, 'x', n);
    strcpy(line + 10 + n, "\"}\n");
    return line;
}

static void test_huge_lines_and_texts_are_bad_lines(void **state) {
    (void)state;
    static const struct {
        size_t n;
        bool   good;
    } cases[] = {{1 << 20, true}, {(1 << 20) + 1, false}, {(4 << 20) - 12, false}, {5 << 20, false}, {9 << 20, false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *line = text_line(cases[i].n);
        FILE *f    = fopen(DATA, "wb");
        assert_non_null(f);
        fputs("{\"text\": \"before\"}\n", f);
        fputs(line, f);
        fputs("{\"text\": \"after\"}\n", f);
        fclose(f);
        struct soothe__corpus c = read_corpus(DATA);
        assert_int_equal(c.n_bad, !cases[i].good);
        assert_int_equal(c.n_singles, 2 + cases[i].good);
        assert_string_equal(c.texts[c.singles[c.n_singles - 1]].completion, "after");
        assert_true(cases[i].good || strstr(c.first_bad, "longer than") || strstr(c.first_bad, "not JSON"));
        soothe__corpus_free(&c);
        free(line);
    }
}

static void test_repetitions_are_left_out_within_and_across_files(void **state) {
    (void)state;
    struct soothe_error err;
    write_text("{\"text\": \"one\"}\n{\"text\": \"one\"}\n"
               "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"r\"}\n"
               "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": \"r\"}\n"
               "{\"prompt\": \"p\", \"chosen\": \"r\", \"rejected\": \"c\"}\n");
    struct soothe__corpus c = read_corpus(DATA);
    assert_int_equal(c.n_repeated, 2);
    must(soothe__corpus_read(&c, DATA, &err), &err); /* the whole file again */
    assert_int_equal(c.n_singles, 1);
    assert_int_equal(c.n_pairs, 2);
    assert_int_equal(c.n_texts, 3);
    assert_int_equal(c.n_repeated, 7);
    assert_int_equal(c.n_sources, 2);
    soothe__corpus_free(&c);
}

static void expect_read(enum soothe_status expected, const char *path, const char *word) {
    struct soothe_error   err;
    struct soothe__corpus c;
    soothe__corpus_init(&c);
    assert_int_equal(soothe__corpus_read(&c, path, &err), expected);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not name \"%s\"", err.message, word);
    soothe__corpus_free(&c);
}

static void test_files_that_hold_nothing_are_refused(void **state) {
    (void)state;
    expect_read(SOOTHE_E_IO, "no-such-file.jsonl", "no-such-file.jsonl");
    expect_read(SOOTHE_E_IO, ".", "cannot read .");
    write_text("");
    expect_read(SOOTHE_E_FORMAT, DATA, "it is empty");
    write_text("\n\n");
    expect_read(SOOTHE_E_FORMAT, DATA, "it is empty");
    write_text("broken\n{}\n");
    expect_read(SOOTHE_E_FORMAT, DATA, "line 1 of");
}

static void test_damaged_archives_are_refused(void **state) {
    (void)state;
    struct soothe__rng rng = soothe__rng_seed(4, 4);
    FILE              *f   = fopen(DATA, "wb");
    assert_non_null(f);
    for (int i = 0; i < 20000; i++) /* more than a piece of it is packed */
        fprintf(f, "{\"text\": \"number %u\"}\n", soothe__rng_u32(&rng));
    fclose(f);
    run("xz -0 -kf " DATA);
    run("gzip -kf " DATA);
    static const char *const paths[] = {DATA ".xz", DATA ".gz"};
    for (size_t i = 0; i < 2; i++) {
        struct soothe_error err;
        char               *bytes;
        size_t              size;
        must(soothe__read_file(&bytes, &size, paths[i], &err), &err);
        write_bytes(paths[i], bytes, size / 2);
        expect_read(SOOTHE_E_FORMAT, paths[i], "cannot read");
        bytes[size / 2] = (char)(bytes[size / 2] ^ 0x55);
        write_bytes(paths[i], bytes, size);
        if (i == 0) /* libarchive does not compare gzip's checksum */
            expect_read(SOOTHE_E_FORMAT, paths[i], "cannot read");
        free(bytes);
    }
}

/* ---- splitting ------------------------------------------------------------------------------------- */

/* Pairs and texts for prompts 0 … n-1, three pairs a prompt, in the given order. */
static struct soothe__corpus many_texts(int n, bool reversed) {
    struct soothe_error   err;
    struct soothe__corpus c;
    char                  prompt[32], chosen[32], rejected[32];
    soothe__corpus_init(&c);
    for (int k = 0; k < 3 * n; k++) {
        const int i = reversed ? 3 * n - 1 - k : k;
        snprintf(prompt, sizeof prompt, "prompt %d", i % n);
        snprintf(chosen, sizeof chosen, " kind %d", i);
        snprintf(rejected, sizeof rejected, " rude %d", i);
        must(soothe__corpus_add_pair(&c, prompt, chosen, rejected, &err), &err);
        must(soothe__corpus_add_single(&c, i % 2 ? prompt : "", chosen, &err), &err);
    }
    return c;
}

static bool has_prompt(const struct soothe__corpus *c, const char *prompt) {
    for (size_t i = 0; i < c->n_pairs; i++)
        if (strcmp(c->texts[c->pairs[i].i_chosen].prompt, prompt) == 0)
            return true;
    for (size_t i = 0; i < c->n_singles; i++)
        if (*prompt && strcmp(c->texts[c->singles[i]].prompt, prompt) == 0)
            return true;
    return false;
}

static void test_a_split_is_by_prompt_and_depends_on_no_order(void **state) {
    (void)state;
    enum { N = 300 };
    struct soothe_error   err;
    struct soothe__corpus train = many_texts(N, false), held = {0}, train2 = many_texts(N, true), held2 = {0};
    must(soothe__corpus_split(&held, &train, 0.2, 7, &err), &err);
    must(soothe__corpus_split(&held2, &train2, 0.2, 7, &err), &err);
    assert_int_equal(held.n_pairs + train.n_pairs, 3 * N);
    assert_int_equal(held.n_singles + train.n_singles, 3 * N);
    assert_in_range(held.n_pairs, 3 * N / 8, 3 * N * 3 / 10); /* 20 % of 300 prompts, +- 3 deviations */
    assert_int_equal(held.n_pairs, held2.n_pairs);
    for (int i = 0; i < N; i++) {
        char prompt[32];
        snprintf(prompt, sizeof prompt, "prompt %d", i);
        assert_int_not_equal(has_prompt(&held, prompt), has_prompt(&train, prompt));
        assert_int_equal(has_prompt(&held, prompt), has_prompt(&held2, prompt));
    }
    struct soothe__corpus other = many_texts(N, false), held3 = {0};
    must(soothe__corpus_split(&held3, &other, 0.2, 8, &err), &err); /* another seed, another split */
    size_t n_same = 0;
    for (size_t i = 0; i < held3.n_pairs; i++)
        n_same += has_prompt(&held, held3.texts[held3.pairs[i].i_chosen].prompt);
    assert_true(n_same < held3.n_pairs / 2);
    soothe__corpus_free(&train), soothe__corpus_free(&held), soothe__corpus_free(&train2);
    soothe__corpus_free(&held2), soothe__corpus_free(&other), soothe__corpus_free(&held3);
}

static void test_what_is_shared_with_other_data_is_removed(void **state) {
    (void)state;
    struct soothe_error   err;
    size_t                n;
    struct soothe__corpus c = {0}, other = {0};
    must(soothe__corpus_add_pair(&c, "shared prompt", " x", " y", &err), &err);
    must(soothe__corpus_add_pair(&c, "p1", " x1", " shared text", &err), &err);
    must(soothe__corpus_add_pair(&c, "p2", " x2", " y2", &err), &err);
    must(soothe__corpus_add_single(&c, "", " shared text", &err), &err);
    must(soothe__corpus_add_single(&c, "", " mine", &err), &err);
    must(soothe__corpus_add_single(&other, "shared prompt", " shared text", &err), &err);
    must(soothe__corpus_remove_shared(&c, &other, &n, &err), &err);
    assert_int_equal(n, 3);
    assert_int_equal(c.n_pairs, 1);
    assert_string_equal(c.texts[c.pairs[0].i_chosen].prompt, "p2");
    assert_int_equal(c.n_singles, 1);
    soothe__corpus_free(&c);
    soothe__corpus_free(&other);
}

/* What was split off is still among the texts of the rest, though none of its pairs uses it. */
static void test_a_split_shares_nothing_with_its_rest(void **state) {
    (void)state;
    struct soothe_error   err;
    size_t                n;
    struct soothe__corpus train = {0}, held = {0};
    char                  prompt[32];
    for (int i = 0; i < 100; i++) {
        snprintf(prompt, sizeof prompt, "prompt %d", i);
        char good[32], bad[32];
        snprintf(good, sizeof good, " kind %d", i);
        snprintf(bad, sizeof bad, " rude %d", i);
        must(soothe__corpus_add_pair(&train, prompt, good, bad, &err), &err);
    }
    must(soothe__corpus_split(&held, &train, 0.3, 1, &err), &err);
    must(soothe__corpus_remove_shared(&held, &train, &n, &err), &err);
    assert_int_equal(n, 0);
    soothe__corpus_free(&train);
    soothe__corpus_free(&held);
}

static void test_a_series_is_a_permutation_in_each_round(void **state) {
    (void)state;
    enum { N = 101 };
    struct soothe_error   err;
    struct soothe__series s, again;
    uint32_t              first[N], n_moved = 0;
    assert_int_equal(soothe__series_init(&s, 0, 1, 2, &err), SOOTHE_E_ARGUMENT);
    must(soothe__series_init(&s, N, 1, 2, &err), &err);
    must(soothe__series_init(&again, N, 1, 2, &err), &err);
    for (uint64_t round = 0; round < 4; round++) {
        bool seen[N] = {false};
        for (uint64_t i = 0; i < N; i++) {
            const uint32_t k = soothe__series_at(&s, round * N + i);
            assert_true(k < N && !seen[k]);
            seen[k] = true;
            if (round == 0)
                first[i] = k;
            n_moved += first[i] != k;
        }
    }
    assert_true(n_moved > 3 * N * 9 / 10);
    for (uint64_t i = 4 * N; i-- > 0;) /* from behind: the place alone decides */
        assert_int_equal(soothe__series_at(&again, i), soothe__series_at(&s, i));
    soothe__series_free(&s);
    soothe__series_free(&again);
}

/* ---- tokens ------------------------------------------------------------------------------------------ */

static struct llama_model *tiny(enum tiny_family family) {
    assert_true(tiny_model_write(MODEL, &(struct tiny_options){.family = family, .seed = 1}));
    struct llama_model *m = llama_model_load_from_file(MODEL, llama_model_default_params());
    assert_non_null(m);
    return m;
}

static char *letters(size_t n, char first) { /* the tiny vocabulary merges no such pair: one token a letter */
    char *s = soothe__calloc(n + 1, 1);
    assert_non_null(s);
    for (size_t i = 0; i < n; i++)
        s[i] = (char)(first + (int)(i % 3));
    return s;
}

static void test_long_texts_keep_the_ends_that_meet(void **state) {
    (void)state;
    enum { N_MAX = 40 };
    static const struct {
        size_t  n_prompt, n_completion;
        int32_t first, n;
    } cases[] = {
        {10, 30, 10, 40},   /* just fits            */
        {10, 31, 10, 40},   /* loses one at its end */
        {100, 20, 20, 40},  /* the prompt gives way */
        {100, 100, 10, 40}, /* three quarters       */
        {100, 30, 10, 40},  {5, 100, 5, 40}, {0, 100, 1, 40}, {0, 5, 1, 5}, {39, 1, 39, 40}, {40, 1, 39, 40},
    };
    struct soothe_error       err;
    struct llama_model       *m     = tiny(TINY_LLAMA);
    const struct llama_vocab *vocab = llama_model_get_vocab(m);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct soothe__corpus c = {0};
        char *prompt = letters(cases[i].n_prompt, 'a'), *completion = letters(cases[i].n_completion, 'p');
        must(soothe__corpus_add_single(&c, prompt, completion, &err), &err);
        must(soothe__corpus_tokenize(&c, vocab, N_MAX, NULL, &err), &err);
        const struct soothe__text *t = &c.texts[0];
        assert_int_equal(t->n_tokens, cases[i].n);
        assert_int_equal(t->first, cases[i].first);
        assert_int_equal(c.n_truncated, cases[i].n_prompt + cases[i].n_completion > N_MAX);
        for (int32_t k = 0; k < t->n_tokens; k++) { /* the last of the prompt, the first of the completion */
            const int32_t n_prompt = cases[i].n_prompt ? t->first : 0;
            char          byte;
            assert_int_equal(soothe__token_bytes(vocab, t->tokens[k], &byte, 1), 1);
            assert_int_equal(byte, k < n_prompt ? prompt[cases[i].n_prompt - (size_t)(n_prompt - k)]
                                                : completion[k - n_prompt]);
        }
        soothe__corpus_free(&c);
        free(prompt);
        free(completion);
    }
    llama_model_free(m);
}

static void test_texts_without_a_token_to_predict_are_removed(void **state) {
    (void)state;
    struct soothe_error   err;
    size_t                n_removed;
    struct soothe__corpus c = {0};
    struct llama_model   *m = tiny(TINY_LLAMA); /* puts no BOS in front */
    must(soothe__corpus_add_single(&c, "", "x", &err), &err);
    must(soothe__corpus_add_single(&c, "p", "x", &err), &err);
    must(soothe__corpus_add_pair(&c, "", "long enough", "x", &err), &err);
    must(soothe__corpus_tokenize(&c, llama_model_get_vocab(m), 64, &n_removed, &err), &err);
    assert_int_equal(n_removed, 2);
    assert_int_equal(c.n_singles, 1);
    assert_int_equal(c.n_pairs, 0);
    soothe__corpus_free(&c);
    llama_model_free(m);
}

/* ---- the target's states -------------------------------------------------------------------------------- */

static struct soothe__corpus corpus_for_states(const struct llama_model *m) {
    struct soothe_error   err;
    struct soothe__corpus c = {0};
    for (int i = 0; i < 60; i++) { /* several groups */
        char prompt[32], completion[64];
        snprintf(prompt, sizeof prompt, "prompt %d", i);
        snprintf(completion, sizeof completion, " completion of %d words, or so", i * i);
        must(soothe__corpus_add_single(&c, i % 4 ? prompt : "", completion, &err), &err);
    }
    must(soothe__corpus_tokenize(&c, llama_model_get_vocab(m), 64, NULL, &err), &err);
    return c;
}

static size_t n_rows(const struct soothe__text *t) {
    return (size_t)(t->n_tokens - t->first);
}

static float from_bf16(uint16_t x) {
    const uint32_t bits = (uint32_t)x << 16;
    float          f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint16_t *states_of(struct soothe__target_states *t, const struct soothe__corpus *c, uint32_t i) {
    struct soothe_error err;
    uint16_t           *rows = soothe__calloc(n_rows(&c->texts[i]) * (size_t)soothe__target_states_width(t), 2);
    assert_non_null(rows);
    must(soothe__target_states_get(t, &i, 1, rows, NULL, &err), &err);
    return rows;
}

/* The engine alone: embeddings of one text at a time are its final states. */
static void check_by_engine(struct soothe__target_states *t, const struct soothe__corpus *c, struct llama_model *m) {
    struct llama_context_params cp = llama_context_default_params();
    cp.n_ctx                       = 256;
    cp.n_threads = cp.n_threads_batch = 1;
    cp.embeddings                     = true;
    cp.pooling_type                   = LLAMA_POOLING_TYPE_NONE;
    struct llama_context *ctx         = llama_init_from_model(m, cp);
    const int32_t         d           = soothe__target_states_width(t);
    assert_non_null(ctx);
    for (uint32_t i = 0; i < c->n_texts; i++) {
        const struct soothe__text *text = &c->texts[i];
        uint16_t                  *rows = states_of(t, c, i);
        llama_memory_clear(llama_get_memory(ctx), true);
        assert_int_equal(llama_decode(ctx, llama_batch_get_one(text->tokens, text->n_tokens)), 0);
        for (int32_t k = text->first; k < text->n_tokens; k++) {
            const float *h = llama_get_embeddings_ith(ctx, k - 1); /* the state that predicts token k */
            for (int32_t j = 0; j < d; j++) {
                const float x = from_bf16(rows[(k - text->first) * d + j]);
                /* bf16 keeps 8 bits; with keys and values in half precision batches differ by up to 5e-3 */
                if (!(fabsf(x - h[j]) <= 0.005f * fabsf(h[j]) + 0.02f))
                    fail_msg("text %u, token %d, %d: %g, not %g", i, k, j, (double)x, (double)h[j]);
            }
        }
        free(rows);
    }
    llama_free(ctx);
}

static void test_states_are_those_of_the_engine(void **state) {
    (void)state;
    static const enum tiny_family families[] = {TINY_LLAMA, TINY_GEMMA3, TINY_GPT2};
    for (size_t f = 0; f < 3; f++) {
        struct soothe_error           err;
        struct llama_model           *m = tiny(families[f]);
        struct soothe__corpus         c = corpus_for_states(m);
        struct soothe__target_states *t;
        must(soothe__target_states_new(&t, m, &c, NULL, 0, 1, SIZE_MAX, &err), &err);
        assert_int_equal(soothe__target_states_width(t), 64);
        check_by_engine(t, &c, m);
        soothe__target_states_free(t);
        soothe__corpus_free(&c);
        llama_model_free(m);
    }
}

/* Bit for bit: whatever was asked for before, and whether rows lie in memory or in the file. */
static void test_states_depend_on_neither_the_order_of_asking_nor_the_memory(void **state) {
    (void)state;
    struct soothe_error           err;
    struct llama_model           *m = tiny(TINY_LLAMA);
    struct soothe__corpus         c = corpus_for_states(m);
    struct soothe__target_states *forth, *back, *spilled;
    uint32_t                      order[60];
    for (uint32_t i = 0; i < 60; i++)
        order[i] = (i * 7) % 60;
    must(soothe__target_states_new(&forth, m, &c, order, 60, 1, SIZE_MAX, &err), &err);
    must(soothe__target_states_new(&back, m, &c, order, 60, 1, SIZE_MAX, &err), &err);
    must(soothe__target_states_new(&spilled, m, &c, order, 60, 1, 20000, &err), &err); /* some here, some there */
    for (uint32_t i = 0; i < 60; i++)
        free(states_of(back, &c, 59 - i));
    for (uint32_t i = 0; i < 60; i++) {
        const size_t size = n_rows(&c.texts[i]) * 64 * sizeof(uint16_t);
        uint16_t    *x = states_of(forth, &c, i), *y = states_of(back, &c, i), *z = states_of(spilled, &c, i);
        assert_memory_equal(x, y, size);
        assert_memory_equal(x, z, size);
        free(x), free(y), free(z);
    }
    /* several at once, one of them twice */
    const uint32_t some[] = {41, 3, 41};
    const size_t   n41 = n_rows(&c.texts[41]) * 64, n3 = n_rows(&c.texts[3]) * 64;
    uint16_t      *all = soothe__calloc(2 * n41 + n3, 2), *x = states_of(forth, &c, 3);
    must(soothe__target_states_get(spilled, some, 3, all, NULL, &err), &err);
    assert_memory_equal(all, all + n41 + n3, n41 * 2);
    assert_memory_equal(all + n41, x, n3 * 2);
    free(all), free(x);
    soothe__target_states_free(forth);
    soothe__target_states_free(back);
    soothe__target_states_free(spilled);
    soothe__corpus_free(&c);
    llama_model_free(m);
}

static void test_states_of_a_text_without_tokens_are_refused(void **state) {
    (void)state;
    struct soothe_error           err;
    struct llama_model           *m = tiny(TINY_LLAMA);
    struct soothe__corpus         c = corpus_for_states(m);
    struct soothe__target_states *t;
    uint16_t                      out[64];
    must(soothe__corpus_add_single(&c, "added", " later", &err), &err);
    must(soothe__target_states_new(&t, m, &c, NULL, 0, 1, SIZE_MAX, &err), &err);
    assert_int_equal(soothe__target_states_get(t, (uint32_t[]){60}, 1, out, NULL, &err), SOOTHE_E_ARGUMENT);
    soothe__target_states_free(t);
    soothe__corpus_free(&c);
    llama_model_free(m);
}

/* ---- checkpoints ------------------------------------------------------------------------------------------ */

static float saved_values[2][70], loaded_values[2][70];

static struct soothe__checkpoint checkpoint(float values[2][70], struct soothe__checkpoint_array arrays[2],
                                            const char *run) {
    arrays[0]                   = (struct soothe__checkpoint_array){"w.blk.0.attn_q.weight", values[0], 70};
    arrays[1]                   = (struct soothe__checkpoint_array){"m.a", values[1], 33};
    struct soothe__checkpoint c = {.step = 41, .arrays = arrays, .n_arrays = 2};
    snprintf(c.run, sizeof c.run, "%s", run);
    return c;
}

static void save_checkpoint(struct soothe__checkpoint_array arrays[2]) {
    struct soothe_error err;
    struct soothe__rng  rng = soothe__rng_seed(1, 1);
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 70; k++)
            saved_values[i][k] = (float)soothe__rng_normal(&rng);
    saved_values[0][3]                = INFINITY; /* as it is, even if it should not be */
    saved_values[0][4]                = -0.0f;
    const struct soothe__checkpoint c = checkpoint(saved_values, arrays, "run one");
    must(soothe__checkpoint_save(CHECKPOINT, &c, &err), &err);
}

static void test_a_checkpoint_comes_back_bit_for_bit(void **state) {
    (void)state;
    struct soothe_error             err;
    struct soothe__checkpoint_array a[2], b[2];
    save_checkpoint(a);
    struct soothe__checkpoint c = checkpoint(loaded_values, b, "run one");
    c.step                      = 0;
    must(soothe__checkpoint_load(CHECKPOINT, &c, &err), &err);
    assert_int_equal(c.step, 41);
    assert_memory_equal(saved_values[0], loaded_values[0], 70 * sizeof(float));
    assert_memory_equal(saved_values[1], loaded_values[1], 33 * sizeof(float));
}

static void expect_load(enum soothe_status expected, struct soothe__checkpoint *c, const char *word) {
    struct soothe_error err;
    assert_int_equal(soothe__checkpoint_load(CHECKPOINT, c, &err), expected);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not name \"%s\"", err.message, word);
}

static void test_a_checkpoint_of_another_run_or_shape_is_refused(void **state) {
    (void)state;
    struct soothe__checkpoint_array a[2], b[2];
    save_checkpoint(a);
    struct soothe__checkpoint c = checkpoint(loaded_values, b, "run two");
    expect_load(SOOTHE_E_MISMATCH, &c, "other options, data or models");
    c      = checkpoint(loaded_values, b, "run one");
    b[1].n = 34;
    expect_load(SOOTHE_E_FORMAT, &c, "34 values of m.a");
    c = checkpoint(loaded_values, b, "run one");
    snprintf(b[1].name, sizeof b[1].name, "m.b");
    expect_load(SOOTHE_E_FORMAT, &c, "m.b");
    c = checkpoint(loaded_values, b, "run one");
    assert_true(tiny_model_write(CHECKPOINT, &(struct tiny_options){.family = TINY_LLAMA}));
    expect_load(SOOTHE_E_FORMAT, &c, "is not a checkpoint");
    unlink(CHECKPOINT);
    expect_load(SOOTHE_E_IO, &c, CHECKPOINT);
}

/* Whatever is cut off, and whatever bit of the step or the values flips. */
static void test_a_damaged_checkpoint_is_refused(void **state) {
    (void)state;
    struct soothe_error             err;
    struct soothe__checkpoint_array a[2], b[2];
    char                           *bytes;
    size_t                          size;
    save_checkpoint(a);
    struct soothe__checkpoint c = checkpoint(loaded_values, b, "run one");
    must(soothe__read_file(&bytes, &size, CHECKPOINT, &err), &err);
    for (size_t n = 0; n + 32 < size; n += 13) { /* beyond that only padding is missing */
        write_bytes(CHECKPOINT, bytes, n);
        expect_load(SOOTHE_E_FORMAT, &c, CHECKPOINT);
    }
    const char *key  = "soothe.checkpoint.step";
    size_t      step = 0;
    while (memcmp(bytes + step, key, strlen(key)) != 0)
        step++;
    const size_t places[] = {step + strlen(key) + 4, size - 8 - 64, size - 300};
    for (size_t i = 0; i < 3; i++) {
        bytes[places[i]] = (char)(bytes[places[i]] ^ 1);
        write_bytes(CHECKPOINT, bytes, size);
        expect_load(SOOTHE_E_FORMAT, &c, "damaged");
        bytes[places[i]] = (char)(bytes[places[i]] ^ 1);
    }
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs_and_texts_are_read_plain_and_compressed),
        cmocka_unit_test(test_bad_lines_are_counted_and_the_first_reason_told),
        cmocka_unit_test(test_huge_lines_and_texts_are_bad_lines),
        cmocka_unit_test(test_repetitions_are_left_out_within_and_across_files),
        cmocka_unit_test(test_files_that_hold_nothing_are_refused),
        cmocka_unit_test(test_damaged_archives_are_refused),
        cmocka_unit_test(test_a_split_is_by_prompt_and_depends_on_no_order),
        cmocka_unit_test(test_what_is_shared_with_other_data_is_removed),
        cmocka_unit_test(test_a_split_shares_nothing_with_its_rest),
        cmocka_unit_test(test_a_series_is_a_permutation_in_each_round),
        cmocka_unit_test(test_long_texts_keep_the_ends_that_meet),
        cmocka_unit_test(test_texts_without_a_token_to_predict_are_removed),
        cmocka_unit_test(test_states_are_those_of_the_engine),
        cmocka_unit_test(test_states_depend_on_neither_the_order_of_asking_nor_the_memory),
        cmocka_unit_test(test_states_of_a_text_without_tokens_are_refused),
        cmocka_unit_test(test_a_checkpoint_comes_back_bit_for_bit),
        cmocka_unit_test(test_a_checkpoint_of_another_run_or_shape_is_refused),
        cmocka_unit_test(test_a_damaged_checkpoint_is_refused),
    };
    return cmocka_run_group_tests(tests, quiet_engine, tear_down);
}
