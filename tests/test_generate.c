/* SPDX-License-Identifier: Apache-2.0
 * Many continuations over one session, against one at a time. */
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
#include "fusion/calibrator_file.h"
#include "generate/generate.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_generate_target.gguf"
#define CALIBRATOR "test_generate_calibrator.gguf"

enum { N_PROMPTS = 6, N_RESULTS = 64, N_TOKENS_MAX = 64 };

static struct llama_model       *model;
static struct soothe_calibrator *cal;
static struct soothe_error       err;

/* A tiny target, and a calibrator of one block with a random A that changes what it says. */
static bool write_calibrator(void) {
    enum { D = 64 };
    struct soothe__rng rng = soothe__rng_seed(3, 3);
    float             *a   = soothe__calloc(D * D, sizeof *a);
    for (int i = 0; a && i < D * D; i++)
        a[i] = (float)(0.2 * soothe__rng_normal(&rng));
    const struct soothe__calibrator_spec spec = {.name        = "test",
                                                 .source_path = CALIBRATOR ".cut",
                                                 .target_path = TARGET,
                                                 .form        = SOOTHE_FORM_RESIDUAL,
                                                 .strength    = 1.0f,
                                                 .d_cal       = D,
                                                 .d_tgt       = D,
                                                 .a           = a,
                                                 .block_type  = GGML_TYPE_F32,
                                                 .matrix_type = GGML_TYPE_F32};
    const bool ok = a && soothe_calibrator_init(TARGET, 1, CALIBRATOR ".cut", &err) == SOOTHE_OK &&
                    soothe__calibrator_write(CALIBRATOR, &spec, &err) == SOOTHE_OK;
    free(a);
    unlink(CALIBRATOR ".cut");
    return ok;
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    if (!tiny_model_write(TARGET, &(struct tiny_options){.family = TINY_LLAMA, .seed = 5}) || !write_calibrator() ||
        soothe__target_load(&model, TARGET, 0, &err) || soothe_calibrator_open(&cal, CALIBRATOR, TARGET, NULL, &err)) {
        fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    soothe_calibrator_free(cal);
    llama_model_free(model);
    unlink(TARGET);
    unlink(CALIBRATOR);
    return 0;
}

/* ---- running --------------------------------------------------------------------------------------- */

struct result {
    char               *text;
    llama_token         tokens[N_TOKENS_MAX];
    float               log_probs[N_TOKENS_MAX];
    int32_t             n_tokens;
    enum soothe__finish finish;
};

struct results {
    struct result          at[N_RESULTS]; /* [prompt][strength][sample] */
    size_t                 n_doses, n_samples, n_done;
    int32_t                stop_after; /* tokens of all; 0: never */
    int32_t                end_after;  /* tokens of prompt 0; 0: never */
    int32_t                n_tokens;
    volatile sig_atomic_t *stop;
};

static bool on_token(void *user, const struct soothe__continuation *c, size_t n_new) {
    struct results *r = user;
    assert_true(soothe__utf8_valid(c->text + c->size - n_new, n_new));
    assert_int_equal(c->tokens[c->n_tokens - 1].text_end, c->size);
    if (++r->n_tokens == r->stop_after)
        *r->stop = 1;
    return !(r->end_after && c->i_prompt == 0 && c->n_tokens == r->end_after);
}

static void on_done(void *user, const struct soothe__continuation *c) {
    struct results *r = user;
    struct result  *x = &r->at[(c->i_prompt * r->n_doses + c->i_dose) * r->n_samples + (size_t)c->i_sample];
    assert_null(x->text);
    assert_true(soothe__utf8_valid(c->text, c->size));
    assert_int_equal(strlen(c->text), c->size);
    x->text     = soothe__strdup(c->text);
    x->n_tokens = c->n_tokens;
    x->finish   = c->finish;
    for (int32_t i = 0; i < c->n_tokens && i < N_TOKENS_MAX; i++) {
        x->tokens[i]    = c->tokens[i].id;
        x->log_probs[i] = c->tokens[i].log_prob;
    }
    r->n_done++;
}

static void free_results(struct results *r) {
    for (size_t i = 0; i < N_RESULTS; i++)
        free(r->at[i].text);
}

static void assert_same(const struct results *a, const struct results *b) {
    assert_int_equal(a->n_done, b->n_done);
    for (size_t i = 0; i < N_RESULTS; i++) {
        assert_int_equal(a->at[i].n_tokens, b->at[i].n_tokens);
        assert_memory_equal(a->at[i].tokens, b->at[i].tokens, sizeof a->at[i].tokens);
        assert_int_equal(a->at[i].finish, b->at[i].finish);
        if (a->at[i].text)
            assert_string_equal(a->at[i].text, b->at[i].text);
    }
}

static llama_token           PROMPT_TOKENS[N_PROMPTS][200];
static struct soothe__prompt prompts[N_PROMPTS];

/* Prompts of 1, 4, 9, 16 … tokens. */
static void make_prompts(void) {
    for (int32_t p = 0; p < N_PROMPTS; p++) {
        for (int32_t i = 0; i < (p + 1) * (p + 1); i++)
            PROMPT_TOKENS[p][i] = (37 * i + 101 * p + i * i) % 250;
        prompts[p] = soothe__prompt_of(PROMPT_TOKENS[p], (p + 1) * (p + 1), (uint64_t)p);
    }
}

static struct soothe_session *open_session(int32_t n_parallel, uint32_t n_ctx, const struct soothe_calibrator *with) {
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = n_ctx;
    p.context.n_seq_max            = (uint32_t)n_parallel + 1;
    p.context.n_threads = p.context.n_threads_batch = 1;
    /* A random model's distribution is flat: F16 in the cache would turn the engine's rounding, which differs with
     * the shape of a batch, into other tokens now and then. In F32 it is too small to. */
    p.context.type_k = p.context.type_v = GGML_TYPE_F32;
    p.context.flash_attn_type           = LLAMA_FLASH_ATTN_TYPE_DISABLED;
    assert_int_equal(soothe_session_new(&s, model, with, &p, &err), SOOTHE_OK);
    return s;
}

static struct soothe__generate_options options_of(float temp, int32_t n_samples) {
    struct soothe__generate_options o = soothe__generate_options_default();
    o.sampling.temp                   = temp;
    o.sampling.top_p                  = 1.0f;
    o.sampling.min_p                  = 0.0f;
    o.n_predict                       = 20;
    o.n_samples                       = n_samples;
    o.on_token                        = on_token;
    o.on_done                         = on_done;
    return o;
}

static struct results run(struct soothe_session *s, size_t n_prompts, struct soothe__generate_options o) {
    struct results r                = {.n_doses = o.n_doses ? o.n_doses : 1, .n_samples = (size_t)o.n_samples};
    o.user                          = &r;
    const enum soothe_status status = soothe__generate(s, prompts, n_prompts, &o, NULL, &err);
    if (status)
        fail_msg("%s", err.message);
    return r;
}

static struct results run_fresh(int32_t n_parallel, uint32_t n_ctx, struct soothe__generate_options o) {
    struct soothe_session *s = open_session(n_parallel, n_ctx, cal);
    const struct results   r = run(s, N_PROMPTS, o);
    soothe_session_free(s);
    return r;
}

/* ---- one by one and many at once ------------------------------------------------------------------- */

static void test_many_at_once_say_what_they_say_one_by_one(void **state) {
    (void)state;
    for (int with_temperature = 0; with_temperature < 2; with_temperature++) {
        const struct soothe__generate_options o      = options_of(with_temperature ? 0.7f : 0.0f, 3);
        struct results                        single = run_fresh(1, 256, o);
        for (int32_t n_parallel = 2; n_parallel <= 11; n_parallel += 3) {
            struct results many = run_fresh(n_parallel, 2048, o);
            assert_int_equal(many.n_done, 3 * N_PROMPTS);
            assert_same(&single, &many);
            free_results(&many);
        }
        free_results(&single);
    }
}

static void test_a_small_context_only_makes_them_wait(void **state) {
    (void)state;
    const struct soothe__generate_options o     = options_of(0.7f, 3);
    struct results                        roomy = run_fresh(8, 2048, o), tight = run_fresh(8, 256, o);
    assert_same(&roomy, &tight);
    free_results(&roomy);
    free_results(&tight);
}

static void test_the_same_seed_gives_the_same_text_and_another_another(void **state) {
    (void)state;
    struct soothe__generate_options o = options_of(1.0f, 2);
    o.sampling.seed                   = 11;
    struct results a = run_fresh(4, 1024, o), b = run_fresh(4, 1024, o);
    o.sampling.seed  = 12;
    struct results c = run_fresh(4, 1024, o);
    assert_same(&a, &b);
    for (size_t i = 0; i < 2 * N_PROMPTS; i++)
        assert_memory_not_equal(a.at[i].tokens, c.at[i].tokens, sizeof a.at[i].tokens);
    assert_memory_not_equal(a.at[0].tokens, a.at[1].tokens, sizeof a.at[0].tokens); /* two samples differ */
    free_results(&a);
    free_results(&b);
    free_results(&c);
}

static void test_strengths_in_one_batch_equal_runs_of_their_own(void **state) {
    (void)state;
    const float                     strengths[] = {0.0f, 0.5f, 1.5f};
    struct soothe__generate_options o           = options_of(0.7f, 2);
    struct soothe_session          *s           = open_session(7, 2048, cal);
    struct soothe_session          *plain       = open_session(7, 2048, NULL);
    o.doses                                     = strengths;
    o.n_doses                                   = 3;
    struct results together                     = run(s, 3, o);
    o.n_doses                                   = 1;
    for (size_t k = 0; k < 3; k++) {
        o.doses              = strengths + k;
        struct results alone = run(k ? s : plain, 3, o); /* strength 0: as without a calibrator */
        for (size_t p = 0; p < 3; p++)
            for (size_t i = 0; i < 2; i++)
                assert_memory_equal(together.at[(p * 3 + k) * 2 + i].tokens, alone.at[p * 2 + i].tokens,
                                    sizeof alone.at[0].tokens);
        free_results(&alone);
    }
    assert_memory_not_equal(together.at[0].tokens, together.at[4].tokens, sizeof together.at[0].tokens);
    free_results(&together);
    soothe_session_free(s);
    soothe_session_free(plain);
}

static void test_a_session_is_empty_afterwards_and_can_be_used_again(void **state) {
    (void)state;
    struct soothe_session                *s     = open_session(3, 512, cal);
    const struct soothe__generate_options o     = options_of(0.7f, 2);
    struct results                        first = run(s, N_PROMPTS, o), again = run(s, N_PROMPTS, o);
    assert_same(&first, &again);
    for (llama_seq_id i = 0; i < 4; i++)
        assert_int_equal(llama_memory_seq_pos_max(llama_get_memory(soothe_session_context(s)), i), -1);
    free_results(&first);
    free_results(&again);
    soothe_session_free(s);
}

/* ---- ends -------------------------------------------------------------------------------------------- */

static void test_the_stop_flag_ends_all_and_hands_over_what_is_there(void **state) {
    (void)state;
    volatile sig_atomic_t           stop = 0;
    struct soothe_session          *s    = open_session(3, 512, cal);
    struct soothe__generate_options o    = options_of(0.7f, 2);
    struct results                  r    = {.n_doses = 1, .n_samples = 2, .stop_after = 7, .stop = &stop};
    o.stop                               = &stop;
    o.user                               = &r;
    assert_int_equal(soothe__generate(s, prompts, N_PROMPTS, &o, NULL, &err), SOOTHE_E_INTERRUPTED);
    assert_int_equal(r.n_done, 3); /* those under way */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(r.at[i].finish, SOOTHE__FINISH_INTERRUPTED);
        assert_in_range(r.at[i].n_tokens, 1, 3);
    }
    free_results(&r);
    soothe_session_free(s);
}

static void test_a_callback_may_end_one_continuation(void **state) {
    (void)state;
    struct soothe_session          *s = open_session(3, 512, cal);
    struct soothe__generate_options o = options_of(0.0f, 1);
    struct results                  r = {.n_doses = 1, .n_samples = 1, .end_after = 2};
    o.user                            = &r;
    assert_int_equal(soothe__generate(s, prompts, 3, &o, NULL, &err), SOOTHE_OK);
    assert_int_equal(r.at[0].finish, SOOTHE__FINISH_INTERRUPTED);
    assert_int_equal(r.at[0].n_tokens, 2);
    assert_int_not_equal(r.at[1].finish, SOOTHE__FINISH_INTERRUPTED);
    assert_true(r.at[1].finish == SOOTHE__FINISH_STOP || r.at[1].n_tokens == 20);
    free_results(&r);
    soothe_session_free(s);
}

static void test_without_a_limit_the_context_is_the_limit(void **state) {
    (void)state;
    struct soothe_session          *s = open_session(1, 256, NULL);
    struct soothe__generate_options o = options_of(1.5f, 1);
    struct soothe__generate_stats   stats;
    struct results                  r = {.n_doses = 1, .n_samples = 1};
    o.n_predict                       = -1;
    o.sampling.top_k                  = 2; /* hardly ever the end token */
    o.user                            = &r;
    assert_int_equal(soothe__generate(s, &prompts[5], 1, &o, &stats, &err), SOOTHE_OK);
    assert_true(r.at[0].finish == SOOTHE__FINISH_STOP || r.at[0].n_tokens == 256 - 36);
    assert_int_equal(stats.n_prompt_tokens, 36);
    assert_int_equal(stats.n_tokens, r.at[0].n_tokens);
    free_results(&r);
    soothe_session_free(s);
}

static void test_bad_requests_get_a_sentence(void **state) {
    (void)state;
    struct soothe_session                *s       = open_session(2, 256, NULL);
    struct soothe_session                *one     = open_session(0, 256, NULL);
    const struct soothe__generate_options o       = soothe__generate_options_default();
    struct soothe__generate_options       nothing = o, hot = o;
    llama_token                           tokens[300] = {0}, bad = 300;
    nothing.n_predict                 = 0;
    hot.sampling.temp                 = NAN;
    const struct soothe__prompt empty = soothe__prompt_of(tokens, 0, 0), longer = soothe__prompt_of(tokens, 256, 0),
                                unknown = soothe__prompt_of(&bad, 1, 0);
    assert_int_equal(soothe__generate(s, &empty, 1, &o, NULL, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "empty"));
    assert_int_equal(soothe__generate(s, &longer, 1, &o, NULL, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "256 tokens"));
    assert_int_equal(soothe__generate(s, &unknown, 1, &o, NULL, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "token 300"));
    assert_int_equal(soothe__generate(s, prompts, 1, &nothing, NULL, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe__generate(s, prompts, 1, &hot, NULL, &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "temperature"));
    assert_int_equal(soothe__generate(one, prompts, 1, &o, NULL, &err), SOOTHE_E_ARGUMENT);
    assert_int_equal(soothe__generate(s, prompts, 0, &o, NULL, &err), SOOTHE_OK);
    soothe_session_free(s);
    soothe_session_free(one);
}

/* ---- what is said of the tokens ------------------------------------------------------------------------ */

/* Against the definition, over logits of an own decode. */
static void test_log_probabilities_are_those_of_the_fused_model(void **state) {
    (void)state;
    struct soothe_session          *s       = open_session(2, 512, cal);
    const int32_t                   n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    struct soothe__generate_options o       = options_of(0.7f, 1);
    o.log_probs                             = true;
    struct results r                        = run(s, 3, o);
    llama_token    tokens[64];
    const int32_t  n = prompts[2].n_tokens;
    memcpy(tokens, prompts[2].tokens, (size_t)n * sizeof *tokens);
    for (int32_t i = 0; i < r.at[2].n_tokens; i++) {
        soothe_clear(s);
        assert_int_equal(soothe_decode(s, llama_batch_get_one(tokens, n + i), &err), SOOTHE_OK);
        const float *z   = llama_get_logits_ith(soothe_session_context(s), -1);
        double       sum = 0;
        for (int32_t k = 0; k < n_vocab; k++)
            sum += exp((double)z[k]);
        tokens[n + i] = r.at[2].tokens[i];
        /* logits of order 1 differ by about 1e-4 with the shape of the batch */
        assert_true(fabs((double)z[tokens[n + i]] - log(sum) - (double)r.at[2].log_probs[i]) < 1e-3);
    }
    free_results(&r);
    soothe_session_free(s);
}

static void test_penalties_look_back_into_the_prompt(void **state) {
    (void)state;
    struct soothe_session          *s     = open_session(1, 512, NULL);
    struct soothe__generate_options o     = options_of(0.0f, 1);
    struct results                  plain = run(s, N_PROMPTS, o);
    o.sampling.presence_penalty           = 1000.0f; /* no token twice */
    o.sampling.repeat_last_n              = -1;
    struct results r                      = run(s, N_PROMPTS, o);
    for (int32_t i = 0; i < r.at[5].n_tokens; i++) {
        for (int32_t k = 0; k < prompts[5].n_tokens; k++)
            assert_int_not_equal(r.at[5].tokens[i], prompts[5].tokens[k]);
        for (int32_t k = 0; k < i; k++)
            assert_int_not_equal(r.at[5].tokens[i], r.at[5].tokens[k]);
    }
    free_results(&plain);
    free_results(&r);
    soothe_session_free(s);
}

static void test_an_empty_text_does_not_repeat_the_one_before(void **state) {
    (void)state;
    struct soothe_session          *s     = open_session(1, 512, NULL);
    struct soothe__generate_options o     = options_of(0.0f, 1);
    const llama_token               eos   = llama_vocab_eos(llama_model_get_vocab(model));
    const struct soothe__prompt     two[] = {prompts[5], soothe__prompt_of(&eos, 1, 1)};
    struct results                  r     = {.n_doses = 1, .n_samples = 1};
    o.sampling.frequency_penalty          = -1000.0f; /* again what was there, hence the end of the text */
    o.user                                = &r;
    assert_int_equal(soothe__generate(s, two, 2, &o, NULL, &err), SOOTHE_OK);
    assert_true(r.at[0].n_tokens > 0);
    assert_int_equal(r.at[1].finish, SOOTHE__FINISH_STOP);
    assert_int_equal(r.at[1].n_tokens, 0);
    assert_string_equal(r.at[1].text, "");
    free_results(&r);
    soothe_session_free(s);
}

static void test_extremes_of_sampling_are_taken_as_what_they_come_to(void **state) {
    (void)state;
    struct soothe_session          *s      = open_session(1, 512, NULL);
    struct soothe__generate_options o      = options_of(0.0f, 1);
    struct results                  greedy = run(s, N_PROMPTS, o);
    o.sampling.temp                        = 1e-40f; /* logits divided by it are infinite */
    struct results cold                    = run(s, N_PROMPTS, o);
    assert_same(&greedy, &cold);
    o.sampling.temp             = 0.0f;
    o.sampling.presence_penalty = 1.0f;
    o.sampling.repeat_last_n    = -1;
    struct results all          = run(s, N_PROMPTS, o);
    o.sampling.repeat_last_n    = INT32_MAX; /* 8 GB if the engine made room for them */
    struct results more         = run(s, N_PROMPTS, o);
    assert_same(&all, &more);
    free_results(&greedy);
    free_results(&cold);
    free_results(&all);
    free_results(&more);
    soothe_session_free(s);
}

/* ---- characters ---------------------------------------------------------------------------------------- */

static void test_a_character_waits_until_it_is_whole(void **state) {
    (void)state;
    struct soothe__utf8_stream u = {.n_held = 0};
    char                       out[32];
    assert_int_equal(soothe__utf8_push(&u, "a\xF0\x9F", 3, out), 1);
    assert_int_equal(soothe__utf8_push(&u, "\x98", 1, out), 0);
    assert_int_equal(soothe__utf8_push(&u, "\x80z", 2, out), 5);
    assert_memory_equal(out, "\xF0\x9F\x98\x80z", 5);
    assert_int_equal(soothe__utf8_push(&u, "\xE2\x82", 2, out), 0); /* given up at the next letter */
    assert_int_equal(soothe__utf8_push(&u, "b", 1, out), 7);
    assert_memory_equal(out,
                        "\xEF\xBF\xBD\xEF\xBF\xBD"
                        "b",
                        7);
    assert_int_equal(soothe__utf8_push(&u, "\x80", 1, out), 3);
    assert_int_equal(soothe__utf8_push(&u, "\0", 1, out), 3);
    assert_int_equal(u.n_held, 0);
}

static void test_any_bytes_become_valid_text_however_they_are_cut(void **state) {
    (void)state;
    struct soothe__rng rng = soothe__rng_seed(1, 1);
    for (int round = 0; round < 2000; round++) {
        struct soothe__utf8_stream whole = {.n_held = 0}, pieces = {.n_held = 0};
        char                       bytes[24], a[96], b[96];
        for (size_t i = 0; i < sizeof bytes; i++) { /* mostly lead and continuation bytes */
            const uint32_t kind = soothe__rng_below(&rng, 4), x = soothe__rng_below(&rng, 64);
            bytes[i] = (char)(kind == 0 ? x + 32 : kind == 1 ? 0xC0 + x : 0x80 + x);
        }
        const size_t n = soothe__utf8_push(&whole, bytes, sizeof bytes, a);
        size_t       m = 0;
        for (size_t i = 0; i < sizeof bytes; i++)
            m += soothe__utf8_push(&pieces, bytes + i, 1, b + m);
        assert_int_equal(n, m);
        assert_memory_equal(a, b, n);
        assert_true(soothe__utf8_valid(a, n));
        assert_true(whole.n_held < 4);
    }
}

/* ---- chat templates, with the real model ------------------------------------------------------------------ */

static void test_a_chat_turn_follows_the_models_template(void **state) {
    (void)state;
    char *text = NULL;
    assert_int_equal(soothe__chat_prompt(&text, model, NULL, "hello", &err), SOOTHE_E_UNSUPPORTED);
    assert_null(text);
    const char *path = getenv("SOOTHE_TEST_MODEL");
    if (!path)
        skip();
    struct llama_model *real;
    assert_int_equal(soothe__target_load(&real, path, 0, &err), SOOTHE_OK);
    assert_int_equal(soothe__chat_prompt(&text, real, "Be kind.", "hello", &err), SOOTHE_OK);
    assert_string_equal(text, "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n"
                              "<|im_start|>assistant\n");
    free(text);
    llama_model_free(real);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_at_once_say_what_they_say_one_by_one),
        cmocka_unit_test(test_a_small_context_only_makes_them_wait),
        cmocka_unit_test(test_the_same_seed_gives_the_same_text_and_another_another),
        cmocka_unit_test(test_strengths_in_one_batch_equal_runs_of_their_own),
        cmocka_unit_test(test_a_session_is_empty_afterwards_and_can_be_used_again),
        cmocka_unit_test(test_the_stop_flag_ends_all_and_hands_over_what_is_there),
        cmocka_unit_test(test_a_callback_may_end_one_continuation),
        cmocka_unit_test(test_without_a_limit_the_context_is_the_limit),
        cmocka_unit_test(test_bad_requests_get_a_sentence),
        cmocka_unit_test(test_log_probabilities_are_those_of_the_fused_model),
        cmocka_unit_test(test_penalties_look_back_into_the_prompt),
        cmocka_unit_test(test_an_empty_text_does_not_repeat_the_one_before),
        cmocka_unit_test(test_extremes_of_sampling_are_taken_as_what_they_come_to),
        cmocka_unit_test(test_a_character_waits_until_it_is_whole),
        cmocka_unit_test(test_any_bytes_become_valid_text_however_they_are_cut),
        cmocka_unit_test(test_a_chat_turn_follows_the_models_template),
    };
    make_prompts();
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
