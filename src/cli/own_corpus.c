/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/own_corpus.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "corpus/corpus.h"
#include "train/self_samples.h"
#include "train/train_model.h"

/* ---- options ---------------------------------------------------------------------------------------------------- */

const char *soothe__own_corpus_given(const struct soothe__own_corpus *own) {
    const struct {
        const char *name;
        bool        given;
    } options[] = {{"--prompts", own->prompts != NULL},         {"--prompts-max", own->n_prompts != NULL},
                   {"--unprompted", own->n_unprompted != NULL}, {"--samples", own->n_samples != NULL},
                   {"--predict", own->n_predict != NULL},       {"--samples-out", own->samples_out != NULL},
                   {"--scorer", own->scorer != NULL},           {"--keep-share", own->keep_share != NULL},
                   {"--clean-to", own->clean_to != NULL},       {"--control", own->control != NULL},
                   {"--neutral", own->neutral != NULL},         {"--neutral-share", own->neutral_share != NULL}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given)
            return options[i].name;
    return NULL;
}

static bool read_share(double *out, const char *text, const char *command, const char *option, double lo, double hi) {
    float x = (float)*out;
    if (!text)
        return true;
    if (!soothe__read_float(&x, text, command, option, lo, hi))
        return false;
    *out = strtod(text, NULL);
    return true;
}

/* What the options say, in two parts: what is sampled, what of it is kept. */
static bool read_options(const struct soothe__own_corpus *own, const char *command, struct soothe__self_options *s,
                         struct soothe__self_corpus_options *c) {
    int32_t n_prompts = 0, n_unprompted = own->prompts ? 0 : 1000;
    *s              = soothe__self_options_default();
    s->n_predict    = 40;
    s->prompts_path = own->prompts;
    s->scorer       = own->scorer ? own->scorer : "default";
    *c = (struct soothe__self_corpus_options){.keep_share = .5, .clean_to = 1, .neutral_share = own->neutral ? .25 : 0};
    if (!soothe__read_int(&n_prompts, own->n_prompts, command, "--prompts-max", 1, INT32_MAX) ||
        !soothe__read_int(&n_unprompted, own->n_unprompted, command, "--unprompted", 0, 1 << 24) ||
        !soothe__read_int(&s->n_samples, own->n_samples, command, "--samples", 1, 200) ||
        !soothe__read_int(&s->n_predict, own->n_predict, command, "--predict", 1, 1024) ||
        !read_share(&c->keep_share, own->keep_share, command, "--keep-share", 1e-6, 1) ||
        !read_share(&c->clean_to, own->clean_to, command, "--clean-to", 0, 1) ||
        !read_share(&c->neutral_share, own->neutral_share, command, "--neutral-share", 0, .99))
        return false;
    s->n_prompts_max = (size_t)n_prompts;
    s->n_unprompted  = (size_t)n_unprompted;
    c->random        = own->control != NULL;
    return true;
}

int soothe__own_corpus_check(const struct soothe__own_corpus *own, bool learns, const char *command) {
    struct soothe__self_options        s;
    struct soothe__self_corpus_options c;
    if (own->control && strcmp(own->control, "random") != 0)
        return soothe__print_misuse(command, "--control is random (a random share of the same size), not \"%.60s\"",
                                    own->control);
    if (!read_options(own, command, &s, &c))
        return SOOTHE__EXIT_MISUSE;
    if (!own->prompts && s.n_unprompted == 0)
        return soothe__print_misuse(command, "--unprompted 0 without --prompts leaves nothing to learn from");
    if (own->n_prompts && !own->prompts)
        return soothe__print_misuse(command, "--prompts-max counts the prompts of --prompts, of which there are none");
    if (learns && !own->neutral && !(own->neutral_share && c.neutral_share == 0))
        return soothe__print_misuse(command, "what neutral texts? --neutral takes a file of lines {\"text\"}; "
                                             "--neutral-share 0 does without");
    return -1;
}

/* ---- making ----------------------------------------------------------------------------------------------------- */

static void fill_facts(struct soothe__own_corpus *own, const struct soothe__self_options *s,
                       const struct soothe__self_corpus_options *c) {
    const struct soothe__self_corpus_report *r       = &own->report;
    const struct soothe__fact                facts[] = {{"sgeat.samples_sha256", own->samples_sha256, 0},
                                                        {"sgeat.scorer", soothe__file_name(s->scorer), 0},
                                                        {"sgeat.control", c->random ? "random" : "none", 0},
                                                        {"sgeat.keep_share", NULL, c->keep_share},
                                                        {"sgeat.clean_to", NULL, c->clean_to},
                                                        {"sgeat.neutral_share", NULL, c->neutral_share},
                                                        {"sgeat.n_scored", NULL, (double)r->n_scored},
                                                        {"sgeat.n_kept", NULL, (double)r->n_kept},
                                                        {"sgeat.n_neutral", NULL, (double)r->n_neutral},
                                                        {"sgeat.mean", NULL, r->mean},
                                                        {"sgeat.mean_kept", NULL, r->mean_kept},
                                                        {"sgeat.worst_kept", NULL, r->worst_kept}};
    memcpy(own->facts, facts, sizeof facts);
    own->n_facts = sizeof facts / sizeof *facts;
}

/* What would be met only when the samples are there, perhaps after hours: a model that cannot learn, a file that is not
 * there. */
static enum soothe_status look_ahead(const struct soothe__own_corpus *own, const char *model_path,
                                     struct soothe_error *err) {
    struct soothe__train_model files  = {0};
    enum soothe_status         status = soothe__train_model_open_whole(&files, model_path, err);
    soothe__train_model_close(&files);
    for (size_t i = 0; own->neutral && own->neutral[i] && !status; i++) {
        struct soothe__lines *lines = NULL;
        status                      = soothe__lines_open(&lines, own->neutral[i], err);
        soothe__lines_close(lines, NULL);
    }
    return status;
}

enum soothe_status soothe__own_corpus_sample(struct soothe__own_corpus *own, const struct soothe__train_request *r,
                                             struct soothe_error *err) {
    struct soothe__self_options        s;
    struct soothe__self_corpus_options c;
    if (!read_options(own, "tune", &s, &c))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "options that are no numbers");
    own->samples_path =
        own->samples_out ? soothe__strdup(own->samples_out) : soothe__format("%s.samples.jsonl", r->out_path);
    if (!own->samples_path)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    s.model_path              = r->model_path;
    s.samples_path            = own->samples_path;
    s.n_threads               = r->n_threads;
    s.seed                    = (uint32_t)r->seed;
    s.stop                    = r->stop;
    enum soothe_status status = look_ahead(own, r->model_path, err);
    if (!status && soothe__file_exists(own->samples_path))
        fprintf(stderr, "going on from the samples in %s\n", own->samples_path);
    if (!status)
        status = soothe__self_samples(&s, err);
    return status ? status : soothe__sha256_file(own->samples_sha256, own->samples_path, err);
}

enum soothe_status soothe__own_corpus_make(struct soothe__own_corpus *own, struct soothe__train_request *r,
                                           struct soothe_error *err) {
    struct soothe__self_options        s;
    struct soothe__self_corpus_options c;
    if (!read_options(own, "tune", &s, &c))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "options that are no numbers");
    own->corpus_path = soothe__format("%s.corpus.jsonl", r->out_path);
    enum soothe_status status =
        own->corpus_path ? soothe__own_corpus_sample(own, r, err) : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    c.samples_path  = own->samples_path;
    c.corpus_path   = own->corpus_path;
    c.neutral_paths = (const char *const *)own->neutral;
    c.seed          = r->seed;
    c.n_neutral     = soothe__list_length(own->neutral);
    if (!status)
        status = soothe__self_corpus(&c, &own->report, err);
    if (status)
        return status;
    fprintf(stderr, "%zu of %zu samples kept in %s, with %zu neutral texts\n", own->report.n_kept, own->report.n_scored,
            own->corpus_path, own->report.n_neutral);
    fill_facts(own, &s, &c);
    r->data_paths = (const char *const *)&own->corpus_path;
    r->n_data     = 1;
    r->facts      = own->facts;
    r->n_facts    = own->n_facts;
    return SOOTHE_OK;
}

/* ---- telling ---------------------------------------------------------------------------------------------------- */

json_t *soothe__own_corpus_json(const struct soothe__own_corpus *own) {
    const struct soothe__self_corpus_report *r         = &own->report;
    json_t                                  *quantiles = json_array();
    for (size_t k = 0; k < SOOTHE__SELF_QUANTILES; k++)
        json_array_append_new(quantiles,
                              json_pack("[f, o]", SOOTHE__SELF_QUANTILE[k], soothe__json_number(r->quantiles[k])));
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:f, s:f, s:f, s:f, s:f}", "samples_file",
                     own->samples_path, "corpus_file", own->corpus_path, "control", own->control ? "random" : "none",
                     "n_samples", (json_int_t)r->n_samples, "n_empty", (json_int_t)r->n_empty, "n_unscored",
                     (json_int_t)r->n_unscored, "n_scored", (json_int_t)r->n_scored, "n_kept", (json_int_t)r->n_kept,
                     "n_neutral", (json_int_t)r->n_neutral, "quantiles", quantiles, "mean", r->mean, "mean_kept",
                     r->mean_kept, "worst_kept", r->worst_kept, "toxic", r->toxic, "toxic_kept", r->toxic_kept);
}

void soothe__own_corpus_print(const struct soothe__own_corpus *own) {
    const struct soothe__self_corpus_report *r = &own->report;
    printf("  own samples     %zu, %zu empty, %zu without a score; %s %zu of %zu kept, %zu neutral texts beside\n",
           r->n_samples, r->n_empty, r->n_unscored, own->control ? "at random" : "the cleanest", r->n_kept, r->n_scored,
           r->n_neutral);
    printf("  scores          mean %.4f, of those kept %.4f (at most %.4f); quantiles", r->mean, r->mean_kept,
           r->worst_kept);
    for (size_t k = 0; k < SOOTHE__SELF_QUANTILES; k++)
        printf(" %.3f", r->quantiles[k]);
    printf("\n");
    if (r->n_neutral < r->n_neutral_wanted)
        fprintf(stderr, "soothe: %zu neutral texts were wanted; the files hold no more than %zu\n", r->n_neutral_wanted,
                r->n_neutral);
}

void soothe__own_corpus_free(struct soothe__own_corpus *own) {
    char *const texts[] = {own->prompts,       own->n_prompts,    own->n_unprompted, own->n_samples, own->n_predict,
                           own->samples_out,   own->scorer,       own->keep_share,   own->clean_to,  own->control,
                           own->neutral_share, own->samples_path, own->corpus_path};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(own->neutral);
}
