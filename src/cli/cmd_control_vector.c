/* SPDX-License-Identifier: Apache-2.0
 * soothe control-vector: from pairs of texts to a control vector. */
#include <stdlib.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "train/control_vector_train.h"

const struct soothe__command soothe__command_control_vector = {
    .name    = "control-vector",
    .run     = soothe__cmd_control_vector,
    .summary = "learn llama.cpp's control vector from pairs of texts",
    .help =
        "    soothe control-vector -m smollm2-135m-instruct --data pairs.jsonl -o clean.control-vector.gguf\n"
        "    soothe run --method control-vector:file=clean.control-vector.gguf -p \"You know what, you are a\"\n"
        "\n"
        "Data are JSON lines, plain or compressed: {\"prompt\", \"chosen\", \"rejected\"}. The direction of each layer "
        "is "
        "the\n"
        "mean difference of its states of chosen and rejected completions. The file is llama.cpp's own format: its\n"
        "programs load it by --control-vector.\n",
};

struct choice {
    char  *model, *output, *limit, *threads, *strength;
    char **data;
    int    json;
};

static int report(const struct choice *c, const struct soothe__control_vector_report *p) {
    if (c->json)
        return soothe__print_json(json_pack("{s:s, s:I, s:I, s:i, s:f, s:[f, f, f]}", "control_vector", c->output,
                                            "n_pairs", (json_int_t)p->n_pairs, "n_tokens", (json_int_t)p->n_tokens,
                                            "n_layers", (int)p->n_layers, "seconds", p->seconds, "norms", p->norm_first,
                                            p->norm_middle, p->norm_last),
                                  6);
    printf("%s\n  %zu pairs, %lld tokens in %.0f s; directions of layers 1 to %d\n"
           "  norms %.3f (first), %.3f (middle), %.3f (last)\n",
           c->output, p->n_pairs, (long long)p->n_tokens, p->seconds, p->n_layers, p->norm_first, p->norm_middle,
           p->norm_last);
    return SOOTHE__EXIT_DONE;
}

static int run(const struct choice *c, const char *more) {
    const char *const                     me = "control-vector";
    struct soothe__control_vector_request r  = {.out_path = c->output, .max_length = 96, .strength = 1};
    struct soothe__control_vector_report  p;
    struct soothe_error                   err;
    char                                 *model = NULL;
    int32_t                               limit = 0;
    if (more)
        return soothe__print_misuse(me, "\"%s\" belongs to no option", more);
    if (!c->output)
        return soothe__print_misuse(me, "where to? -o names the control vector to be written");
    if (!c->data)
        return soothe__print_misuse(me, "on what? --data FILE of pairs");
    if (!soothe__read_int(&limit, c->limit, me, "--limit", 1, INT32_MAX) ||
        !soothe__read_int(&r.n_threads, c->threads, me, "-t", 1, 1024) ||
        !soothe__read_float(&r.strength, c->strength, me, "--default-strength", 0, 100))
        return SOOTHE__EXIT_MISUSE;
    r.n_data                  = soothe__list_length(c->data);
    r.data_paths              = (const char *const *)c->data;
    r.n_pairs_max             = (size_t)limit;
    r.stop                    = soothe__interrupt_flag();
    r.show_progress           = !c->json;
    enum soothe_status status = soothe__choose_model(&model, c->model, &err);
    r.model_path              = model;
    if (!status)
        status = soothe__control_vector_train(&r, &p, &err);
    free(model);
    return status ? soothe__print_failure(&err) : report(c, &p);
}

int soothe__cmd_control_vector(int argc, const char **argv) {
    struct choice           c         = {0};
    const struct poptOption options[] = {
        TEXT_OPTION("model", 'm', model, "a file, an address or a name (the default model)", "MODEL"),
        {"data", '\0', POPT_ARG_ARGV, &c.data, 0, "pairs; may be given again", "FILE"},
        TEXT_OPTION("output", 'o', output, "the control vector to be written", "FILE"),
        TEXT_OPTION("limit", '\0', limit, "only the first N pairs", "N"),
        TEXT_OPTION("default-strength", '\0', strength, "strength that the file recommends (1)", "X"),
        TEXT_OPTION("threads", 't', threads, "threads (all processors)", "N"),
        FLAG_OPTION("json", json, "report as JSON"),
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_control_vector, argc, argv, options);
    if (code < 0)
        code = run(&c, poptGetArg(context));
    poptFreeContext(context);
    char *all[] = {c.model, c.output, c.limit, c.threads, c.strength};
    soothe__free_texts(all, sizeof all / sizeof *all);
    soothe__free_list(c.data);
    return code;
}
