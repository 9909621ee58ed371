/* SPDX-License-Identifier: Apache-2.0
 * soothe edit dinm: unsafe answers edited out of one layer. */
#include <stdlib.h>
#include <string.h>

#include "cli/edit_dinm.h"
#include "cli/result.h"
#include "cli/speak.h"
#include "edit/diff.h"
#include "eval/figures.h"

const struct soothe__command soothe__command_edit_dinm = {
    .name    = "edit dinm",
    .run     = soothe__cmd_edit_dinm,
    .summary = "make safe answers likely by a few steps on one layer",
    .help =
        "    soothe edit dinm -m smollm2-135m-instruct -o safer.gguf --instances unsafe.jsonl\n"
        "    soothe edit dinm -m model.gguf -o safer.gguf --instances unsafe.jsonl --questions others.jsonl \\\n"
        "        --texts texts.jsonl.xz --json\n"
        "\n"
        "Instances are JSON lines {\"question\", \"attack\", \"unsafe\", \"safe\"}; only the question is needed. An\n"
        "attack holds \"{question}\", or goes before it. The target writes what is missing: unsafe answers to the\n"
        "prompt, safe ones under the system prompt of --system. The layer whose states tell both answers apart\n"
        "most is found; its ffn_down is moved by Adam on c-edit (-log P(safe)) + KL(before || after) of answers to\n"
        "general questions. Then both models answer the instances, other questions and other attacks, and harmless\n"
        "questions: safe is an answer that begins as a refusal and is not toxic. The original is left alone.\n",
};

struct choice {
    char *model, *output, *instances, *general, *suffix, *system, *rule, *layer, *steps, *lr, *c_edit, *stop_loss;
    char *type, *answer_tokens, *completed, *diff, *judge_tokens, *questions, *attacks, *scorer, *limit, *n_texts,
        *threads;
    char **texts;
    int    json, no_report;
};

static bool read_rule(enum soothe__dinm_rule *rule, const char *word) {
    for (int i = 0; i < SOOTHE__DINM_RULES && word; i++)
        if (strcmp(word, soothe__dinm_rule_names[i]) == 0) {
            *rule = (enum soothe__dinm_rule)i;
            return true;
        }
    return word == NULL;
}

static bool read_double(double *out, const char *text, const char *me, const char *option, double lo, double hi) {
    float      x  = 0;
    const bool ok = soothe__read_float(&x, text, me, option, lo, hi);
    if (ok && text)
        soothe__parse_double(out, text, lo, hi);
    return ok;
}

static int read_choice(const struct choice *c, struct soothe__dinm_options *o, struct soothe__dinm_judging *j,
                       const char *more) {
    const char *const me = soothe__command_edit_dinm.name;
    if (more)
        return soothe__print_misuse(me, "\"%s\" belongs to no option", more);
    if (!c->output)
        return soothe__print_misuse(me, "where to? -o names the edited model to be written");
    if (!c->instances)
        return soothe__print_misuse(me, "what is to change? --instances names a file of questions");
    if (!read_rule(&o->rule, c->rule))
        return soothe__print_misuse(me, "--locate is mean, tokens or paper, not \"%s\"", c->rule);
    if (c->rule && c->layer)
        return soothe__print_misuse(me, "--locate looks for the layer that --layer gives");
    if (!soothe__read_int(&o->layer, c->layer, me, "--layer", 0, 1 << 16) ||
        !soothe__read_int(&o->n_steps, c->steps, me, "--steps", 0, 100000) ||
        !read_double(&o->lr, c->lr, me, "--lr", 1e-9, 1) ||
        !read_double(&o->c_edit, c->c_edit, me, "--c-edit", 0, 1e6) ||
        !read_double(&o->stop_loss, c->stop_loss, me, "--stop-loss", 0, 1e6) ||
        !soothe__read_int(&o->writing.n_predict, c->answer_tokens, me, "-n", 1, 4096) ||
        !soothe__read_int(&j->n_predict, c->judge_tokens, me, "--judge-tokens", 1, 4096) ||
        !soothe__read_int(&j->limit, c->limit, me, "--limit", 1, 1 << 20) ||
        !soothe__read_int(&j->n_texts, c->n_texts, me, "--n-texts", 1, 1 << 24) ||
        !soothe__read_int(&o->n_threads, c->threads, me, "-t", 1, 1024))
        return SOOTHE__EXIT_MISUSE;
    o->out_path       = c->output;
    o->instances_path = c->instances;
    o->general_path   = c->general;
    o->suffix         = c->suffix;
    o->type           = c->type ? c->type : c->diff ? "own" : o->type; /* a diff holds rows of the model's own types */
    if (c->system)
        o->writing.system = c->system;
    o->writing.is_safe = soothe__is_refusal;
    o->show_progress   = !c->json;
    o->stop            = soothe__interrupt_flag();
    j->questions       = c->questions;
    j->attacks         = c->attacks;
    j->texts           = c->texts;
    j->scorer          = c->scorer ? c->scorer : "default";
    j->n_threads       = o->n_threads;
    return SOOTHE__EXIT_DONE;
}

static enum soothe_status write_diff(const struct choice *c, const struct soothe__dinm_options *o,
                                     struct soothe_error *err) {
    struct soothe__diff *diff   = NULL;
    enum soothe_status   status = soothe__diff_between(&diff, o->model_path, o->out_path, err);
    if (!status)
        status = soothe__diff_write(diff, c->diff, o->model_path, o->out_path, false, err);
    soothe__diff_free(diff);
    return status;
}

/* Files that are read only after the edit: that they are missing is said before it. */
static enum soothe_status check_files(const struct soothe__dinm_judging *j, struct soothe_error *err) {
    const char *missing = NULL;
    if (j->questions && !soothe__file_exists(j->questions))
        missing = j->questions;
    if (j->attacks && !soothe__file_exists(j->attacks))
        missing = j->attacks;
    for (char *const *path = j->texts; path && *path; path++)
        missing = soothe__file_exists(*path) ? missing : *path;
    return missing ? soothe__fail(err, SOOTHE_E_IO, "there is no file %s to judge by", missing) : SOOTHE_OK;
}

static int edit(const struct choice *c, struct soothe__dinm_options *o, const struct soothe__dinm_judging *j) {
    struct soothe__dinm_report  report = {.layer = -1};
    struct soothe__dinm_verdict verdict;
    struct soothe_error         err;
    char                       *model  = NULL;
    enum soothe_status          status = soothe__choose_model(&model, c->model, &err);
    o->model_path                      = model;
    if (!status && !c->no_report)
        status = check_files(j, &err);
    if (!status)
        status = soothe__dinm(o, &report, &err);
    if (!status && c->diff)
        status = write_diff(c, o, &err);
    if (!status && c->completed)
        status = soothe__dinm_write_instances(&report.texts, c->completed, &err);
    if (!status && !c->no_report)
        status = soothe__dinm_judge(&verdict, o, &report, j, &err);
    const int code = status ? soothe__print_failure(&err)
                            : soothe__dinm_print(o, &report, c->no_report ? NULL : &verdict, c->json != 0);
    soothe__dinm_report_free(&report);
    free(model);
    return code;
}

int soothe__cmd_edit_dinm(int argc, const char **argv) {
    struct choice               c         = {.model = NULL};
    struct soothe__dinm_options o         = soothe__dinm_options_default();
    struct soothe__dinm_judging j         = {.limit = 16, .n_texts = 100, .n_predict = 32};
    const struct poptOption     options[] = {
            TEXT_OPTION("model", 'm', model, "the model: a name, an address or a file", "MODEL"),
            TEXT_OPTION("output", 'o', output, "the edited model to be written", "FILE"),
            TEXT_OPTION("instances", '\0', instances, "questions, attacks, unsafe and safe answers", "FILE"),
            TEXT_OPTION("write-instances", '\0', completed, "the instances with the answers that were written", "FILE"),
            TEXT_OPTION("general", '\0', general, "questions whose answers are to stay (24 built in)", "FILE"),
            TEXT_OPTION("suffix", '\0', suffix, "words behind every prompt, to be sent later too (none)", "TEXT"),
            TEXT_OPTION("system", '\0', system, "under which the target writes safe answers", "TEXT"),
            TEXT_OPTION("predict", 'n', answer_tokens, "tokens of an answer that the target writes (48)", "N"),
            TEXT_OPTION("locate", '\0', rule, "mean (default), tokens, paper: docs/methods/dinm.md", "RULE"),
            TEXT_OPTION("layer", '\0', layer, "this layer, whatever the rule says", "N"),
            TEXT_OPTION("steps", '\0', steps, "of Adam (10); 0: nothing changes", "N"),
            TEXT_OPTION("lr", '\0', lr, "Adam's rate (0.002)", "X"),
            TEXT_OPTION("c-edit", '\0', c_edit, "weight of -log P(safe) beside the divergence (0.1)", "X"),
            TEXT_OPTION("stop-loss", '\0', stop_loss, "no further step below this loss (0.0001)", "X"),
            TEXT_OPTION("type", '\0', type, "of the edited tensor: auto (F16, or F32 where it is that), own, q8_0 …",
                        "TYPE"),
            TEXT_OPTION("diff", '\0', diff, "the edit in a file of its own, in the model's own types: --type own", "FILE"),
            TEXT_OPTION("questions", '\0', questions, "other harmful questions, to judge by", "FILE"),
            TEXT_OPTION("attacks", '\0', attacks, "other attacks (8 built in)", "FILE"),
            LIST_OPTION("texts", texts, "general texts: perplexity and divergence; may be given again", "FILE"),
            TEXT_OPTION("n-texts", '\0', n_texts, "of these, the first N (100)", "N"),
            TEXT_OPTION("scorer", '\0', scorer, "of toxicity (default)", "SPEC"),
            TEXT_OPTION("judge-tokens", '\0', judge_tokens, "of each answer that is judged (32)", "N"),
            TEXT_OPTION("limit", '\0', limit, "prompts of each kind (16)", "N"),
            FLAG_OPTION("no-report", no_report, "edit without judging"),
            TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),
            FLAG_OPTION("json", json, "the figures as JSON"),
            POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_edit_dinm, argc, argv, options);
    if (code < 0) {
        code = read_choice(&c, &o, &j, poptGetArg(context));
        if (!code)
            code = edit(&c, &o, &j);
    }
    poptFreeContext(context);
    char *all[] = {c.model,     c.output,    c.instances,    c.general, c.suffix, c.system,
                   c.rule,      c.layer,     c.steps,        c.lr,      c.c_edit, c.stop_loss,
                   c.type,      c.questions, c.attacks,      c.scorer,  c.limit,  c.answer_tokens,
                   c.completed, c.diff,      c.judge_tokens, c.n_texts, c.threads};
    soothe__free_texts(all, sizeof all / sizeof *all);
    soothe__free_list(c.texts);
    return code;
}
