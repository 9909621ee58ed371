/* SPDX-License-Identifier: Apache-2.0
 * soothe edit: changes of the model itself, GGUF in, GGUF out. Its table of subcommands, and those that have to do with
 * files alone: diff, apply, undo, verify. */
#include <stdlib.h>
#include <string.h>

#include "cli/edit.h"
#include "cli/speak.h"
#include "edit/edit_file.h"
#include "edit/history.h"

static int cmd_apply(int argc, const char **argv);
static int cmd_diff(int argc, const char **argv);
static int cmd_undo(int argc, const char **argv);
static int cmd_verify(int argc, const char **argv);

static const struct soothe__command APPLY = {
    .name    = "edit apply",
    .run     = cmd_apply,
    .summary = "write a model with diffs laid over it",
    .help    = "    soothe edit apply -m smollm2-135m-instruct --diff gentle.diff.gguf -o gentle.gguf\n"
               "\n"
               "soothe run -m smollm2-135m-instruct+gentle.diff.gguf does the same for one run and leaves no file.\n",
};
static const struct soothe__command DIFF = {
    .name    = "edit diff",
    .run     = cmd_diff,
    .summary = "keep what distinguishes an edited model from its base",
    .help    = "    soothe edit diff -m edited.gguf --base model.gguf -o edit.diff.gguf\n"
               "\n"
               "Holds the rows that differ, in the model's own data types. --keep-rows adds the rows of the base.\n",
};
static const struct soothe__command UNDO = {
    .name    = "edit undo",
    .run     = cmd_undo,
    .summary = "take edits back, to the base's very tensors",
    .help =
        "    soothe edit undo -m edited.gguf --base model.gguf -o model-again.gguf\n"
        "    soothe edit undo -m edited.gguf --diff kept.diff.gguf -o model-again.gguf\n"
        "    soothe edit undo -m steered.gguf -o model-again.gguf\n"
        "\n"
        "By the base itself, or by a diff that was made with --keep-rows, which takes the last edit back. A last edit\n"
        "that added a tensor needs neither. Nothing is written unless the result has the hash that the edited model\n"
        "records of its base.\n",
};
static const struct soothe__command VERIFY = {
    .name    = "edit verify",
    .run     = cmd_verify,
    .summary = "check that a model is what its record says",
    .help    = "    soothe edit verify -m edited.gguf\n"
               "    soothe edit verify -m edited.gguf --base model.gguf --diff edit.diff.gguf\n"
               "\n"
               "Compares hashes of all tensors. Exit code 1: it is not.\n",
};

static const struct soothe__command *const SUBCOMMANDS[] = {&soothe__command_edit_surgery,
                                                            &soothe__command_edit_dinm,
                                                            &soothe__command_edit_lm_steer,
                                                            &APPLY,
                                                            &DIFF,
                                                            &UNDO,
                                                            &VERIFY};
enum { N_SUBCOMMANDS = sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS };

const struct soothe__command soothe__command_edit = {
    .name    = "edit",
    .run     = soothe__cmd_edit,
    .summary = "change the model itself: edits, their small diff files, undo",
    .help    = "    soothe edit surgery -m smollm2-135m-instruct --data labelled.jsonl -o gentle.gguf --diff "
               "gentle.diff.gguf\n"
               "    soothe run -m smollm2-135m-instruct+gentle.diff.gguf -p \"You know what, you are a\"\n"
               "    soothe edit undo -m gentle.gguf --base model.gguf -o model-again.gguf\n",
};

struct choice { /* popt's */
    char  *model, *base, *out;
    char **diffs;
    int    keep_rows, json;
};

struct paths { /* of models, resolved */
    char *model, *base;
};

static enum soothe_status find_models(struct paths *p, const struct choice *c, struct soothe_error *err) {
    enum soothe_status status = soothe__choose_model(&p->model, c->model, err);
    if (!status && c->base)
        status = soothe__choose_model(&p->base, c->base, err);
    return status;
}

static int finish(enum soothe_status status, const struct soothe_error *err, struct paths *p, const struct choice *c,
                  json_t *result) {
    free(p->model);
    free(p->base);
    if (status) {
        json_decref(result);
        return soothe__print_failure(err);
    }
    if (c->json)
        return soothe__print_json(result, 8);
    json_decref(result);
    return SOOTHE__EXIT_DONE;
}

/* ---- apply ---------------------------------------------------------------------------------------------------------
 */

/* All diffs but the last over the model in a file without a name, the last from there into the new file. */
static enum soothe_status apply(const struct paths *p, const struct choice *c, struct soothe_error *err) {
    const size_t         n      = soothe__list_length(c->diffs);
    char                *laid   = NULL;
    struct soothe__diff *last   = NULL;
    enum soothe_status   status = soothe__diff_lay(&laid, p->model, (const char *const *)c->diffs, n - 1, NULL, err);
    if (!status)
        status = soothe__diff_open(&last, c->diffs[n - 1], err);
    if (!status)
        status = soothe__diff_apply(last, laid, c->out, err);
    soothe__diff_free(last);
    soothe__diff_let_go(laid);
    return status;
}

static int run_apply(const struct choice *c) {
    struct soothe_error err;
    struct paths        p = {NULL, NULL};
    if (soothe__list_length(c->diffs) == 0)
        return soothe__print_misuse(APPLY.name, "which edit? --diff names its file");
    if (!c->out)
        return soothe__print_misuse(APPLY.name, "where to? -o names the model to be written");
    enum soothe_status status = find_models(&p, c, &err);
    if (!status)
        status = apply(&p, c, &err);
    return finish(status, &err, &p, c,
                  json_pack("{s:s?, s:s, s:I}", "model", p.model, "out", c->out, "diffs",
                            (json_int_t)soothe__list_length(c->diffs)));
}

/* ---- diff -----------------------------------------------------------------------------------------------------------
 */

static int run_diff(const struct choice *c) {
    struct soothe_error  err;
    struct paths         p      = {NULL, NULL};
    struct soothe__diff *diff   = NULL;
    size_t               n_rows = 0;
    if (!c->base)
        return soothe__print_misuse(DIFF.name, "distinguished from what? --base names the model before its edit");
    if (!c->out)
        return soothe__print_misuse(DIFF.name, "where to? -o names the diff to be written");
    enum soothe_status status = find_models(&p, c, &err);
    if (!status)
        status = soothe__diff_between(&diff, p.base, p.model, &err);
    if (!status)
        status = soothe__diff_write(diff, c->out, p.base, p.model, c->keep_rows != 0, &err);
    for (size_t i = 0; diff && i < diff->n_tensors; i++)
        n_rows += diff->tensors[i].n_rows;
    if (!status && !c->json)
        printf("%zu rows of %zu tensors\n", n_rows, diff->n_tensors);
    json_t *result = json_pack("{s:s?, s:s?, s:s, s:s?, s:I, s:I}", "model", p.model, "base", p.base, "diff", c->out,
                               "id", diff ? diff->id : NULL, "tensors", (json_int_t)(diff ? diff->n_tensors : 0),
                               "rows", (json_int_t)n_rows);
    soothe__diff_free(diff);
    return finish(status, &err, &p, c, result);
}

/* ---- undo -----------------------------------------------------------------------------------------------------------
 */

static enum soothe_status undo(const struct paths *p, const struct choice *c, uint32_t *n_taken,
                               struct soothe_error *err) {
    if (p->base)
        return soothe__edit_undo(p->model, p->base, c->out, n_taken, err);
    struct soothe__diff *diff   = NULL;
    enum soothe_status   status = SOOTHE_OK;
    *n_taken                    = 1;
    if (!c->diffs)
        return soothe__edit_drop_added(p->model, c->out, err);
    status = soothe__diff_open(&diff, c->diffs[0], err);
    if (!status)
        status = soothe__diff_take_back(diff, p->model, c->out, err);
    soothe__diff_free(diff);
    return status;
}

static int run_undo(const struct choice *c) {
    struct soothe_error err;
    struct paths        p       = {NULL, NULL};
    uint32_t            n_taken = 0;
    if (!c->model)
        return soothe__print_misuse(UNDO.name, "of what? -m names the edited model");
    if (soothe__list_length(c->diffs) + (c->base != NULL) > 1)
        return soothe__print_misuse(UNDO.name, "by what? one of --base MODEL and --diff FILE");
    if (!c->out)
        return soothe__print_misuse(UNDO.name, "where to? -o names the model to be written");
    enum soothe_status status = find_models(&p, c, &err);
    if (!status)
        status = undo(&p, c, &n_taken, &err);
    if (!status && !c->json)
        printf("%u edit%s taken back\n", n_taken, n_taken == 1 ? "" : "s");
    return finish(status, &err, &p, c,
                  json_pack("{s:s?, s:s, s:I}", "model", p.model, "out", c->out, "taken_back", (json_int_t)n_taken));
}

/* ---- verify ---------------------------------------------------------------------------------------------------------
 */

static void print_answer(const char *question, enum soothe__verdict v) {
    if (v != SOOTHE__VERDICT_NOT_ASKED)
        printf("%-3s  %s\n", v == SOOTHE__VERDICT_YES ? "yes" : "NO", question);
}

static json_t *json_answer(enum soothe__verdict v) {
    return v == SOOTHE__VERDICT_NOT_ASKED ? json_null() : json_boolean(v == SOOTHE__VERDICT_YES);
}

static void print_verdict(const struct soothe__edit_verdict *v) {
    printf("%u edit%s recorded; tensors %.16s…\n", v->n_edits, v->n_edits == 1 ? "" : "s", v->tensors);
    print_answer("its tensors are those that its last edit wrote", v->intact);
    print_answer("each edit began with what the one before it wrote", v->unbroken);
    print_answer("its first edit began with the base's tensors", v->from_base);
    print_answer("it is the base with the diffs laid over it", v->base_and_diffs);
    if (!soothe__edit_verified(v) && v->intact == SOOTHE__VERDICT_NOT_ASKED &&
        v->base_and_diffs == SOOTHE__VERDICT_NOT_ASKED)
        puts("NO   nothing in it says that it was edited");
}

static int run_verify(const struct choice *c) {
    struct soothe_error         err;
    struct paths                p = {NULL, NULL};
    struct soothe__edit_verdict v = {0};
    if (!c->model)
        return soothe__print_misuse(VERIFY.name, "what? -m names the edited model");
    if (soothe__list_length(c->diffs) && !c->base)
        return soothe__print_misuse(VERIFY.name, "a --diff is laid over a --base");
    enum soothe_status status = find_models(&p, c, &err);
    if (!status)
        status = soothe__edit_verify(&v, p.model, p.base, (const char *const *)c->diffs, soothe__list_length(c->diffs),
                                     &err);
    if (!status && !c->json)
        print_verdict(&v);
    const int code = finish(status, &err, &p, c,
                            json_pack("{s:s?, s:b, s:I, s:o, s:o, s:o, s:o, s:s, s:s}", "model", p.model, "verified",
                                      soothe__edit_verified(&v), "edits", (json_int_t)v.n_edits, "intact",
                                      json_answer(v.intact), "unbroken", json_answer(v.unbroken), "from_base",
                                      json_answer(v.from_base), "base_and_diffs", json_answer(v.base_and_diffs),
                                      "tensors_sha256", v.tensors, "base_tensors_sha256", v.base_tensors));
    return code ? code : soothe__edit_verified(&v) ? SOOTHE__EXIT_DONE : SOOTHE__EXIT_FAILED;
}

/* ---- options
 * --------------------------------------------------------------------------------------------------------- */

static int with_options(const struct soothe__command *command, int argc, const char **argv,
                        int (*run)(const struct choice *c)) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "the model: a name, an address or a file", "MODEL"),
        TEXT_OPTION("base", '\0', base, "the model before its edits", "MODEL"),
        LIST_OPTION("diff", diffs, "a diff; may be given again", "FILE"),
        TEXT_OPTION("output", 'o', out, "the file to be written", "FILE"),
        FLAG_OPTION("keep-rows", keep_rows, "of diff: hold the base's rows too"),
        FLAG_OPTION("json", json, "the result as JSON"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, command, argc, argv, options);
    if (code < 0) {
        const char *more = poptGetArg(context);
        code             = more ? soothe__print_misuse(command->name, "\"%s\" belongs to no option", more) : run(&c);
    }
    poptFreeContext(context);
    char *const texts[] = {c.model, c.base, c.out};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c.diffs);
    return code;
}

static int cmd_apply(int argc, const char **argv) {
    return with_options(&APPLY, argc, argv, run_apply);
}

static int cmd_diff(int argc, const char **argv) {
    return with_options(&DIFF, argc, argv, run_diff);
}

static int cmd_undo(int argc, const char **argv) {
    return with_options(&UNDO, argc, argv, run_undo);
}

static int cmd_verify(int argc, const char **argv) {
    return with_options(&VERIFY, argc, argv, run_verify);
}

int soothe__cmd_edit(int argc, const char **argv) {
    return soothe__run_subcommand(&soothe__command_edit, SUBCOMMANDS, N_SUBCOMMANDS, argc, argv);
}
