/* SPDX-License-Identifier: Apache-2.0
 * What fusion costs: plain and fused decoding in alternating runs of one process, as ratios.
 *
 *     bench_decode MODEL CALIBRATOR [ROUNDS] [TOKENS] [PROMPT] [TYPE]
 *
 * TYPE is the data type of the calibrator's blocks in memory (q4_0, q8_0, …; default: as the library chooses).
 * A round times TOKENS single-token steps and one prompt of PROMPT tokens with the plain session,
 * then with the fused one (and the other way round in every second round). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fusion/fusion.h"

struct shape {
    double bytes; /* of weights read for one token: every matrix once, the embedding only as a head */
    double flops; /* two a weight */
};

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

static void die(const char *message) {
    fprintf(stderr, "bench_decode: %s\n", message);
    exit(1);
}

/* Of a model file up to block n_blocks; with_head counts output.weight or, where tied, the embedding. */
static struct shape shape_of(const char *path, int32_t n_blocks, bool with_head) {
    struct soothe__gguf g;
    struct soothe_error err;
    struct shape        s = {0};
    if (soothe__gguf_open(&g, path, &err) != SOOTHE_OK) {
        die(err.message);
    }
    const bool    untied = gguf_find_tensor(g.meta, "output.weight") >= 0;
    const int64_t n      = gguf_get_n_tensors(g.meta);
    for (int64_t i = 0; i < n; i++) {
        const char   *name  = gguf_get_tensor_name(g.meta, i);
        const int32_t block = soothe__block_of_tensor(name);
        const bool    head  = strcmp(name, untied ? "output.weight" : "token_embd.weight") == 0;
        const bool    ours  = strcmp(name, "soothe.a.weight") == 0 || strcmp(name, "soothe.b.weight") == 0;
        if ((block >= 0 && block < n_blocks) || (head && with_head)) {
            s.bytes += (double)gguf_get_tensor_size(g.meta, i);
        } else if (ours) {
            s.bytes += 4.0 * (double)soothe__gguf_n_elements(&g, i); /* F32 in memory */
        } else {
            continue;
        }
        s.flops += 2.0 * (double)soothe__gguf_n_elements(&g, i);
    }
    soothe__gguf_close(&g);
    return s;
}

static double step(struct soothe_session *s, int32_t n_tokens, int32_t n_vocab) {
    struct soothe_error err;
    const double        start = soothe__seconds();
    for (int32_t i = 0; i < n_tokens; i++) {
        llama_token token = (i * 7919 + 13) % n_vocab;
        if (soothe_decode(s, llama_batch_get_one(&token, 1), &err) != SOOTHE_OK) {
            die(err.message);
        }
        (void)llama_get_logits_ith(soothe_session_context(s), -1);
    }
    return soothe__seconds() - start;
}

static double prompt(struct soothe_session *s, int32_t n_tokens, int32_t n_vocab) {
    struct soothe_error err;
    llama_token        *tokens = soothe__calloc((size_t)n_tokens, sizeof *tokens);
    for (int32_t i = 0; tokens && i < n_tokens; i++) {
        tokens[i] = (i * 104729 + 5) % n_vocab;
    }
    soothe_clear(s);
    const double start = soothe__seconds();
    if (!tokens || soothe_decode(s, llama_batch_get_one(tokens, n_tokens), &err) != SOOTHE_OK) {
        die(tokens ? err.message : "out of memory");
    }
    (void)llama_get_logits_ith(soothe_session_context(s), -1);
    const double seconds = soothe__seconds() - start;
    free(tokens);
    return seconds;
}

static int ascending(const void *x, const void *y) {
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

/* Median of fused/plain, and the quartiles. */
static void print_ratio(const char *what, double *plain, double *fused, int n, int32_t n_tokens) {
    double *ratio = soothe__calloc((size_t)n, sizeof *ratio);
    if (!ratio) {
        die("out of memory");
    }
    for (int i = 0; i < n; i++) {
        ratio[i] = fused[i] / plain[i];
    }
    qsort(ratio, (size_t)n, sizeof *ratio, ascending);
    qsort(plain, (size_t)n, sizeof *plain, ascending);
    qsort(fused, (size_t)n, sizeof *fused, ascending);
    printf("%-8s fused/plain %.4f (quartiles %.4f to %.4f)   plain %.3f ms/token, fused %.3f ms/token (medians)\n",
           what, ratio[n / 2], ratio[n / 4], ratio[3 * n / 4], 1e3 * plain[n / 2] / n_tokens,
           1e3 * fused[n / 2] / n_tokens);
    free(ratio);
}

static struct soothe_session *open_session(struct llama_model *target, const struct soothe_calibrator *cal,
                                           int32_t n_ctx) {
    struct soothe_error          err;
    struct soothe_session       *s;
    struct soothe_session_params p = soothe_session_params_default();
    p.context.n_ctx                = (uint32_t)n_ctx;
    p.context.n_batch              = (uint32_t)n_ctx;
    p.strength                     = 1.0f;
    if (soothe_session_new(&s, target, cal, &p, &err) != SOOTHE_OK) {
        die(err.message);
    }
    return s;
}

static enum ggml_type type_named(const char *name) {
    for (int i = 0; i < GGML_TYPE_COUNT; i++) {
        if (ggml_type_name((enum ggml_type)i) && strcmp(ggml_type_name((enum ggml_type)i), name) == 0) {
            return (enum ggml_type)i;
        }
    }
    die("TYPE is no data type of ggml");
    return GGML_TYPE_COUNT;
}

int main(int argc, char **argv) {
    if (argc < 3) {
        die("usage: bench_decode MODEL CALIBRATOR [ROUNDS] [TOKENS] [PROMPT] [TYPE]");
    }
    const int     n_rounds = argc > 3 ? atoi(argv[3]) : 15;
    const int32_t n_tokens = argc > 4 ? atoi(argv[4]) : 64;
    const int32_t n_prompt = argc > 5 ? atoi(argv[5]) : 512;
    if (n_rounds < 1 || n_rounds > 1000 || n_tokens < 1 || n_prompt < 1) {
        die("ROUNDS, TOKENS and PROMPT must be positive");
    }
    struct soothe_calibrator_params params = soothe_calibrator_params_default();
    if (argc > 6) {
        params.block_type = type_named(argv[6]);
    }
    llama_log_set(quiet, NULL);
    struct soothe_error       err;
    struct soothe_calibrator *cal;
    struct llama_model       *target = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!target || soothe_calibrator_open(&cal, argv[2], argv[1], &params, &err) != SOOTHE_OK) {
        die(target ? err.message : "cannot load the model");
    }
    const int32_t          n_vocab = llama_vocab_n_tokens(llama_model_get_vocab(target));
    struct soothe_session *plain   = open_session(target, NULL, n_prompt + n_tokens);
    struct soothe_session *fused   = open_session(target, cal, n_prompt + n_tokens);
    double                *t       = soothe__calloc(4 * (size_t)n_rounds, sizeof *t);
    if (!t) {
        die("out of memory");
    }
    for (int i = -1; i < n_rounds; i++) { /* round -1 warms up */
        double one[4];
        for (int k = 0; k < 2; k++) {
            const bool             second = (i & 1) == k;
            struct soothe_session *s      = second ? fused : plain;
            one[second ? 3 : 2]           = prompt(s, n_prompt, n_vocab);
            one[second ? 1 : 0]           = step(s, n_tokens, n_vocab);
        }
        for (int k = 0; i >= 0 && k < 4; k++) {
            t[k * n_rounds + i] = one[k];
        }
    }
    const struct soothe_calibrator_info info         = soothe_calibrator_info(cal);
    const struct shape                  target_shape = shape_of(argv[1], INT32_MAX, true),
                       cal_shape                     = shape_of(argv[2], info.n_blocks, false);
    printf("calibrator: %d blocks, A %s, B %s; target width %d\n", info.n_blocks, info.has_a ? "yes" : "no",
           info.has_b ? "yes" : "no", info.d_tgt);
    printf("a token reads %.1f MB of the target and %.1f MB of the calibrator's file's blocks and matrices (%.2f %%), "
           "%.3f and %.3f GFLOP (%.2f %%)\n",
           target_shape.bytes / 1e6, cal_shape.bytes / 1e6, 100 * cal_shape.bytes / target_shape.bytes,
           target_shape.flops / 1e9, cal_shape.flops / 1e9, 100 * cal_shape.flops / target_shape.flops);
    print_ratio("token", t, t + n_rounds, n_rounds, n_tokens);
    print_ratio("prompt", t + 2 * n_rounds, t + 3 * n_rounds, n_rounds, n_prompt);
    printf("target bandwidth %.1f GB/s at one token\n", target_shape.bytes * n_tokens / t[n_rounds / 2] / 1e9);
    free(t);
    soothe_session_free(plain);
    soothe_session_free(fused);
    soothe_calibrator_free(cal);
    llama_model_free(target);
    return 0;
}
