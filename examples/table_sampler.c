/* SPDX-License-Identifier: Apache-2.0
 * llama.cpp as ever, llama_decode and a chain of samplers, with one of soothe's in front of it: words are held
 * back by a table, and there is no session.
 *
 *     table_sampler MODEL.gguf TABLE STRENGTH PROMPT N        TABLE: a table of soothe cfl train, a list of words, or -
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
    fprintf(stderr, "table_sampler: %s\n", message);
    exit(1);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        die("usage: table_sampler MODEL.gguf TABLE STRENGTH PROMPT N");
    }
    llama_log_set(quiet, NULL);
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) {
        die("cannot load the model");
    }
    struct llama_context_params params = llama_context_default_params();
    params.n_ctx                       = 512;
    struct llama_context     *ctx      = llama_init_from_model(model, params);
    const struct llama_vocab *vocab    = llama_model_get_vocab(model);
    if (!ctx) {
        die("cannot make a context");
    }

    struct soothe_error   err;
    struct llama_sampler *table, *chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    const char           *path = strcmp(argv[2], "-") == 0 ? NULL : argv[2];
    if (soothe_sampler_init_table(&table, vocab, path, (float)atof(argv[3]), &err) != SOOTHE_OK) {
        die(err.message);
    }
    llama_sampler_chain_add(chain, table); /* first: the others choose from what it leaves likely */
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());

    llama_token   tokens[256];
    const int32_t n = llama_tokenize(vocab, argv[4], (int32_t)strlen(argv[4]), tokens, 256, true, false);
    if (n <= 0) {
        die("the prompt is empty or too long for this example");
    }
    for (int32_t i = 0; i < n; i++) {
        llama_sampler_accept(chain, tokens[i]); /* the prompt may end within a word */
    }
    struct llama_batch batch = llama_batch_get_one(tokens, n);
    for (int i = 0; i < atoi(argv[5]); i++) {
        if (llama_decode(ctx, batch) != 0) {
            die("the engine could not decode");
        }
        tokens[0] = llama_sampler_sample(chain, ctx, -1); /* which also accepts it */
        if (llama_vocab_is_eog(vocab, tokens[0])) {
            break;
        }
        char          piece[128];
        const int32_t size = llama_token_to_piece(vocab, tokens[0], piece, sizeof piece, 0, false);
        fwrite(piece, 1, size > 0 ? (size_t)size : 0, stdout);
        batch = llama_batch_get_one(tokens, 1);
    }
    putchar('\n');
    llama_sampler_free(chain);
    llama_free(ctx);
    llama_model_free(model);
    return 0;
}
