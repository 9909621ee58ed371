/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/own_pairs.h"

#include <stdlib.h>

#include "train/self_samples.h"

int soothe__own_pairs_check(const struct soothe__own_pairs *own, const char *command) {
    const struct {
        const char *name;
        double      value, lo, hi;
    } ranges[] = {{"--samples", own->n_samples, 1, 200},
                  {"--predict", own->n_predict, 1, 1024},
                  {"--prompts-max", own->n_prompts, 0, 1e9}};
    if (own->self && !own->prompts)
        return soothe__print_misuse(command, "--self needs --prompts, a file of lines {\"prompt\": …}");
    if (!own->self && (own->prompts || own->samples_out || own->score_command))
        return soothe__print_misuse(command, "%s needs --self",
                                    own->prompts       ? "--prompts"
                                    : own->samples_out ? "--samples-out"
                                                       : "--score-command");
    if (!(own->clean_to >= 0 && own->clean_to < own->toxic_from && own->toxic_from <= 1))
        return soothe__print_misuse(command, "--clean-to %g and --toxic-from %g: 0 <= clean < toxic <= 1 is possible",
                                    own->clean_to, own->toxic_from);
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].lo && ranges[i].value <= ranges[i].hi))
            return soothe__print_misuse(command, "%s must be from %g to %g, not %g", ranges[i].name, ranges[i].lo,
                                        ranges[i].hi, ranges[i].value);
    return -1;
}

static enum soothe_status to_pairs(const struct soothe__own_pairs *own, const char *samples, const char *pairs,
                                   struct soothe_error *err) {
    struct soothe__self_counts counts = {0};
    const enum soothe_status status = soothe__self_pairs(samples, pairs, own->clean_to, own->toxic_from, &counts, err);
    if (!status)
        fprintf(stderr,
                "%zu pairs and %zu clean texts from %zu samples of %zu prompts (%zu toxic, %zu unscored) in %s\n",
                counts.n_pairs, counts.n_texts, counts.n_samples, counts.n_prompts, counts.n_toxic, counts.n_unscored,
                pairs);
    return status;
}

enum soothe_status soothe__own_pairs_make(const struct soothe__own_pairs *own, const char *model, const char *output,
                                          int n_threads, int seed, const volatile sig_atomic_t *stop, char **pairs_path,
                                          struct soothe_error *err) {
    struct soothe__self_options o = soothe__self_options_default();
    char *samples   = own->samples_out ? soothe__strdup(own->samples_out) : soothe__format("%s.samples.jsonl", output);
    *pairs_path     = output ? soothe__format("%s.pairs.jsonl", output) : NULL;
    o.model_path    = model;
    o.prompts_path  = own->prompts;
    o.samples_path  = samples;
    o.score_command = own->score_command;
    o.n_samples     = own->n_samples;
    o.n_predict     = own->n_predict;
    o.n_prompts_max = (size_t)own->n_prompts;
    o.n_threads     = n_threads;
    o.seed          = (uint32_t)seed;
    o.stop          = stop;
    enum soothe_status status = SOOTHE_OK;
    if (!samples || (output && !*pairs_path))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status && soothe__file_exists(samples))
        fprintf(stderr, "going on from the samples in %s\n", samples);
    if (!status)
        status = soothe__self_samples(&o, err);
    if (!status && !*pairs_path)
        printf("%s\n", samples); /* only sampling was asked for */
    if (!status && *pairs_path)
        status = to_pairs(own, samples, *pairs_path, err);
    if (status) {
        free(*pairs_path);
        *pairs_path = NULL;
    }
    free(samples);
    return status;
}

void soothe__own_pairs_free(struct soothe__own_pairs *own) {
    char *all[] = {own->prompts, own->samples_out, own->score_command};
    soothe__free_texts(all, sizeof all / sizeof *all);
}
