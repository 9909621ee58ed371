/* SPDX-License-Identifier: Apache-2.0
 * Writes a tiny random model, for the command line tests and the fuzz corpora:
 *   make_tiny OUT.gguf [llama|qwen2|gemma3|gpt2|bert|qwen3|gemma] [d=N] [blocks=N] [context=N] [seed=N] [other-words]
 * [nan] [numbered] [headless] [sentence-piece] make_tiny OUT.gguf random-a CALIBRATOR.gguf TARGET.gguf        the
 * calibrator with random A for the target make_tiny OUT.gguf checkpoint        the training checkpoint that
 * fuzz/fuzz_checkpoint.c reads
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tiny_model.h"
#include "train/checkpoint.h"

static bool take(struct tiny_options *o, const char *word) {
    static const char *const families[] = {"llama", "qwen2", "gemma3", "gpt2", "bert", "qwen3", "gemma"};
    for (int f = 0; f < 7; f++) {
        if (strcmp(word, families[f]) == 0) {
            o->family = (enum tiny_family)f;
            return true;
        }
    }
    if (strncmp(word, "d=", 2) == 0)
        o->d = (uint32_t)strtoul(word + 2, NULL, 10);
    else if (strncmp(word, "blocks=", 7) == 0)
        o->n_blocks = (uint32_t)strtoul(word + 7, NULL, 10);
    else if (strncmp(word, "context=", 8) == 0)
        o->n_context = (uint32_t)strtoul(word + 8, NULL, 10);
    else if (strncmp(word, "seed=", 5) == 0)
        o->seed = strtoull(word + 5, NULL, 10);
    else if (strcmp(word, "other-words") == 0)
        o->other_words = true;
    else if (strcmp(word, "sentence-piece") == 0)
        o->sentence_piece = true;
    else if (strcmp(word, "nan") == 0)
        o->nan_weight = true;
    else if (strcmp(word, "numbered") == 0)
        o->numbered = true;
    else if (strcmp(word, "headless") == 0)
        o->headless = true;
    else
        return false;
    return true;
}

static bool write_checkpoint(const char *path) {
    float                           values[2][8] = {{1, 2, 3, 4, 5, 6, 7, 8}, {-1, -2, -3, -4, -5}};
    struct soothe__checkpoint_array arrays[]     = {{"w.x", values[0], 8}, {"m.x", values[1], 5}};
    const struct soothe__checkpoint c            = {.run = "fuzz", .step = 7, .arrays = arrays, .n_arrays = 2};
    return soothe__checkpoint_save(path, &c, NULL) == SOOTHE_OK;
}

int main(int argc, char **argv) {
    struct tiny_options o = {.family = TINY_LLAMA, .seed = 1};
    if (argc == 3 && strcmp(argv[2], "checkpoint") == 0)
        return write_checkpoint(argv[1]) ? 0 : 1;
    if (argc == 5 && strcmp(argv[2], "random-a") == 0)
        return tiny_random_alignment(argv[1], argv[3], argv[4], 1) ? 0 : 1;
    for (int i = 2; i < argc; i++) {
        if (!take(&o, argv[i])) {
            fprintf(stderr, "make_tiny: what is \"%s\"?\n", argv[i]);
            return 2;
        }
    }
    if (argc < 2 || !tiny_model_write(argv[1], &o)) {
        fprintf(stderr, "make_tiny: cannot write %s\n", argc < 2 ? "nothing" : argv[1]);
        return 1;
    }
    return 0;
}
