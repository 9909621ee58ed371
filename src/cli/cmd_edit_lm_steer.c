/* SPDX-License-Identifier: Apache-2.0
 * soothe edit lm-steer: LM-Steer folded into the output head. */
#include <math.h>
#include <stdlib.h>

#include "cli/edit.h"
#include "cli/speak.h"
#include "methods/lm_steer.h"

const struct soothe__command soothe__command_edit_lm_steer = {
    .name    = "edit lm-steer",
    .run     = soothe__cmd_edit_lm_steer,
    .summary = "fold LM-Steer into the output head: no cost per token",
    .help    = "    soothe edit lm-steer -m smollm2-135m-instruct -o steered.gguf\n"
               "    soothe edit lm-steer -m model.gguf --steer trained.gguf --strength 3 --type f16 -o steered.gguf\n"
               "    soothe edit undo -m steered.gguf -o model-again.gguf\n"
               "\n"
               "Every row of the head is multiplied by what --method lm-steer does to the state before it, so that any\n"
               "program that loads the file is steered. Where the head is the input's embedding (a tied model), a head\n"
               "of its own is added, and the file grows by it; the embedding stays. At strength 0 nothing is added.\n",
};

struct choice {
    char *model, *out, *steer, *alignment, *strength, *type;
    int   json;
};

static int print_result(const struct choice *c, const struct soothe__fold_options *o,
                        const struct soothe__fold_report *r) {
    const int64_t before = soothe__file_size(o->model_path), after = soothe__file_size(o->out_path);
    if (c->json)
        return soothe__print_json(json_pack("{s:s, s:s, s:f, s:s, s:b, s:I, s:I, s:s, s:s, s:o, s:I, s:I}", "model",
                                            o->model_path, "out", o->out_path, "strength", (double)r->strength, "from",
                                            r->from, "added", r->added, "rows", (json_int_t)r->n_rows, "width",
                                            (json_int_t)r->d, "type_before", r->type_before, "type", r->type, "change",
                                            soothe__json_rounded(r->change), "bytes_before", (json_int_t)before,
                                            "bytes", (json_int_t)after),
                                  8);
    if (r->strength == 0.0f)
        printf("%s: strength 0, no tensor changed\n", o->out_path);
    else
        printf("%s: output.weight %s, %lld rows of %lld, %s -> %s, changed by %.2f %% of its norm at strength %g; %.1f "
               "MiB, %+.1f\n",
               o->out_path, r->added ? "added beside token_embd.weight" : "changed", (long long)r->n_rows,
               (long long)r->d, r->type_before, r->type, 100 * r->change, (double)r->strength,
               (double)after / (1 << 20), (double)(after - before) / (1 << 20));
    return SOOTHE__EXIT_DONE;
}

static int run(const struct choice *c, const char *more) {
    const char *const           me = soothe__command_edit_lm_steer.name;
    struct soothe_error         err;
    struct soothe__fold_report  report;
    struct soothe__fold_options o = {
        .out_path = c->out, .steer_path = c->steer, .alignment_path = c->alignment, .strength = NAN, .type = c->type};
    char *model = NULL;
    if (more)
        return soothe__print_misuse(me, "\"%s\" belongs to no option", more);
    if (!c->out)
        return soothe__print_misuse(me, "where to? -o names the model to be written");
    if (!soothe__read_float(&o.strength, c->strength, me, "--strength", -1000, 1000))
        return SOOTHE__EXIT_MISUSE;
    enum soothe_status status = soothe__choose_model(&model, c->model, &err);
    o.model_path              = model;
    if (!status)
        status = soothe__lm_steer_fold(&o, &report, &err);
    const int code = status ? soothe__print_failure(&err) : print_result(c, &o, &report);
    free(model);
    return code;
}

int soothe__cmd_edit_lm_steer(int argc, const char **argv) {
    struct choice           c         = {.model = NULL};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the model: a name, an address or a file", "MODEL"),
        TEXT_OPTION("output", 'o', out, "the steered model to be written", "FILE"),
        TEXT_OPTION("steer", '\0', steer, "what training wrote; the shipped one where it fits if not given", "FILE"),
        TEXT_OPTION("alignment", '\0', alignment, "matrices that soothe align carried over to this model", "FILE"),
        TEXT_OPTION("strength", '\0', strength, "0: no change (what the file recommends)", "E"),
        TEXT_OPTION("type", '\0', type, "data type of the new head: own (default), q8_0, f16 …", "TYPE"),
        FLAG_OPTION("json", json, "the result as JSON"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_edit_lm_steer, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    char *const texts[] = {c.model, c.out, c.steer, c.alignment, c.strength, c.type};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    return code;
}
