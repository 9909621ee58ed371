/* SPDX-License-Identifier: Apache-2.0
 * soothe tune --objective: the target itself learns; a model, or a LoRA file, comes out. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/acft.h"
#include "cli/result.h"
#include "cli/speak.h"
#include "cli/tune_model.h"
#include "pull/pull.h"
#include "train/train_run.h"

static const char NAME[] = "tune --objective sft"; /* whose --help the sentences name */

static const struct soothe__command COMMAND = {
    .name    = "tune",
    .run     = soothe__cmd_tune_model,
    .summary = "teach a model itself",
    .help =
        "    soothe tune --objective preference -m model.gguf --data pairs.jsonl --data clean.jsonl -o tuned.gguf\n"
        "    soothe tune --objective sft -m model.gguf --data texts.jsonl --lora -o tuned.lora.gguf\n"
        "    soothe tune --objective cppl -m model.gguf --data pairs.jsonl --set-by rejected -o tuned.gguf\n"
        "    soothe tune --objective sgeat -m model.gguf --neutral clean.jsonl -o tuned.gguf\n"
        "    soothe tune --objective acft -m model.gguf --data useful.jsonl --prompts prompts.jsonl -o tuned.gguf\n"
        "\n"
        "sft: likelier texts; {\"text\"} or {\"prompt\", \"completion\"}, each with a \"weight\" if wanted.\n"
        "preference: the chosen side likelier than the rejected one, {\"prompt\", \"chosen\", \"rejected\"}, and "
        "close to\n"
        "the model as it was on the texts. cppl: paraphrases, toxic ones off the harmless ones' perplexity.\n"
        "sgeat: the model writes texts itself, a scorer judges them, and the cleanest half is learnt.\n"
        "acft: useful texts, while own samples are held to the nearest distribution whose texts a success head thinks "
        "clean.\n"
        "Factors of low rank learn (LoRA) beside the matrices, which stay as the file has them; they are merged "
        "into the\n"
        "model at the end, or with --lora written as a file that llama.cpp loads. A run that was stopped (Ctrl-C) "
        "goes on\n"
        "by the same command.\n",
};

struct choice {
    char *model, *output, *objective, *checkpoint, *precision, *states, *tensors, *blocks, *set_by, *form, *phi,
        *merged;
    char  *keep;
    char **data, **heldout;
    char  *steps, *pairs, *texts, *kl_texts, *max_length, *rank, *alpha, *rate, *kappa, *lambda, *decay, *clip, *share;
    char  *omega, *tau, *n_random, *set_max, *seed, *threads, *every;
    int    lora, full, fresh, json;
    struct soothe__own_corpus own;  /* sgeat, acft */
    struct soothe__acft       acft; /* acft */
};

/* ---- options ---------------------------------------------------------------------------------------- */

/* The place of a word in a list that ends in NULL, or -1 after saying so. Not given: 0. */
static int choose(const char *text, const char *option, const char *const *words) {
    char all[200] = "";
    for (int i = 0; words[i]; i++) {
        if (!text || strcmp(text, words[i]) == 0)
            return i;
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s", i ? ", " : "", words[i]);
    }
    soothe__print_misuse(NAME, "%s is one of %s, not \"%.60s\"", option, all, text);
    return -1;
}

static bool read_number(double *out, const char *text, const char *option, double lo, double hi) {
    if (!text || soothe__parse_double(out, text, lo, hi))
        return true;
    soothe__print_misuse(NAME, "%s takes a number from %g to %g, not \"%.60s\"", option, lo, hi, text);
    return false;
}

static bool read_whole(struct soothe__whole_request *w, const struct choice *c) {
    static const char *const KEYS[]  = {"pair", "set", "prompt", "chosen", "rejected", NULL};
    static const char *const FORMS[] = {"paper", "code", NULL}, *const PHIS[] = {"perplexity", "log", NULL};
    static const char *const KEEPS[] = {"file", "bf16", "f32", NULL};
    int32_t                  set_max = 0;
    const int                key = choose(c->set_by, "--set-by", KEYS), form = choose(c->form, "--cppl", FORMS),
              phi = choose(c->phi, "--phi", PHIS), keep = choose(c->keep, "--keep", KEEPS);
    if (key < 0 || form < 0 || phi < 0 || keep < 0)
        return false;
    w->set_key = (enum soothe__set_key)key;
    w->form    = (enum soothe__weight_form)keep;
    w->loss    = soothe__cppl_options_default((enum soothe__cppl_form)form);
    if (c->phi)
        w->loss.log_phi = phi == 1;
    w->matrices = c->tensors ? soothe__matrices_parse(c->tensors) : SOOTHE__MATRIX_ALL;
    if (!w->matrices) {
        soothe__print_misuse(NAME, "--tensors is all, or some of q,k,v,o,gate,up,down, not \"%.60s\"", c->tensors);
        return false;
    }
    const bool ok = soothe__read_blocks(&w->first_block, &w->end_block, c->blocks, NAME) &&
                    soothe__read_int(&w->rank, c->rank, NAME, "--rank", 1, 4096) &&
                    read_number(&w->alpha, c->alpha, "--alpha", 1e-6, 1e6) &&
                    soothe__read_int(&w->n_kl, c->kl_texts, NAME, "--kl-texts-per-step", 0, 1024) &&
                    soothe__read_int(&set_max, c->set_max, NAME, "--set-max", 1, 64) &&
                    read_number(&w->loss.alpha, c->omega, "--cppl-alpha", 1e-6, 1e6) &&
                    read_number(&w->loss.tau, c->tau, "--cppl-tau", 1e-6, 1e6) &&
                    soothe__read_int(&w->loss.n_random, c->n_random, NAME, "--cppl-random", 0, 1024);
    w->set_max     = (uint32_t)set_max;
    w->full        = c->full != 0;
    w->lora        = c->lora != 0;
    w->merged_path = c->merged;
    return ok;
}

static bool read_request(struct soothe__train_request *r, const struct choice *c) {
    static const char *const OBJECTIVES[] = {"sft", "preference", "cppl", "sgeat", "acft", NULL};
    static const char *const TYPES[]      = {"auto", "bf16", "f32", NULL};
    const int                objective    = choose(c->objective, "--objective", OBJECTIVES),
              type                        = choose(c->precision, "--precision", TYPES);
    int32_t seed                          = 1;
    if (objective < 0 || type < 0)
        return false;
    r->whole.on   = true;
    r->whole.cppl = objective == 2;
    r->whole.name = objective == 3 ? "sgeat" : objective == 4 ? "acft" : NULL;
    r->objective  = objective == 1 ? SOOTHE__OWN_PREFERENCE : SOOTHE__WEIGHTED;
    r->precision  = (enum soothe__precision)type;
    r->fresh      = c->fresh != 0;
    const bool ok = soothe__read_int(&r->n_steps, c->steps, NAME, "--steps", 1, 1000000) &&
                    soothe__read_int(&r->n_pairs, c->pairs, NAME, "--pairs-per-step", 1, 1024) &&
                    soothe__read_int(&r->n_texts, c->texts, NAME, "--texts-per-step", 1, 1024) &&
                    soothe__read_int(&r->max_length, c->max_length, NAME, "--max-length", 4, 4096) &&
                    soothe__read_int(&r->n_threads, c->threads, NAME, "-t", 1, 1024) &&
                    soothe__read_int(&r->checkpoint_every, c->every, NAME, "--checkpoint-every", 0, 1000000000) &&
                    soothe__read_int(&seed, c->seed, NAME, "--seed", 0, INT32_MAX) &&
                    read_number(&r->lr_blocks, c->rate, "--rate", 1e-9, 1) &&
                    read_number(&r->kappa, c->kappa, "--kappa", 1e-6, 1e3) &&
                    read_number(&r->lambda, c->lambda, "--lambda", 0, 1e3) &&
                    read_number(&r->weight_decay, c->decay, "--weight-decay", 0, 1e3) &&
                    read_number(&r->clip, c->clip, "--clip", 0, 1e6) &&
                    read_number(&r->heldout_share, c->share, "--heldout-share", 0, .9);
    r->seed = (uint64_t)seed;
    return ok && read_whole(&r->whole, c);
}

/* --samples-out without -o: the model's own texts are all that is wanted. */
static bool samples_alone(const struct choice *c) {
    return !c->output && c->own.samples_out && strcmp(c->objective, "sgeat") == 0;
}

/* What an objective has no use for is a misunderstanding, better told than ignored. */
static int check(const struct choice *c, const char *more) {
    const bool preference = strcmp(c->objective, "preference") == 0, cppl = strcmp(c->objective, "cppl") == 0,
               sgeat = strcmp(c->objective, "sgeat") == 0, acft = strcmp(c->objective, "acft") == 0,
               sft = sgeat || acft || strcmp(c->objective, "sft") == 0;
    const struct {
        const char *option;
        const char *given;
        bool        known, with_kl;
    } options[] = {{"--pairs-per-step", c->pairs, preference || cppl, false},
                   {"--texts-per-step", c->texts, preference || sft, false},
                   {"--kappa", c->kappa, preference, false},
                   {"--kl-texts-per-step", c->kl_texts, sft || cppl, false},
                   {"--lambda", c->lambda, preference || acft || c->kl_texts, true},
                   {"--states", c->states, preference || acft || c->kl_texts, true},
                   {"--set-by", c->set_by, cppl, false},
                   {"--set-max", c->set_max, cppl, false},
                   {"--cppl", c->form, cppl, false},
                   {"--phi", c->phi, cppl, false},
                   {"--cppl-alpha", c->omega, cppl, false},
                   {"--cppl-tau", c->tau, cppl, false},
                   {"--cppl-random", c->n_random, cppl, false}};
    if (more)
        return soothe__print_misuse(NAME, "\"%s\" belongs to no option", more);
    if (!c->model)
        return soothe__print_misuse(NAME, "which model? -m takes a file or a name that soothe pull --list shows");
    if (sgeat && c->data)
        return soothe__print_misuse(NAME,
                                    "--data is not for --objective sgeat, which writes its texts itself: --neutral "
                                    "takes texts to be learnt beside them");
    if (!sgeat && !c->data)
        return soothe__print_misuse(NAME, "on what? --data FILE");
    if (!acft && soothe__acft_given(&c->acft))
        return soothe__print_misuse(NAME, "%s is not for --objective %s", soothe__acft_given(&c->acft), c->objective);
    if (!sgeat && !acft && soothe__own_corpus_given(&c->own))
        return soothe__print_misuse(NAME, "%s is not for --objective %s", soothe__own_corpus_given(&c->own),
                                    c->objective);
    if (samples_alone(c) && (c->lora || c->steps || c->heldout || c->own.neutral))
        return soothe__print_misuse(NAME,
                                    "where to? without -o --samples-out writes the samples alone: there is nothing "
                                    "to learn, and nothing for %s",
                                    c->lora      ? "--lora"
                                    : c->steps   ? "--steps"
                                    : c->heldout ? "--heldout"
                                                 : "--neutral");
    if (!c->output && !samples_alone(c))
        return soothe__print_misuse(NAME, "where to? -o names the file to be written");
    if (c->full && (c->lora || c->rank || c->alpha))
        return soothe__print_misuse(NAME, "--full trains the tensors themselves: there are no factors for %s",
                                    c->lora   ? "--lora"
                                    : c->rank ? "--rank"
                                              : "--alpha");
    if (c->merged && !c->lora)
        return soothe__print_misuse(NAME, "--merged is for --lora; without, -o is the merged model");
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i].given && !options[i].known)
            return soothe__print_misuse(NAME, "%s is not for --objective %s%s", options[i].option, c->objective,
                                        options[i].with_kl && !preference ? " without --kl-texts-per-step" : "");
    const int code = sgeat  ? soothe__own_corpus_check(&c->own, !samples_alone(c), NAME)
                     : acft ? soothe__acft_check(&c->acft, &c->own, NAME)
                            : -1;
    return code < 0 ? SOOTHE__EXIT_DONE : code;
}

/* ---- output ----------------------------------------------------------------------------------------- */

static json_t *json_sets(const struct soothe__whole_figures *f) {
    return json_pack("{s:I, s:o, s:o, s:o}", "n_sets", (json_int_t)f->n_sets, "loss", soothe__json_number(f->loss),
                     "nll_harmless", soothe__json_number(f->harmless), "nll_toxic", soothe__json_number(f->toxic));
}

static int print_json(const struct soothe__train_report *p, const struct choice *c) {
    json_t *o = json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:i, s:i, s:f, s:f, s:f, s:f, s:I, s:s, s:o}", "output",
                          c->output, "objective", c->objective, "lora", c->lora != 0, "n_pairs", (json_int_t)p->n_pairs,
                          "n_texts", (json_int_t)p->n_texts, "n_left_out", (json_int_t)p->n_left_out, "n_steps",
                          p->n_steps, "first_step", p->first_step, "seconds", p->seconds, "state_seconds",
                          p->state_seconds, "tokens_per_second", p->tokens_per_second, "loss_tokens_per_second",
                          p->loss_tokens_per_second, "core_bytes", (json_int_t)p->core_bytes, "precision",
                          p->bf16 ? "bf16" : "f32", "loss", soothe__json_number(p->loss));
    json_object_set_new(o, "heldout",
                        json_pack("{s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "n_pairs", (json_int_t)p->n_heldout_pairs,
                                  "n_texts", (json_int_t)p->n_heldout_texts, "pairs_right",
                                  soothe__json_number(p->pairs_right), "kl", soothe__json_number(p->kl), "kl_before",
                                  soothe__json_number(p->kl_before), "nll", soothe__json_number(p->nll), "nll_before",
                                  soothe__json_number(p->nll_before), "nll_plain", soothe__json_number(p->nll_plain)));
    if (p->sets.n_sets)
        json_object_set_new(
            o, "sets", json_pack("{s:o, s:o}", "before", json_sets(&p->sets_before), "after", json_sets(&p->sets)));
    if (c->own.n_facts)
        json_object_set_new(o, "corpus", soothe__own_corpus_json(&c->own));
    if (c->acft.head)
        json_object_set_new(o, "acft", soothe__acft_json(&c->acft, &c->own));
    return soothe__print_json(o, 6);
}

static void print_text(const struct soothe__train_report *p, const char *out_path) {
    printf("%s\n", out_path);
    printf("  trained on      %zu pairs, %zu texts (%zu lines left out), %d steps in %.0f s, %.0f tokens/s (%s)\n",
           p->n_pairs, p->n_texts, p->n_left_out, p->n_steps, p->seconds, p->tokens_per_second,
           p->bf16 ? "bf16" : "f32");
    printf("  loss            %.4f over the last tenth\n", p->loss);
    if (p->n_heldout_pairs)
        printf("  held out        %.1f %% of %zu pairs ordered rightly\n", 100 * p->pairs_right, p->n_heldout_pairs);
    if (p->sets.n_sets)
        printf("  held out        loss %.4f (before %.4f), NLL of harmless texts %.4f (%.4f), of toxic ones %.4f "
               "(%.4f) on "
               "%zu sets\n",
               p->sets.loss, p->sets_before.loss, p->sets.harmless, p->sets_before.harmless, p->sets.toxic,
               p->sets_before.toxic, p->sets.n_sets);
    if (p->n_heldout_texts && isfinite(p->kl))
        printf("  held out        KL to the model as it was %.4f nats/token (before %.4f)\n", p->kl, p->kl_before);
    if (p->n_heldout_texts)
        printf("  held out        NLL %.4f nats/token (before %.4f, %+.2f %%) on %zu texts\n", p->nll, p->nll_before,
               100 * (p->nll / p->nll_before - 1), p->n_heldout_texts);
}

/* ---- running ---------------------------------------------------------------------------------------- */

static int train(struct soothe__train_request *r, struct choice *c, const char *model) {
    struct soothe_error         err;
    struct soothe__train_report report;
    r->model_path      = model;
    r->out_path        = c->output;
    r->checkpoint_path = c->checkpoint;
    r->data_paths      = (const char *const *)c->data;
    r->n_data          = soothe__list_length(c->data);
    r->heldout_paths   = (const char *const *)c->heldout;
    r->n_heldout       = soothe__list_length(c->heldout);
    r->states_path     = c->states;
    r->stop            = soothe__interrupt_flag();
    if (strcmp(c->objective, "acft") == 0 && soothe__acft_make(&c->acft, &c->own, r, &err))
        return soothe__print_failure(&err);
    if (samples_alone(c)) {
        if (soothe__own_corpus_sample(&c->own, r, &err))
            return soothe__print_failure(&err);
        fprintf(stderr, "the samples are in %s; without -o nothing is learnt\n", c->own.samples_out);
        return SOOTHE__EXIT_DONE;
    }
    if (strcmp(c->objective, "sgeat") == 0 && soothe__own_corpus_make(&c->own, r, &err))
        return soothe__print_failure(&err);
    if (soothe__train(r, &report, &err))
        return soothe__print_failure(&err);
    if (report.n_unsaved)
        fprintf(stderr, "soothe: %d checkpoints could not be written (%s); the run went on without\n", report.n_unsaved,
                report.unsaved.message);
    if (c->json)
        return print_json(&report, c);
    print_text(&report, c->output);
    if (c->own.n_facts)
        soothe__own_corpus_print(&c->own);
    if (c->acft.head)
        soothe__acft_print(&c->acft);
    return SOOTHE__EXIT_DONE;
}

static int run(struct choice *c, const char *more) {
    struct soothe_error          err;
    char                        *model = NULL;
    struct soothe__train_request r     = soothe__train_request_default();
    if (!read_request(&r, c))
        return SOOTHE__EXIT_MISUSE;
    int code = check(c, more);
    if (code != SOOTHE__EXIT_DONE)
        return code;
    code = soothe__pull_model(&model, c->model, &err) ? soothe__print_failure(&err) : train(&r, c, model);
    free(model);
    return code;
}

static void free_choice(struct choice *c) {
    char *const texts[] = {c->model,    c->output,  c->objective, c->checkpoint, c->precision, c->states, c->tensors,
                           c->blocks,   c->set_by,  c->form,      c->phi,        c->merged,    c->keep,   c->steps,
                           c->pairs,    c->texts,   c->kl_texts,  c->max_length, c->rank,      c->alpha,  c->rate,
                           c->kappa,    c->lambda,  c->decay,     c->clip,       c->share,     c->omega,  c->tau,
                           c->n_random, c->set_max, c->seed,      c->threads,    c->every};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c->data);
    soothe__free_list(c->heldout);
    soothe__own_corpus_free(&c->own);
    soothe__acft_free(&c->acft);
}

int soothe__cmd_tune_model(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("objective", '\0', objective, "sft, preference, cppl, sgeat or acft", "NAME"),
        TEXT_OPTION("model", 'm', model, "what learns: a name, an address or a file", "MODEL"),
        LIST_OPTION("data", data, "what it learns from, JSON lines; may be repeated", "FILE"),
        LIST_OPTION("heldout", heldout, "never learnt from; may be repeated", "FILE"),
        TEXT_OPTION("heldout-share", '\0', share, "without --heldout: this share of the data (0.05)", "X"),
        TEXT_OPTION("output", 'o', output, "the file to be written", "FILE"),
        FLAG_OPTION("lora", lora, "write the factors alone, as a LoRA file"),
        TEXT_OPTION("merged", '\0', merged, "with --lora: the model with them merged, too", "FILE"),
        TEXT_OPTION("tensors", '\0', tensors, "which matrices: some of q,k,v,o,gate,up,down (all)", "LIST"),
        TEXT_OPTION("blocks", '\0', blocks, "of which blocks, as 8-15 or 20- (all)", "RANGE"),
        TEXT_OPTION("rank", 'r', rank, "of the factors (16)", "R"),
        TEXT_OPTION("alpha", '\0', alpha, "factors count alpha / rank (2 rank)", "X"),
        FLAG_OPTION("full", full, "the matrices themselves learn, without factors"),
        TEXT_OPTION("steps", '\0', steps, "steps (300)", "N"),
        TEXT_OPTION("pairs-per-step", '\0', pairs, "pairs (8); cppl: sets (4)", "N"),
        TEXT_OPTION("texts-per-step", '\0', texts, "sft: texts (16); preference: texts to stay close on (8)", "N"),
        TEXT_OPTION("kl-texts-per-step", '\0', kl_texts, "sft, cppl: texts to stay close on (0)", "N"),
        TEXT_OPTION("max-length", '\0', max_length, "tokens of a text (96)", "N"),
        TEXT_OPTION("rate", '\0', rate, "learning rate (5e-4; --full 2e-5)", "X"),
        TEXT_OPTION("kappa", '\0', kappa, "sharpness of the preference (0.2)", "X"),
        TEXT_OPTION("lambda", '\0', lambda, "weight of KL to the model as it was (1.5)", "X"),
        TEXT_OPTION("set-by", '\0', set_by, "cppl: pairs of one set: pair, set, prompt, chosen, rejected (pair)",
                    "KEY"),
        TEXT_OPTION("set-max", '\0', set_max, "cppl: texts of each side of a set (5)", "N"),
        TEXT_OPTION("cppl", '\0', form, "whose loss: paper or code (paper)", "FORM"),
        TEXT_OPTION("phi", '\0', phi, "cppl: perplexity or log (paper: perplexity)", "NAME"),
        TEXT_OPTION("cppl-alpha", '\0', omega, "weight of toxic texts (1.1; code: 100)", "X"),
        TEXT_OPTION("cppl-tau", '\0', tau, "temperature (0.2; code: 1)", "X"),
        TEXT_OPTION("cppl-random", '\0', n_random, "code: toxic texts of other sets (6)", "N"),
        SOOTHE__OWN_CORPUS_OPTIONS(c.own),
        SOOTHE__ACFT_OPTIONS(c.acft),
        TEXT_OPTION("weight-decay", '\0', decay, "of matrices (0)", "X"),
        TEXT_OPTION("clip", '\0', clip, "norm of the gradient; 0: no limit (1)", "X"),
        TEXT_OPTION("seed", 's', seed, "of order, split and factors (1)", "N"),
        TEXT_OPTION("precision", '\0', precision, "of products: bf16 or f32 (the faster one)", "TYPE"),
        TEXT_OPTION("keep", '\0', keep, "fixed weights in memory: as the file, bf16 or f32 (file)", "FORM"),
        TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),
        TEXT_OPTION("checkpoint", '\0', checkpoint, "where a run is kept (OUTPUT.checkpoint)", "FILE"),
        TEXT_OPTION("checkpoint-every", '\0', every, "steps (50)", "N"),
        TEXT_OPTION("states", '\0', states, "keep the model's states there for further runs", "FILE"),
        FLAG_OPTION("fresh", fresh, "begin anew, whatever the checkpoint says"),
        FLAG_OPTION("json", json, "report as JSON"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &COMMAND, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    free_choice(&c);
    return code;
}
