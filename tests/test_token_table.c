/* SPDX-License-Identifier: Apache-2.0
 * Tables of words: their files, the trie over tokens, and what stage and sampler do to logits. */
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
#include "methods/methods.h"
#include "methods/token_table.h"
#include "score/scorer.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_token_table_target.gguf"
#define LIST "test_token_table_list.txt"
#define TABLE "test_token_table.gguf"

static struct soothe_error err;

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    return tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    unlink(TARGET);
    unlink(LIST);
    unlink(TABLE);
    return 0;
}

static void write_list(const char *text) {
    FILE *f = fopen(LIST, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static struct llama_model *load(const char *path, bool vocabulary_alone) {
    struct llama_model_params p = llama_model_default_params();
    p.vocab_only                = vocabulary_alone;
    struct llama_model *model   = llama_model_load_from_file(path, p);
    assert_non_null(model);
    return model;
}

static struct soothe__token_table *table_of(const char *list, const struct llama_vocab *vocab) {
    struct soothe__word_table   words;
    struct soothe__token_table *table;
    write_list(list);
    must(soothe__word_table_open(&words, LIST, &err), &err);
    must(soothe__token_table_new(&table, &words, vocab, &err), &err);
    soothe__word_table_free(&words);
    return table;
}

/* ---- words ---------------------------------------------------------------------------------------------- */

static void test_words_are_folded_and_cut_at_boundaries(void **state) {
    (void)state;
    char                   folded[SOOTHE__WORD_BYTES_MAX + 1];
    const char            *text       = "Piece-of  Sh\xC3\x89T, \xE2\x80\x9Cit's\xE2\x80\x9D caf\xC3\xA9_2";
    const char            *expected[] = {"piece", "of", "sh\xC3\xA9t", "it", "s", "caf\xC3\xA9", "2"};
    const bool             joined[]   = {false, true, true, false, false, false, true};
    struct soothe__word_at w;
    size_t                 n = 0;
    for (size_t i = 0; soothe__next_word(&w, text, strlen(text), &i); n++) {
        assert_true(n < 7);
        assert_string_equal(w.word, expected[n]);
        assert_int_equal(w.joined, joined[n]);
    }
    assert_int_equal(n, 7);
    assert_true(soothe__fold_phrase(folded, "  Piece  OF-shit ", 17));
    assert_string_equal(folded, "piece of shit");
    assert_false(soothe__fold_phrase(folded, "f**k", 4));
    assert_false(soothe__fold_phrase(folded, "a b c d e", 9));
    assert_false(soothe__fold_phrase(folded, " - ", 3));
}

static void test_a_list_says_which_line_is_no_word(void **state) {
    (void)state;
    struct soothe__word_table t;
    write_list("# a comment\nWorse\t2.5\nbad\nBAD\t0.5 # the larger stays\n\ntwo words\n");
    must(soothe__word_table_open(&t, LIST, &err), &err);
    assert_int_equal(t.n, 3);
    assert_float_equal(soothe__word_table_find(&t, "bad")->weight, 1, 0);
    assert_float_equal(soothe__word_table_find(&t, "worse")->weight, 2.5, 0);
    assert_non_null(soothe__word_table_find(&t, "two words"));
    assert_null(soothe__word_table_find(&t, "two"));
    soothe__word_table_free(&t);
    write_list("good\nb*d\n");
    assert_int_equal(soothe__word_table_open(&t, LIST, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 2 of " LIST));
    write_list("good\tmuch\n");
    assert_int_equal(soothe__word_table_open(&t, LIST, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "\"much\""));
    write_list("# nothing\n");
    assert_int_equal(soothe__word_table_open(&t, LIST, &err), SOOTHE_E_FORMAT);
    assert_int_equal(soothe__word_table_open(&t, "/nonexistent", &err), SOOTHE_E_IO);
    assert_null(t.words);
}

static void test_the_lexicon_comes_with_its_forms(void **state) {
    (void)state;
    struct soothe__word_table t;
    must(soothe__word_table_open(&t, NULL, &err), &err);
    const char *in[]  = {"shit", "shits", "shitting", "bitches", "piece of shit"},
               *out[] = {"class", "shitake", "ship", "black"};
    for (size_t i = 0; i < sizeof in / sizeof *in - 1; i++)
        assert_non_null(soothe__word_table_find(&t, in[i]));
    for (size_t i = 0; i < sizeof out / sizeof *out; i++)
        assert_null(soothe__word_table_find(&t, out[i]));
    for (size_t i = 0; i < t.n; i++)
        assert_true(t.words[i].weight >= 0.1f && t.words[i].weight <= 3);
    soothe__word_table_free(&t);
}

/* ---- files ------------------------------------------------------------------------------------------------ */

static void test_a_table_is_read_as_it_was_written(void **state) {
    (void)state;
    struct soothe__word_table       t = {.n = 0}, back;
    const struct soothe__table_word a = {(char *)(uintptr_t) "worse", 0.5f, 0.625f, 0.25f, 1, 40},
                                    b = {(char *)(uintptr_t) "bad", -0.25f, -0.5f, -0.75f, -0.25f, 10};
    must(soothe__word_table_add(&t, &a, &err), &err);
    must(soothe__word_table_add(&t, &b, &err), &err);
    soothe__word_table_sort(&t);
    must(soothe__word_table_write(&t, TABLE, NULL, 0, &err), &err);
    must(soothe__word_table_open(&back, TABLE, &err), &err);
    assert_int_equal(back.n, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_string_equal(back.words[i].word, t.words[i].word);
        assert_memory_equal(&back.words[i].weight, &t.words[i].weight, 4 * sizeof(float));
        assert_int_equal(back.words[i].n, t.words[i].n);
    }
    soothe__word_table_free(&back);
    assert_int_equal(soothe__word_table_read(&back, TARGET, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "soothe cfl train"));
    t.words[0].weight = NAN;
    must(soothe__word_table_write(&t, TABLE, NULL, 0, &err), &err);
    assert_int_equal(soothe__word_table_read(&back, TABLE, &err), SOOTHE_E_NUMERIC);
    t.words[0].weight  = 1;
    t.words[0].word[0] = 'B'; /* not folded */
    must(soothe__word_table_write(&t, TABLE, NULL, 0, &err), &err);
    assert_int_equal(soothe__word_table_read(&back, TABLE, &err), SOOTHE_E_FORMAT);
    soothe__word_table_free(&t);
}

static void test_a_sentence_has_the_weights_of_its_words(void **state) {
    (void)state;
    struct soothe__word_table       t = {.n = 0};
    const struct soothe__table_word a = {(char *)(uintptr_t) "worse", 0.5f, NAN, NAN, NAN, 0},
                                    b = {(char *)(uintptr_t) "bad", 0.25f, NAN, NAN, NAN, 0},
                                    c = {(char *)(uintptr_t) "kind", -0.5f, NAN, NAN, NAN, 0};
    const char          *texts[]      = {"Bad, WORSE: and kind", "badly", ""};
    struct soothe__score scores[3];
    must(soothe__word_table_add(&t, &a, &err), &err);
    must(soothe__word_table_add(&t, &b, &err), &err);
    must(soothe__word_table_add(&t, &c, &err), &err);
    soothe__word_table_sort(&t);
    must(soothe__word_table_write(&t, TABLE, NULL, 0, &err), &err);
    soothe__word_table_free(&t);
    struct soothe__scorer *scorer;
    must(soothe__scorer_open(&scorer, TABLE, NULL, &err), &err);
    must(soothe__scorer_score(scorer, texts, 3, scores, &err), &err);
    assert_float_equal(scores[0].toxicity, 1 - 0.5 * 0.75, 1e-7);
    assert_float_equal(scores[1].toxicity, 0, 0);
    assert_float_equal(scores[2].toxicity, 0, 0);
    soothe__scorer_close(scorer);
    must(soothe__scorer_open(&scorer, TABLE "#max", NULL, &err), &err);
    must(soothe__scorer_score(scorer, texts, 3, scores, &err), &err);
    assert_float_equal(scores[0].toxicity, 0.5, 0);
    soothe__scorer_close(scorer);
    assert_int_equal(soothe__scorer_open(&scorer, TABLE "#mean", NULL, &err), SOOTHE_E_ARGUMENT);
}

/* ---- the trie over a real vocabulary ------------------------------------------------------------------------- */

static struct soothe__table_state state_after(const struct soothe__token_table *table, const struct llama_vocab *vocab,
                                              const char *text) {
    struct soothe__table_state s = {.n_nodes = 0};
    llama_token               *tokens;
    int32_t                    n;
    must(soothe__tokenize(&tokens, &n, vocab, text, strlen(text), 0, &err), &err);
    for (int32_t i = 0; i < n; i++)
        soothe__token_table_move(table, &s, tokens[i]);
    free(tokens);
    return s;
}

/* The weight of the last token of `next` behind a text. */
static float weight_of(const struct soothe__token_table *table, const struct llama_vocab *vocab, const char *text,
                       const char *next) {
    struct soothe__table_state s = state_after(table, vocab, text);
    llama_token               *tokens;
    int32_t                    n;
    must(soothe__tokenize(&tokens, &n, vocab, next, strlen(next), 0, &err), &err);
    for (int32_t i = 0; i + 1 < n; i++)
        soothe__token_table_move(table, &s, tokens[i]);
    const float weight = soothe__token_table_weight(table, &s, tokens[n - 1]);
    free(tokens);
    return weight;
}

/* How many of a text's tokens complete a word. */
static int32_t n_completing(const struct soothe__token_table *table, const struct llama_vocab *vocab,
                            const char *text) {
    struct soothe__table_state s = {.n_nodes = 0};
    llama_token               *tokens;
    int32_t                    n, n_found = 0;
    must(soothe__tokenize(&tokens, &n, vocab, text, strlen(text), 0, &err), &err);
    for (int32_t i = 0; i < n; i++) {
        n_found += soothe__token_table_weight(table, &s, tokens[i]) > 0;
        soothe__token_table_move(table, &s, tokens[i]);
    }
    free(tokens);
    return n_found;
}

static void test_words_are_found_at_boundaries_alone(void **state) {
    (void)state;
    const char *path = getenv("SOOTHE_TEST_MODEL");
    if (!path)
        skip();
    struct llama_model         *model = load(path, true);
    const struct llama_vocab   *v     = llama_model_get_vocab(model);
    struct soothe__token_table *t     = table_of("ass\nshit\t2\ncunt\t3\npiece of shit\t4\nbastard\nIt is\t0.5\n", v);
    assert_float_equal(weight_of(t, v, "You", " ass"), 1, 0);
    assert_float_equal(weight_of(t, v, "You ", "ass"), 1, 0);
    assert_float_equal(weight_of(t, v, "", "Ass"), 1, 0);
    assert_float_equal(weight_of(t, v, "You (", "ass"), 1, 0);
    assert_float_equal(weight_of(t, v, "Cl", "ass"), 0, 0); /* a word inside another */
    assert_float_equal(weight_of(t, v, "the first cl", "ass"), 0, 0);
    assert_float_equal(weight_of(t, v, "Sc", "unt"), 0, 0);
    assert_float_equal(weight_of(t, v, "the c", "unt"), 3, 0); /* half a word before */
    assert_float_equal(weight_of(t, v, "no sh", "it"), 2, 0);
    assert_float_equal(weight_of(t, v, "no SH", "IT"), 2, 0);
    assert_float_equal(weight_of(t, v, "a piece of sh", "it"), 4, 0); /* the phrase weighs more */
    assert_float_equal(weight_of(t, v, "a PIECE-of sh", "it"), 4, 0);
    assert_float_equal(weight_of(t, v, "a piece of", " shit"), 4, 0);
    assert_float_equal(weight_of(t, v, "a piece, of", " shit"), 2, 0); /* a phrase goes over no sign */
    assert_float_equal(weight_of(t, v, "it", " is"), 0.5, 0);
    assert_float_equal(weight_of(t, v, "a bit", " is"), 0, 0);
    assert_float_equal(weight_of(t, v, "no shit", " is"), 0, 0); /* told once, not again behind the word */
    assert_float_equal(weight_of(t, v, "no shit", "."), 0, 0);
    const char *clean[] = {"The class in Scunthorpe passes the assessment.", "Bassist, cassette, grass; Massachusetts.",
                           "to sit is a trait", "bastards said nothing"};
    for (size_t i = 0; i < sizeof clean / sizeof *clean - 1; i++)
        assert_int_equal(n_completing(t, v, clean[i]), 0);
    assert_int_equal(n_completing(t, v, "You ass! Shit, you piece of shit bastard"), 4);
    soothe__token_table_free(t);
    llama_model_free(model);
}

static int by_token(const void *a, const void *b) {
    const struct soothe__token_penalty *x = a, *y = b;
    return (x->token > y->token) - (x->token < y->token);
}

/* The list for a state against the definition, token by token. */
static void check_list(const struct soothe__token_table *t, const struct soothe__table_state *s, int32_t n_vocab,
                       struct soothe__token_room *room) {
    const size_t n = soothe__token_table_list(t, s, room);
    size_t       k = 0;
    qsort(room->list, n, sizeof *room->list, by_token);
    for (llama_token i = 0; i < n_vocab; i++) {
        const float listed = k < n && room->list[k].token == i ? room->list[k++].weight : 0;
        if (listed != soothe__token_table_weight(t, s, i))
            fail_msg("token %d: listed with %g, by its letters %g", i, (double)listed,
                     (double)soothe__token_table_weight(t, s, i));
    }
    assert_int_equal(k, n);
}

/* Random tokens, drawn so that words are often begun. */
static void check_lists(const struct soothe__token_table *t, const struct llama_vocab *v, int32_t n_states) {
    const int32_t              n_vocab = llama_vocab_n_tokens(v);
    struct soothe__token_room  room;
    struct soothe__table_state s   = {.n_nodes = 0};
    struct soothe__rng         rng = soothe__rng_seed(3, 1);
    assert_true(soothe__token_room_new(&room, t));
    for (int32_t i = 0; i < n_states; i++) {
        check_list(t, &s, n_vocab, &room);
        const size_t n     = soothe__token_table_list(t, &s, &room);
        llama_token  token = (llama_token)soothe__rng_below(&rng, (uint32_t)n_vocab);
        if (n > 0 && soothe__rng_below(&rng, 4) == 0)
            token = room.list[soothe__rng_below(&rng, (uint32_t)n)].token;
        else if (soothe__rng_below(&rng, 2)) { /* a letter, a space */
            const char   c = "abcfhinstuo p"[soothe__rng_below(&rng, 13)];
            llama_token *tokens;
            int32_t      n_tokens;
            must(soothe__tokenize(&tokens, &n_tokens, v, &c, 1, 0, &err), &err);
            token = tokens[0];
            free(tokens);
        }
        soothe__token_table_move(t, &s, token);
        s.chars.n_held = 0; /* lists take it that characters are whole */
    }
    soothe__token_room_free(&room);
}

static void test_lists_agree_with_the_definition(void **state) {
    (void)state;
    static const char   list[]    = "a\nin\nthis\nshit\t2\npiece of shit\t4\nof shit\t3\nno in\na b c d\nsp\xC3\xA9\n";
    struct llama_model *model     = load(TARGET, true);
    struct soothe__token_table *t = table_of(list, llama_model_get_vocab(model));
    check_lists(t, llama_model_get_vocab(model), 3000);
    soothe__token_table_free(t);
    llama_model_free(model);
    const char *path = getenv("SOOTHE_TEST_MODEL");
    if (!path)
        return;
    struct soothe__word_table lexicon;
    model = load(path, true);
    t     = table_of(list, llama_model_get_vocab(model));
    check_lists(t, llama_model_get_vocab(model), 60);
    soothe__token_table_free(t);
    must(soothe__word_table_open(&lexicon, NULL, &err), &err);
    must(soothe__token_table_new(&t, &lexicon, llama_model_get_vocab(model), &err), &err);
    check_lists(t, llama_model_get_vocab(model), 60);
    soothe__token_table_free(t);
    soothe__word_table_free(&lexicon);
    llama_model_free(model);
}

/* ---- logits --------------------------------------------------------------------------------------------------- */

enum { N_VOCAB = 300 }; /* of the tiny model: 256 bytes, two pairs, control tokens */

static struct soothe_session *session_of(struct llama_model *model, const struct soothe__token_table *t,
                                         float strength) {
    struct soothe_session_params p = soothe_session_params_default();
    struct soothe_session       *s;
    p.context.n_ctx     = 256;
    p.context.n_seq_max = 4;
    p.context.n_threads = p.context.n_threads_batch = 1;
    must(soothe_session_new(&s, model, NULL, &p, &err), &err);
    if (t)
        must(soothe__session_add_token_table(s, t, strength, &err), &err);
    return s;
}

/* Decodes bytes (the tiny model's tokens 0 to 255) from a position on; logits of the last one go to z. */
static void say(struct soothe_session *s, llama_seq_id seq, llama_pos pos, const char *text, float *z) {
    struct llama_batch b = llama_batch_init(64, 0, 4);
    const int32_t      n = (int32_t)strlen(text);
    for (int32_t i = 0; i < n; i++)
        soothe__batch_add(&b, (unsigned char)text[i], pos + i, seq, i == n - 1);
    must(soothe_decode(s, b, &err), &err);
    memcpy(z, soothe_get_logits_ith(s, n - 1), sizeof(float) * N_VOCAB);
    llama_batch_free(b);
}

/* z is z_plain with bias taken from the given bytes, and every other logit as it was, bit for bit. */
static void check_changed(const float *z, const float *z_plain, const char *bytes, float bias) {
    for (int32_t i = 0; i < N_VOCAB; i++) {
        const bool  meant    = i > 0 && i < 256 && strchr(bytes, i);
        const float expected = meant ? z_plain[i] - bias : z_plain[i];
        if (memcmp(&z[i], &expected, sizeof expected) != 0)
            fail_msg("logit %d is %g, not %g (plain %g)", i, (double)z[i], (double)expected, (double)z_plain[i]);
    }
}

static void test_logits_change_as_the_formula_says_and_no_others(void **state) {
    (void)state;
    struct llama_model         *model = load(TARGET, false);
    struct soothe__token_table *t     = table_of("shit\t2\nship\t2\n", llama_model_get_vocab(model));
    struct soothe_session      *plain = session_of(model, NULL, 0), *s = session_of(model, t, 1.5f);
    float                       z[N_VOCAB], z_plain[N_VOCAB];
    assert_int_equal(llama_vocab_n_tokens(llama_model_get_vocab(model)), N_VOCAB);
    say(plain, 0, 0, "No sh", z_plain);
    say(s, 0, 0, "No sh", z);
    check_changed(z, z_plain, "", 0); /* "i" ends no word */
    say(plain, 0, 5, "i", z_plain);
    say(s, 0, 5, "i", z);
    check_changed(z, z_plain, "tTpP", 3);
    must(soothe__session_set_dose(s, 0, 0.5f, &err), &err);
    soothe_seq_rm(s, 0, 5, -1);
    say(s, 0, 5, "i", z);
    check_changed(z, z_plain, "tTpP", 1.5f);
    must(soothe__session_set_dose(s, 0, 0, &err), &err);
    soothe_seq_rm(s, 0, 5, -1);
    say(s, 0, 5, "i", z);
    check_changed(z, z_plain, "", 0);
    soothe_session_free(s);
    s = session_of(model, t, INFINITY);
    say(s, 0, 0, "No shi", z);
    assert_true(isinf(z['t']) && z['t'] < 0 && isinf(z['P']) && isfinite(z['s']));
    soothe_session_free(s);
    s = session_of(model, t, 0); /* no stage at all */
    say(s, 0, 0, "No sh", z);
    say(s, 0, 5, "i", z);
    check_changed(z, z_plain, "", 0);
    soothe_session_free(s);
    soothe_session_free(plain);
    soothe__token_table_free(t);
    llama_model_free(model);
}

/* Which bytes a session's table holds back behind what a sequence holds: found by decoding one more. */
static void check_behind(struct soothe_session *s, struct soothe_session *plain, llama_seq_id seq, llama_pos pos,
                         const char *next, const char *held_back) {
    float z[N_VOCAB], z_plain[N_VOCAB];
    say(s, seq, pos, next, z);
    say(plain, seq, pos, next, z_plain);
    check_changed(z, z_plain, held_back, 1);
}

static void test_sequences_are_followed_through_cuts_and_copies(void **state) {
    (void)state;
    struct llama_model         *model  = load(TARGET, false);
    struct soothe__token_table *t      = table_of("shit\nof ship\n", llama_model_get_vocab(model));
    struct soothe_session      *pair[] = {session_of(model, t, 1), session_of(model, NULL, 0)};
    float                       z[N_VOCAB];
    for (int i = 0; i < 2; i++) {
        struct soothe_session *s = pair[i];
        say(s, 0, 0, "kind of sh", z);
        soothe_seq_cp(s, 0, 1, -1, -1);
        soothe_seq_cp(s, 0, 2, 0, 7); /* "kind of" */
    }
    check_behind(pair[0], pair[1], 1, 10, "i", "tTpP");
    check_behind(pair[0], pair[1], 2, 7, "shi", ""); /* "ofshi" */
    for (int i = 0; i < 2; i++)
        assert_true(soothe_seq_rm(pair[i], 2, 7, -1));
    check_behind(pair[0], pair[1], 2, 7, " shi", "tTpP");
    for (int i = 0; i < 2; i++)
        assert_true(soothe_seq_rm(pair[i], 1, 5, -1)); /* "kind " */
    check_behind(pair[0], pair[1], 1, 5, "shi", "tT");
    for (int i = 0; i < 2; i++)
        soothe_seq_keep(pair[i], 0);
    check_behind(pair[0], pair[1], 0, 10, "i", "tTpP");
    check_behind(pair[0], pair[1], 1, 0, "shi", "tT"); /* cleared: a new text */
    for (int i = 0; i < 2; i++)
        soothe_clear(pair[i]);
    check_behind(pair[0], pair[1], 0, 0, "i", "");
    soothe_session_free(pair[0]);
    soothe_session_free(pair[1]);
    soothe__token_table_free(t);
    llama_model_free(model);
}

static void test_two_sequences_in_one_batch_have_states_of_their_own(void **state) {
    (void)state;
    struct llama_model         *model   = load(TARGET, false);
    struct soothe__token_table *t       = table_of("shit\n", llama_model_get_vocab(model));
    struct soothe_session      *pair[]  = {session_of(model, t, 1), session_of(model, NULL, 0)};
    const char                 *texts[] = {"shi", "Chi"};
    struct llama_batch          b       = llama_batch_init(8, 0, 1);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < 3; i++)
            soothe__batch_add(&b, (unsigned char)texts[k][i], i, k, i == 2);
    for (int i = 0; i < 2; i++)
        must(soothe_decode(pair[i], b, &err), &err);
    check_changed(soothe_get_logits_ith(pair[0], 2), soothe_get_logits_ith(pair[1], 2), "tT", 1);
    check_changed(soothe_get_logits_ith(pair[0], 5), soothe_get_logits_ith(pair[1], 5), "", 1);
    llama_batch_free(b);
    /* without positions and sequences: as llama_batch_get_one gives them */
    llama_token tokens[] = {'s', 'h', 'i'};
    for (int i = 0; i < 2; i++) {
        soothe_clear(pair[i]);
        must(soothe_decode(pair[i], llama_batch_get_one(tokens, 2), &err), &err);
        must(soothe_decode(pair[i], llama_batch_get_one(tokens + 2, 1), &err), &err);
    }
    check_changed(soothe_get_logits_ith(pair[0], 0), soothe_get_logits_ith(pair[1], 0), "tT", 1);
    soothe_session_free(pair[0]);
    soothe_session_free(pair[1]);
    soothe__token_table_free(t);
    llama_model_free(model);
}

/* ---- the sampler ------------------------------------------------------------------------------------------------- */

static void apply_to(struct llama_sampler *sampler, float *z, bool reversed) {
    llama_token_data data[N_VOCAB];
    for (int32_t i = 0; i < N_VOCAB; i++)
        data[reversed ? N_VOCAB - 1 - i : i] = (llama_token_data){i, z[i], 0};
    llama_token_data_array candidates = {data, N_VOCAB, -1, true};
    llama_sampler_apply(sampler, &candidates);
    for (int32_t i = 0; i < N_VOCAB; i++)
        z[data[i].id] = data[i].logit;
}

static void test_the_sampler_does_what_the_stage_does(void **state) {
    (void)state;
    static const char           text[] = "a ship of Shi";
    struct llama_model         *model  = load(TARGET, false);
    const struct llama_vocab   *v      = llama_model_get_vocab(model);
    struct soothe__token_table *t      = table_of("shit\t2\nship\t0.5\nof ship\t3\n", v);
    struct soothe_session      *s = session_of(model, t, 1.25f), *plain = session_of(model, NULL, 0);
    struct llama_sampler       *sampler, *clone;
    float                       z[N_VOCAB], z_sampler[N_VOCAB], z_clone[N_VOCAB];
    must(soothe_sampler_init_table(&sampler, v, LIST, 1.25f, &err), &err);
    assert_string_equal(llama_sampler_name(sampler), "soothe-table");
    for (llama_pos i = 0; text[i]; i++) {
        const char one[] = {text[i], '\0'};
        say(s, 0, i, one, z);
        say(plain, 0, i, one, z_sampler);
        memcpy(z_clone, z_sampler, sizeof z_clone);
        llama_sampler_accept(sampler, (unsigned char)text[i]);
        clone = llama_sampler_clone(sampler);
        apply_to(sampler, z_sampler, false);
        apply_to(clone, z_clone, true);
        assert_memory_equal(z, z_sampler, sizeof z);
        assert_memory_equal(z, z_clone, sizeof z);
        llama_sampler_free(clone);
    }
    llama_sampler_reset(sampler);
    llama_sampler_accept(sampler, 'i'); /* "i" begins no listed word */
    memcpy(z_clone, z_sampler, sizeof z_clone);
    apply_to(sampler, z_clone, false);
    assert_memory_equal(z_clone, z_sampler, sizeof z_clone);
    llama_sampler_free(sampler);
    must(soothe_sampler_init_table(&sampler, v, NULL, 0, &err), &err); /* strength 0: nothing, whatever the list */
    for (const char *c = "shi"; *c; c++)
        llama_sampler_accept(sampler, (unsigned char)*c);
    apply_to(sampler, z_clone, false);
    assert_memory_equal(z_clone, z_sampler, sizeof z_clone);
    llama_sampler_free(sampler);
    assert_int_equal(soothe_sampler_init_table(&sampler, v, LIST, -1, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe_sampler_init_table(&sampler, v, "/nonexistent", 1, &err), SOOTHE_E_IO);
    assert_null(sampler);
    soothe_session_free(s);
    soothe_session_free(plain);
    soothe__token_table_free(t);
    llama_model_free(model);
}

/* ---- as methods ---------------------------------------------------------------------------------------------------
 */

static enum soothe_status apply_method(const char *words, const char *text, float *z) {
    struct llama_model         *model   = load(TARGET, false);
    struct soothe__chain        chain   = {.n = 0};
    struct soothe__applied      a       = {.n = 0};
    struct llama_context_params context = soothe_session_params_default().context;
    context.n_ctx                       = 256;
    context.n_threads = context.n_threads_batch = 1;
    enum soothe_status status                   = soothe__chain_add(&chain, words, &err);
    if (!status)
        status = soothe__chain_apply(&a, &chain, model, TARGET, &context, &err);
    if (!status)
        say(a.session, 0, 0, text, z);
    soothe__applied_release(&a);
    soothe__chain_free(&chain);
    llama_model_free(model);
    return status;
}

static void test_methods_filter_bias_and_weigh(void **state) {
    (void)state;
    struct soothe__word_table       t = {.n = 0};
    const struct soothe__table_word a = {(char *)(uintptr_t) "ship", 0.5f, 0.5f, 0.25f, 0.75f, 40},
                                    b = {(char *)(uintptr_t) "shin", 0.0625f, 0.0625f, 0.03125f, 0.125f, 40},
                                    c = {(char *)(uintptr_t) "shim", -0.5f, -0.5f, -0.75f, -0.25f, 40};
    float z[N_VOCAB], z_plain[N_VOCAB];
    must(apply_method("plain", "My shi", z_plain), &err);
    must(apply_method("word-filter:severity=1.5", "My shi", z), &err);
    assert_true(isinf(z['t']) && isinf(z['T']));
    z['t'] = z_plain['t'];
    z['T'] = z_plain['T'];
    assert_memory_equal(z, z_plain, sizeof z);
    must(apply_method("word-filter:severity=3", "My shi", z), &err);
    assert_memory_equal(z, z_plain, sizeof z);
    must(apply_method("bad-words:strength=2.5:severity=1.5", "My shi", z), &err);
    check_changed(z, z_plain, "tT", 2.5f);
    write_list("ship\t2\n");
    must(apply_method("bad-words:strength=2.5:words=" LIST, "My shi", z), &err);
    check_changed(z, z_plain, "pP", 5);
    must(apply_method("word-filter:words=" LIST, "My shi", z), &err);
    assert_true(isinf(z['p']) && isfinite(z['t']));
    must(apply_method("word-filter:strength=0+bad-words:strength=0", "My shi", z), &err);
    assert_memory_equal(z, z_plain, sizeof z);
    must(soothe__word_table_add(&t, &a, &err), &err);
    must(soothe__word_table_add(&t, &b, &err), &err);
    must(soothe__word_table_add(&t, &c, &err), &err);
    soothe__word_table_sort(&t);
    must(soothe__word_table_write(&t, TABLE, NULL, 0, &err), &err);
    soothe__word_table_free(&t);
    must(apply_method("cfl:strength=8:table=" TABLE ":least=0.1", "My shi", z), &err);
    check_changed(z, z_plain, "pP", 4);
    must(apply_method("cfl:strength=0:table=" TABLE, "My shi", z), &err);
    assert_memory_equal(z, z_plain, sizeof z);
    assert_int_equal(apply_method("cfl:table=" LIST, "My shi", z), SOOTHE_E_FORMAT);
    assert_int_equal(apply_method("bad-words:strength=-1", "My shi", z), SOOTHE_E_ARGUMENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_are_folded_and_cut_at_boundaries),
        cmocka_unit_test(test_a_list_says_which_line_is_no_word),
        cmocka_unit_test(test_the_lexicon_comes_with_its_forms),
        cmocka_unit_test(test_a_table_is_read_as_it_was_written),
        cmocka_unit_test(test_a_sentence_has_the_weights_of_its_words),
        cmocka_unit_test(test_words_are_found_at_boundaries_alone),
        cmocka_unit_test(test_lists_agree_with_the_definition),
        cmocka_unit_test(test_logits_change_as_the_formula_says_and_no_others),
        cmocka_unit_test(test_sequences_are_followed_through_cuts_and_copies),
        cmocka_unit_test(test_two_sequences_in_one_batch_have_states_of_their_own),
        cmocka_unit_test(test_the_sampler_does_what_the_stage_does),
        cmocka_unit_test(test_methods_filter_bias_and_weigh),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
