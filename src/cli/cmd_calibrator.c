/* SPDX-License-Identifier: Apache-2.0
 * soothe calibrator: makes calibrators and shows what they hold. Its own table of subcommands. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "fusion/calibrator_file.h"
#include "pull/pull.h"

static int cmd_init(int argc, const char **argv);
static int cmd_pack(int argc, const char **argv);
static int cmd_info(int argc, const char **argv);

static const struct soothe__command INIT = {
    .name    = "calibrator init",
    .run     = cmd_init,
    .summary = "cut an untrained calibrator from a model",
    .help =
        "    soothe calibrator init -m smollm2-135m-instruct --blocks 3 -o cal0.gguf\n"
        "\n"
        "Writes the model's embedding, first blocks and final norm as a calibrator to be trained. With --blocks 0 it\n"
        "has no decoder of its own: only a matrix on the target's final state will be trained.\n",
};

static const struct soothe__command PACK = {
    .name    = "calibrator pack",
    .run     = cmd_pack,
    .summary = "write a calibrator again as the small difference to its base",
    .help    = "    soothe calibrator pack cal.gguf --base smollm2-135m-instruct --type q8_0 -o small.gguf\n"
               "\n"
               "Keeps only what training changed, quantised; the base model must be at hand where the result is used.\n"
               "Types: f32 f16 bf16 q8_0 q6_k q5_0 q5_1 q5_k q4_0 q4_1 q4_k. Rows that a type's blocks do not fit become\n"
               "f16. The matrices A and B of a calibrator with blocks are kept in f16.\n",
};

static const struct soothe__command INFO = {
    .name    = "calibrator info",
    .run     = cmd_info,
    .summary = "show what a calibrator file holds",
    .help    = "    soothe calibrator info cal.gguf\n"
               "    soothe calibrator info cal.gguf -m smollm2-135m-instruct --json\n"
               "\n"
               "Prints soothe's own metadata and the tensors. With -m the calibrator is also opened for that target, and\n"
               "refused with a sentence if the two do not belong together.\n",
};

static const struct soothe__command *const SUBCOMMANDS[] = {&INIT, &soothe__command_calibrator_train, &PACK, &INFO};
enum { N_SUBCOMMANDS = sizeof SUBCOMMANDS / sizeof *SUBCOMMANDS };

const struct soothe__command soothe__command_calibrator = {
    .name    = "calibrator",
    .run     = soothe__cmd_calibrator,
    .summary = "make a calibrator, train it, pack it, look into it",
    .help    = "    soothe calibrator init -m smollm2-135m-instruct --blocks 3 -o cal0.gguf\n"
               "    soothe calibrator info cal0.gguf\n",
};

/* ---- init --------------------------------------------------------------------------------------------- */

static int init(const char *model, int n_blocks, const char *out_path, const char *more) {
    struct soothe_error err;
    char               *path;
    if (more)
        return soothe__print_misuse(INIT.name, "\"%s\" belongs to no option", more);
    if (!model)
        return soothe__print_misuse(INIT.name, "which model? -m takes a file or a name that soothe pull --list shows");
    if (!out_path)
        return soothe__print_misuse(INIT.name, "where to? -o names the calibrator to be written");
    enum soothe_status status = soothe__pull_model(&path, model, &err);
    if (!status) {
        status = soothe_calibrator_init(path, n_blocks, out_path, &err);
        free(path);
    }
    return status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
}

static int cmd_init(int argc, const char **argv) {
    char                   *model = NULL, *out_path = NULL;
    int                     n_blocks  = 3;
    const struct poptOption options[] = {
        {"model", 'm', POPT_ARG_STRING, &model, 0, "a GGUF file or a name of soothe pull", "MODEL"},
        {"blocks", '\0', POPT_ARG_INT, &n_blocks, 0, "how many blocks (3)", "N"},
        {"output", 'o', POPT_ARG_STRING, &out_path, 0, "the calibrator to be written", "FILE"},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &INIT, argc, argv, options);
    if (code < 0)
        code = init(model, n_blocks, out_path, poptGetArg(context));
    poptFreeContext(context);
    free(model);
    free(out_path);
    return code;
}

/* ---- pack --------------------------------------------------------------------------------------------- */

/* The data types that a calibrator can be packed to, by the engine's names; GGML_TYPE_COUNT if none. */
static enum ggml_type type_of_name(const char *name) {
    static const enum ggml_type types[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_BF16, GGML_TYPE_Q8_0,
                                           GGML_TYPE_Q6_K, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q5_K,
                                           GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q4_K};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcasecmp(ggml_type_name(types[i]), name) == 0)
            return types[i];
    return GGML_TYPE_COUNT;
}

static int pack(const char *path, const char *base, const char *type_name, const char *out_path, const char *more) {
    struct soothe_error  err;
    char                *base_path = NULL;
    const enum ggml_type type      = type_of_name(type_name);
    if (!path)
        return soothe__print_misuse(PACK.name, "which calibrator?");
    if (more)
        return soothe__print_misuse(PACK.name, "one calibrator at a time");
    if (!out_path)
        return soothe__print_misuse(PACK.name, "where to? -o names the file to be written");
    if (type == GGML_TYPE_COUNT)
        return soothe__print_misuse(PACK.name, "there is no data type \"%s\" to pack to", type_name);
    enum soothe_status status = base ? soothe__pull_model(&base_path, base, &err) : SOOTHE_OK;
    if (!status)
        status = soothe_calibrator_pack(path, base_path, type, out_path, &err);
    free(base_path);
    return status ? soothe__print_failure(&err) : SOOTHE__EXIT_DONE;
}

static int cmd_pack(int argc, const char **argv) {
    char                   *base = NULL, *type = NULL, *out_path = NULL;
    const struct poptOption options[] = {
        {"base", '\0', POPT_ARG_STRING, &base, 0, "the model it was cut from (not needed with 0 blocks)", "MODEL"},
        {"type", '\0', POPT_ARG_STRING, &type, 0, "data type of the difference (q8_0)", "TYPE"},
        {"output", 'o', POPT_ARG_STRING, &out_path, 0, "the file to be written", "FILE"},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &PACK, argc, argv, options);
    if (code < 0) {
        const char *path = poptGetArg(context);
        code             = pack(path, base, type ? type : "q8_0", out_path, path ? poptGetArg(context) : NULL);
    }
    poptFreeContext(context);
    free(base);
    free(type);
    free(out_path);
    return code;
}

/* ---- info --------------------------------------------------------------------------------------------- */

/* A value of the metadata, NULL for arrays and what JSON cannot hold. */
static json_t *json_value(const struct soothe__gguf *g, int64_t i) {
    switch (gguf_get_kv_type(g->meta, i)) {
    case GGUF_TYPE_STRING: {
        const char *s = gguf_get_val_str(g->meta, i);
        return json_stringn(s, strlen(s));
    }
    case GGUF_TYPE_UINT32:
        return json_integer(gguf_get_val_u32(g->meta, i));
    case GGUF_TYPE_BOOL:
        return json_boolean(gguf_get_val_bool(g->meta, i));
    case GGUF_TYPE_FLOAT32: /* as it was written: 0.1, not 0.10000000149 */
        return json_real(round((double)gguf_get_val_f32(g->meta, i) * 1e6) / 1e6);
    case GGUF_TYPE_FLOAT64:
        return json_real(gguf_get_val_f64(g->meta, i));
    default:
        return NULL;
    }
}

/* soothe's own keys and the name. */
static json_t *json_metadata(const struct soothe__gguf *g) {
    json_t       *o = json_object();
    const int64_t n = gguf_get_n_kv(g->meta);
    for (int64_t i = 0; i < n; i++) {
        const char *key = gguf_get_key(g->meta, i);
        if (strncmp(key, "soothe.", 7) == 0 || !strcmp(key, "general.name") || !strcmp(key, "general.architecture"))
            json_object_set_new(o, key, json_value(g, i)); /* leaves out NULL */
    }
    return o;
}

static json_t *json_tensors(const struct soothe__gguf *g) {
    json_t       *list = json_array();
    const int64_t n    = gguf_get_n_tensors(g->meta);
    for (int64_t i = 0; i < n; i++) {
        const int64_t *ne     = gguf_get_tensor_ne(g->meta, i);
        json_t        *shape  = json_array();
        int            n_dims = 4;
        while (n_dims > 1 && ne[n_dims - 1] == 1)
            n_dims--;
        for (int k = 0; k < n_dims; k++)
            json_array_append_new(shape, json_integer(ne[k]));
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:I}", "name", gguf_get_tensor_name(g->meta, i), "type",
                                              ggml_type_name(gguf_get_tensor_type(g->meta, i)), "shape", shape, "bytes",
                                              (json_int_t)gguf_get_tensor_size(g->meta, i)));
    }
    return list;
}

static int print_json(const struct soothe__gguf *g) {
    json_t *o = json_pack("{s:s, s:o, s:o}", "file", g->path, "metadata", json_metadata(g), "tensors", json_tensors(g));
    const int failed = !o || json_dumpf(o, stdout, JSON_INDENT(2));
    if (!o)
        fprintf(stderr, "soothe: %s has names that are not UTF-8\n", g->path);
    json_decref(o);
    putchar('\n');
    return failed ? SOOTHE__EXIT_FAILED : SOOTHE__EXIT_DONE;
}

static int print_text(const struct soothe__gguf *g) {
    const char *key;
    json_t     *value, *metadata = json_metadata(g);
    size_t      size = 0;
    json_object_foreach(metadata, key, value) {
        char *text = json_is_string(value) ? NULL : json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        printf("%-36s %s\n", key, text ? text : json_string_value(value) ? json_string_value(value) : "");
        free(text);
    }
    json_decref(metadata);
    putchar('\n');
    const int64_t n = gguf_get_n_tensors(g->meta);
    for (int64_t i = 0; i < n; i++) {
        const int64_t *ne = gguf_get_tensor_ne(g->meta, i);
        size += gguf_get_tensor_size(g->meta, i);
        printf("%-36s %-5s %6lld x %-6lld %10zu bytes\n", gguf_get_tensor_name(g->meta, i),
               ggml_type_name(gguf_get_tensor_type(g->meta, i)), (long long)ne[0],
               (long long)(soothe__gguf_n_elements(g, i) / (ne[0] ? ne[0] : 1)), gguf_get_tensor_size(g->meta, i));
    }
    printf("%lld tensors, %.1f MB\n", (long long)n, (double)size / 1e6);
    return SOOTHE__EXIT_DONE;
}

/* Opens the calibrator for a target, and closes it again. */
static enum soothe_status check_pair(const char *path, const char *model, const char *base, struct soothe_error *err) {
    struct soothe_calibrator       *cal        = NULL;
    char                           *model_path = NULL, *base_path = NULL;
    struct soothe_calibrator_params p      = soothe_calibrator_params_default();
    enum soothe_status              status = soothe__pull_model(&model_path, model, err);
    if (!status && base)
        status = soothe__pull_model(&base_path, base, err);
    p.base_path = base_path;
    if (!status)
        status = soothe_calibrator_open(&cal, path, model_path, &p, err);
    soothe_calibrator_free(cal);
    free(model_path);
    free(base_path);
    return status;
}

static int info(const char *path, const char *model, const char *base, bool json, const char *more) {
    struct soothe_error err;
    struct soothe__gguf g = {0};
    int                 code;
    if (!path)
        return soothe__print_misuse(INFO.name, "which calibrator?");
    if (more)
        return soothe__print_misuse(INFO.name, "one calibrator at a time");
    if (base && !model)
        return soothe__print_misuse(INFO.name, "--base goes with -m");
    if (soothe__gguf_open(&g, path, &err) || soothe__calibrator_check(&g, &err) ||
        (model && check_pair(path, model, base, &err)))
        code = soothe__print_failure(&err);
    else
        code = json ? print_json(&g) : print_text(&g);
    soothe__gguf_close(&g);
    return code;
}

static int cmd_info(int argc, const char **argv) {
    char                   *model = NULL, *base = NULL;
    int                     json      = 0;
    const struct poptOption options[] = {
        {"model", 'm', POPT_ARG_STRING, &model, 0, "does it fit this target?", "MODEL"},
        {"base", '\0', POPT_ARG_STRING, &base, 0, "base of a packed calibrator, if not the target itself", "MODEL"},
        {"json", '\0', POPT_ARG_NONE, &json, 0, "as JSON", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &INFO, argc, argv, options);
    if (code < 0) {
        const char *path = poptGetArg(context);
        code             = info(path, model, base, json, path ? poptGetArg(context) : NULL);
    }
    poptFreeContext(context);
    free(model);
    free(base);
    return code;
}

/* ---- dispatch ------------------------------------------------------------------------------------------- */

/* The word after "calibrator " in a subcommand's name. */
static const char *word_of(const struct soothe__command *command) {
    return strchr(command->name, ' ') + 1;
}

static void print_subcommands(FILE *out) {
    fprintf(out, "%s\n    soothe calibrator SUBCOMMAND [OPTIONS]        SUBCOMMAND --help shows an example first\n\n",
            soothe__command_calibrator.help);
    for (size_t i = 0; i < N_SUBCOMMANDS; i++)
        fprintf(out, "    %-8s %s\n", word_of(SUBCOMMANDS[i]), SUBCOMMANDS[i]->summary);
}

int soothe__cmd_calibrator(int argc, const char **argv) {
    if (argc < 2) {
        print_subcommands(stderr);
        return SOOTHE__EXIT_MISUSE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
        print_subcommands(stdout);
        return SOOTHE__EXIT_DONE;
    }
    for (size_t i = 0; i < N_SUBCOMMANDS; i++)
        if (strcmp(argv[1], word_of(SUBCOMMANDS[i])) == 0)
            return SUBCOMMANDS[i]->run(argc - 1, argv + 1);
    return soothe__print_misuse("calibrator", "there is no \"%s\"", argv[1]);
}
