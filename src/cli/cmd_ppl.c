/* SPDX-License-Identifier: Apache-2.0
 * soothe ppl: what a calibrator does to the probability of given texts, at several strengths. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/result.h"
#include "cli/speak.h"
#include "engine/target_model.h"
#include "eval/perplexity.h"
#include "pull/pull.h"

const struct soothe__command soothe__command_ppl = {
    .name    = "ppl",
    .run     = soothe__cmd_ppl,
    .summary = "measure a calibrator on given pairs and texts",
    .help =
        "    soothe ppl -m smollm2-135m-instruct --calibrator cal.gguf --strength 0,0.5,1 --data held-out.jsonl\n"
        "    soothe ppl -m model.gguf --data texts.jsonl.xz\n"
        "\n"
        "Reads JSON lines, plain or compressed: {\"prompt\", \"chosen\", \"rejected\"} is a pair, {\"prompt\",\n"
        "\"completion\"} or {\"text\"} a clean text. For each strength, in nats:\n"
        "    pairs right  share of pairs whose chosen text gains more by fusion than the rejected one (ties: half)\n"
        "    margin       mean of that difference, log-likelihood of the whole completion\n"
        "    KL           divergence of the fused from the plain model, a token of the clean texts\n"
        "    NLL, PPL     of clean, chosen and rejected texts, a token of the completion; x: PPL fused / plain\n"
        "+- is one standard error over the pairs or texts. Without --calibrator: the plain model alone.\n",
};

enum { STRENGTHS_MAX = 64, CONTEXT_DEFAULT = 1024, COUNT_MAX = 1 << 30 };

struct choice {
    char  *model, *calibrator, *base, *alignment, *strength; /* popt's, free() */
    char **data;
    int    n_ctx, n_threads, limit, exact, json;
};

struct work {
    struct soothe__corpus     corpus;
    struct llama_model       *target;
    struct soothe_calibrator *cal;
    char                     *target_path, *base_path;
    float                     strengths[STRENGTHS_MAX];
    size_t                    n_strengths;
    size_t                    n_removed;
    int32_t                   n_ctx;
    struct soothe__ppl_report report;
};

/* ---- reading what was asked for ---------------------------------------------------------------------- */

static bool parse_strengths(struct work *w, const char *list) {
    for (const char *s = list;; s++) {
        char         word[32];
        double       value;
        const size_t n = strcspn(s, ",");
        if (n >= sizeof word || w->n_strengths == STRENGTHS_MAX)
            return false;
        memcpy(word, s, n);
        word[n] = '\0';
        if (!soothe__parse_double(&value, word, -100.0, 100.0))
            return false;
        w->strengths[w->n_strengths++] = (float)value;
        s += n;
        if (!*s)
            return true;
    }
}

static int check_choice(const struct choice *choice, struct work *w, const char *more) {
    if (more)
        return soothe__print_misuse("ppl", "\"%s\" belongs to no option (texts are given by --data)", more);
    if (!choice->data || !choice->data[0])
        return soothe__print_misuse("ppl", "which texts? --data takes a file of JSON lines");
    if (choice->base && !choice->calibrator)
        return soothe__print_misuse("ppl", "--base needs a --calibrator");
    if (choice->strength && !choice->calibrator && !choice->alignment)
        return soothe__print_misuse("ppl", "--strength needs a --calibrator");
    if (choice->strength && !parse_strengths(w, choice->strength))
        return soothe__print_misuse("ppl", "--strength takes up to %d numbers with commas between, not \"%s\"",
                                    STRENGTHS_MAX, choice->strength);
    if (choice->n_ctx != 0 && (choice->n_ctx < 16 || choice->n_ctx > COUNT_MAX))
        return soothe__print_misuse("ppl", "-c takes a number of tokens, at least 16, not %d", choice->n_ctx);
    if (choice->n_threads < 0 || choice->n_threads > 1024)
        return soothe__print_misuse("ppl", "-t takes a number of threads, not %d", choice->n_threads);
    if (choice->limit < 0)
        return soothe__print_misuse("ppl", "--limit takes a number of pairs and texts, not %d", choice->limit);
    return SOOTHE__EXIT_DONE;
}

/* ---- doing it ------------------------------------------------------------------------------------------ */

static enum soothe_status read_texts(struct work *w, const struct choice *choice, struct soothe_error *err) {
    struct soothe__corpus *c      = &w->corpus;
    enum soothe_status     status = SOOTHE_OK;
    for (char **path = choice->data; *path && !status; path++)
        status = soothe__corpus_read(c, *path, err);
    if (status)
        return status;
    const size_t limit = choice->limit > 0 ? (size_t)choice->limit : SIZE_MAX;
    c->n_pairs         = c->n_pairs < limit ? c->n_pairs : limit;
    c->n_singles       = c->n_singles < limit ? c->n_singles : limit;
    if (c->n_bad)
        fprintf(stderr, "soothe: %zu bad line%s left out (%s)\n", c->n_bad, c->n_bad > 1 ? "s" : "", c->first_bad);
    return SOOTHE_OK;
}

static enum soothe_status open_models(struct work *w, const struct choice *choice, struct soothe_error *err) {
    enum soothe_status status = soothe__choose_model(&w->target_path, choice->model, err);
    if (!status && choice->base)
        status = soothe__pull_model(&w->base_path, choice->base, err);
    if (!status && (choice->calibrator ||
                    choice->alignment)) { /* first, since it is refused sooner than a large model is loaded */
        struct soothe_calibrator_params p = soothe_calibrator_params_default();
        p.base_path                       = w->base_path;
        p.alignment_path                  = choice->alignment;
        p.keep_type                       = choice->exact;
        status = soothe_calibrator_open(&w->cal, choice->calibrator, w->target_path, &p, err);
    }
    return status ? status : soothe__target_load(&w->target, w->target_path, 0, err);
}

static enum soothe_status tokenize(struct work *w, const struct choice *choice, struct soothe_error *err) {
    const int32_t n_trained = llama_model_n_ctx_train(w->target);
    w->n_ctx                = choice->n_ctx ? choice->n_ctx : n_trained < CONTEXT_DEFAULT ? n_trained : CONTEXT_DEFAULT;
    if (n_trained > 0 && w->n_ctx > n_trained)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "-c %d is more than the %d tokens that %s was trained on", w->n_ctx,
                            n_trained, w->target_path);
    enum soothe_status status =
        soothe__corpus_tokenize(&w->corpus, llama_model_get_vocab(w->target), w->n_ctx, &w->n_removed, err);
    if (!status && w->corpus.n_truncated)
        fprintf(stderr, "soothe: %zu text%s cut to the context of %d tokens (-c)\n", w->corpus.n_truncated,
                w->corpus.n_truncated > 1 ? "s" : "", w->n_ctx);
    if (!status && w->n_removed)
        fprintf(stderr, "soothe: %zu of too few tokens left out\n", w->n_removed);
    return status;
}

static enum soothe_status measure(struct work *w, const struct choice *choice, struct soothe_error *err) {
    enum soothe_status status = read_texts(w, choice, err);
    if (!status)
        status = open_models(w, choice, err);
    if (!status)
        status = tokenize(w, choice, err);
    if (status)
        return status;
    if (w->cal && w->n_strengths == 0)
        w->strengths[w->n_strengths++] = soothe_calibrator_info(w->cal).default_strength;
    const struct soothe__ppl_options options = {.strengths     = w->strengths,
                                                .n_strengths   = w->n_strengths,
                                                .n_ctx         = w->n_ctx,
                                                .n_threads     = choice->n_threads,
                                                .show_progress = true};
    return soothe__perplexity(&w->report, w->target, w->cal, &w->corpus, &options, err);
}

/* ---- showing it: a table ---------------------------------------------------------------------------------- */

/* "12.3 x1.02" below its heading; nothing where there are no texts. */
static void print_set(const struct soothe__ppl_set *set) {
    if (set->n_texts)
        printf("  %7.3f %8.2f x%-6.3f", set->nll.value, set->perplexity, set->ratio);
    else
        printf("  %7s %8s %-7s", "-", "-", "");
}

static void print_sets(const struct soothe__ppl_sets *sets) {
    print_set(&sets->clean);
    print_set(&sets->chosen);
    print_set(&sets->rejected);
    putchar('\n');
}

static void print_table(const struct soothe__ppl_report *r) {
    printf("%zu pairs (%zu chosen and %zu rejected tokens), %zu clean texts (%zu tokens)\n\n", r->n_pairs,
           r->plain.chosen.n_tokens, r->plain.rejected.n_tokens, r->n_clean, r->plain.clean.n_tokens);
    printf("%-8s  %-16s  %-16s  %-15s", "", "pairs right", "margin", "KL");
    printf("  %-24s  %-24s  %s\n", "clean: NLL PPL", "chosen: NLL PPL", "rejected: NLL PPL");
    printf("%-8s  %-16s  %-16s  %-15s", "plain", "", "", "");
    print_sets(&r->plain);
    for (size_t i = 0; i < r->n_at; i++) {
        const struct soothe__ppl_at *at = &r->at[i];
        printf("%-8.4g", (double)at->strength);
        if (r->n_pairs)
            printf("  %6.2f +- %-4.2f %%  %7.3f +- %-5.3f", 100.0 * at->share.value, 100.0 * at->share.error,
                   at->margin.value, at->margin.error);
        else
            printf("  %-16s  %-16s", "-", "-");
        if (r->n_clean)
            printf("  %.4f +- %-5.4f", at->kl.value, at->kl.error);
        else
            printf("  %-16s", "-");
        print_sets(&at->sets);
    }
}

/* ---- showing it: JSON --------------------------------------------------------------------------------------- */

static json_t *json_estimate(struct soothe__estimate e) {
    return json_pack("{s:f, s:f}", "value", e.value, "error", e.error);
}

static json_t *json_set(const struct soothe__ppl_set *s) {
    if (s->n_texts == 0)
        return json_null();
    return json_pack("{s:I, s:I, s:o, s:f, s:o, s:f, s:f}", "texts", (json_int_t)s->n_texts, "tokens",
                     (json_int_t)s->n_tokens, "nll", json_estimate(s->nll), "perplexity", s->perplexity, "nll_change",
                     json_estimate(s->nll_change), "nll_ratio", s->nll_ratio, "perplexity_ratio", s->ratio);
}

static json_t *json_sets(const struct soothe__ppl_sets *s) {
    return json_pack("{s:o, s:o, s:o}", "clean", json_set(&s->clean), "chosen", json_set(&s->chosen), "rejected",
                     json_set(&s->rejected));
}

static json_t *json_strengths(const struct soothe__ppl_report *r) {
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_at; i++) {
        const struct soothe__ppl_at *at = &r->at[i];
        json_t                      *o  = json_sets(&at->sets);
        /* as it was written: 0.1, not 0.10000000149 */
        json_object_set_new(o, "strength", json_real(round((double)at->strength * 1e6) / 1e6));
        json_object_set_new(o, "pairs",
                            r->n_pairs ? json_pack("{s:o, s:I, s:o}", "share", json_estimate(at->share), "ties",
                                                   (json_int_t)at->n_ties, "margin", json_estimate(at->margin))
                                       : json_null());
        json_object_set_new(o, "kl", r->n_clean ? json_estimate(at->kl) : json_null());
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *json_sources(const struct soothe__corpus *c) {
    json_t *list = json_array();
    for (size_t i = 0; i < c->n_sources; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:I}", "file", c->sources[i].path, "sha256",
                                              c->sources[i].sha256, "lines", (json_int_t)c->sources[i].n_lines));
    return list;
}

static json_t *json_calibrator(const struct work *w, const char *path) {
    if (!w->cal)
        return json_null();
    const struct soothe_calibrator_info info = soothe_calibrator_info(w->cal);
    return json_pack("{s:s, s:s, s:s, s:i}", "file", path, "name", info.name, "form",
                     info.form == SOOTHE_FORM_RESIDUAL ? "residual" : "paper", "blocks", (int)info.n_blocks);
}

static int print_json(const struct work *w, const struct choice *choice) {
    const struct soothe__corpus     *c = &w->corpus;
    const struct soothe__ppl_report *r = &w->report;
    json_t                          *o = json_pack(
                                 "{s:i, s:s, s:s, s:o, s:o, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:f, s:I}", "schema", 1, "tool",
                                 SOOTHE_VERSION, "model", w->target_path, "calibrator", json_calibrator(w, choice->calibrator), "data",
                                 json_sources(c), "n_ctx", (int)w->n_ctx, "bad_lines", (json_int_t)c->n_bad, "repeated_lines",
                                 (json_int_t)c->n_repeated, "truncated", (json_int_t)c->n_truncated, "too_short", (json_int_t)w->n_removed,
                                 "pairs", (json_int_t)r->n_pairs, "clean_texts", (json_int_t)r->n_clean, "plain", json_sets(&r->plain),
                                 "strengths", json_strengths(r), "seconds", r->seconds, "tokens_run", (json_int_t)r->n_tokens_run);
    return soothe__print_json(o, 10);
}

/* ---- the command --------------------------------------------------------------------------------------------- */

static int run(const struct choice *choice, const char *more) {
    struct work         w = {0};
    struct soothe_error err;
    int                 code = check_choice(choice, &w, more);
    if (code)
        return code;
    soothe__corpus_init(&w.corpus);
    if (measure(&w, choice, &err))
        code = soothe__print_failure(&err);
    else if (choice->json)
        code = print_json(&w, choice);
    else
        print_table(&w.report);
    soothe__ppl_report_free(&w.report);
    soothe_calibrator_free(w.cal);
    llama_model_free(w.target);
    soothe__corpus_free(&w.corpus);
    free(w.target_path);
    free(w.base_path);
    return code;
}

static void free_choice(struct choice *choice) {
    for (char **path = choice->data; path && *path; path++)
        free(*path);
    free(choice->data);
    free(choice->model);
    free(choice->calibrator);
    free(choice->base);
    free(choice->alignment);
    free(choice->strength);
}

int soothe__cmd_ppl(int argc, const char **argv) {
    struct choice           choice    = {0};
    const struct poptOption options[] = {
        {"model", 'm', POPT_ARG_STRING, &choice.model, 0,
         "the target: a GGUF file or a name of soothe pull (the default model)", "MODEL"},
        {"calibrator", '\0', POPT_ARG_STRING, &choice.calibrator, 0, "what is fused with it", "FILE"},
        {"base", '\0', POPT_ARG_STRING, &choice.base, 0, "base of a packed calibrator, if not the target itself",
         "MODEL"},
        {"alignment", '\0', POPT_ARG_STRING, &choice.alignment, 0, "matrices that soothe align fitted for the target",
         "FILE"},
        {"strength", '\0', POPT_ARG_STRING, &choice.strength, 0, "one or several; default: the calibrator's own",
         "0,0.5,1"},
        {"alpha", '\0', POPT_ARG_STRING, &choice.strength, 0, "the same by the paper's name", "0,0.5,1"},
        {"data", '\0', POPT_ARG_ARGV, &choice.data, 0, "JSON lines, - for stdin; may be given again", "FILE"},
        {"exact", '\0', POPT_ARG_NONE, &choice.exact, 0,
         "keep the data types of the calibrator's file (by default its blocks are run in Q4_0, as soothe run does)",
         NULL},
        {"limit", '\0', POPT_ARG_INT, &choice.limit, 0, "only the first N pairs and N texts", "N"},
        {"ctx-size", 'c', POPT_ARG_INT, &choice.n_ctx, 0, "cut texts to so many tokens (1024)", "N"},
        {"threads", 't', POPT_ARG_INT, &choice.n_threads, 0, "threads (all)", "N"},
        {"json", '\0', POPT_ARG_NONE, &choice.json, 0, "the figures as JSON", NULL},
        POPT_TABLEEND};
    poptContext context;
    int         code = soothe__options_read(&context, &soothe__command_ppl, argc, argv, options);
    if (code < 0)
        code = run(&choice, poptGetArg(context));
    poptFreeContext(context);
    free_choice(&choice);
    return code;
}
