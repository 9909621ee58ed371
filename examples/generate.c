/* SPDX-License-Identifier: Apache-2.0
 * The smallest program with soothe in it: greedy generation with llama.cpp, where soothe_decode
 * stands in the place of llama_decode.
 *
 *     generate TARGET.gguf CALIBRATOR.gguf STRENGTH PROMPT N
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <soothe.h>

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) {
        fputs(text, stderr);
    }
}

static void die(const char *message) {
    fprintf(stderr, "generate: %s\n", message);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        die("usage: generate TARGET.gguf CALIBRATOR.gguf STRENGTH PROMPT N");
    }
    llama_log_set(quiet, NULL);
    struct soothe_error       err;
    struct soothe_calibrator *calibrator;
    struct soothe_session    *session;
    struct llama_model       *target = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!target) {
        die("cannot load the target");
    }
    if (soothe_calibrator_open(&calibrator, argv[2], argv[1], NULL, &err) != SOOTHE_OK) {
        die(err.message);
    }
    struct soothe_session_params params = soothe_session_params_default();
    params.context.n_ctx                = 512;
    params.strength                     = (float)atof(argv[3]);
    if (soothe_session_new(&session, target, calibrator, &params, &err) != SOOTHE_OK) {
        die(err.message);
    }

    const struct llama_vocab *vocab = llama_model_get_vocab(target);
    llama_token               tokens[256];
    int32_t                   n = llama_tokenize(vocab, argv[4], (int32_t)strlen(argv[4]), tokens, 256, true, false);
    if (n <= 0) {
        die("the prompt is empty or too long for this example");
    }
    struct llama_sampler *greedy = llama_sampler_init_greedy();
    struct llama_batch    batch  = llama_batch_get_one(tokens, n);
    for (int i = 0; i < atoi(argv[5]); i++) {
        if (soothe_decode(session, batch, &err) != SOOTHE_OK) { /* was: llama_decode(ctx, batch) */
            die(err.message);
        }
        tokens[0] = llama_sampler_sample(greedy, soothe_session_context(session), -1);
        if (llama_vocab_is_eog(vocab, tokens[0])) {
            break;
        }
        char          piece[128];
        const int32_t size = llama_token_to_piece(vocab, tokens[0], piece, sizeof piece, 0, false);
        fwrite(piece, 1, size > 0 ? (size_t)size : 0, stdout);
        batch = llama_batch_get_one(tokens, 1);
    }
    putchar('\n');
    llama_sampler_free(greedy);
    soothe_session_free(session);
    soothe_calibrator_free(calibrator);
    llama_model_free(target);
    return 0;
}
