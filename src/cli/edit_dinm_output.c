/* SPDX-License-Identifier: Apache-2.0
 * What "soothe edit dinm" prints. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "cli/edit_dinm.h"
#include "cli/result.h"

static size_t n_written(const struct soothe__dinm_texts *t, bool safe) {
    size_t n = 0;
    for (size_t i = 0; i < t->n_instances; i++)
        n += safe ? t->instances[i].wrote_safe : t->instances[i].wrote_unsafe;
    return n;
}

static size_t n_led(const struct soothe__dinm_texts *t) {
    size_t n = 0;
    for (size_t i = 0; i < t->n_instances; i++)
        n += t->instances[i].led;
    return n;
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

static json_t *json_step(const struct soothe__dinm_step *s) {
    return json_pack("{s:o, s:o, s:o}", "loss", soothe__json_rounded(s->loss), "nll", soothe__json_rounded(s->nll),
                     "kl", soothe__json_rounded(s->kl));
}

static json_t *json_layers(const struct soothe__dinm_layers *l) {
    json_t *o = json_object();
    for (int rule = 0; rule < SOOTHE__DINM_RULES; rule++) {
        json_t *distance = json_array();
        for (int32_t i = 0; i < l->n_layers; i++)
            json_array_append_new(distance, soothe__json_rounded(l->distance[rule][i]));
        json_object_set_new(o, soothe__dinm_rule_names[rule],
                            json_pack("{s:i, s:o}", "layer", (int)l->largest[rule], "distance", distance));
    }
    return o;
}

static json_t *json_defence(const struct soothe__defence_figures *f) {
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:I}", "safe", soothe__json_rounded(f->safe), "refused",
                     soothe__json_rounded(f->refused), "toxicity", soothe__json_rounded(f->toxicity), "toxic",
                     soothe__json_rounded(f->toxic), "distinct_2", soothe__json_rounded(f->distinct2), "nulls",
                     (json_int_t)f->n_nulls);
}

static json_t *json_verdict(const struct soothe__dinm_verdict *v) {
    json_t *defence = json_object();
    for (int kind = 0; kind < SOOTHE__DEFENCE_KINDS; kind++)
        if (v->before[kind].n)
            json_object_set_new(defence, soothe__defence_names[kind],
                                json_pack("{s:I, s:o, s:o}", "n", (json_int_t)v->before[kind].n, "before",
                                          json_defence(&v->before[kind]), "after", json_defence(&v->after[kind])));
    const struct soothe__answer_change *b = &v->benign;
    const struct soothe__model_change  *t = &v->texts;
    json_t                             *benign =
        json_pack("{s:I, s:o, s:o, s:[oo], s:[oo]}", "n", (json_int_t)b->n, "same", soothe__json_rounded(b->same),
                  "same_start", soothe__json_rounded(b->same_start), "refused", soothe__json_rounded(b->refused_before),
                  soothe__json_rounded(b->refused_after), "distinct_2", soothe__json_rounded(b->distinct2_before),
                  soothe__json_rounded(b->distinct2_after));
    json_t *texts = t->n_texts ? json_pack("{s:I, s:I, s:[oo], s:o, s:o}", "n", (json_int_t)t->n_texts, "tokens",
                                           (json_int_t)t->n_tokens, "perplexity", soothe__json_rounded(t->ppl_before),
                                           soothe__json_rounded(t->ppl_after), "kl", soothe__json_rounded(t->kl),
                                           "kl_error", soothe__json_rounded(t->kl_error))
                               : json_null();
    return json_pack("{s:o, s:o, s:o, s:f}", "defence", defence, "benign", benign, "texts", texts, "seconds",
                     v->seconds);
}

static json_t *json_edit(const struct soothe__dinm_options *o, const struct soothe__dinm_report *r) {
    json_t *steps = json_array();
    for (int32_t i = 0; i <= r->n_steps; i++)
        json_array_append_new(steps, json_step(&r->steps[i]));
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:s, s:s, s:i, s:f, s:f, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:[fff]}",
        "model", o->model_path, "output", o->out_path, "tensor", r->tensor, "layer", (int)r->layer, "rule",
        o->layer >= 0 ? "given" : soothe__dinm_rule_names[o->rule], "type_before", r->type_before, "type", r->type,
        "steps", (int)r->n_steps, "lr", o->lr, "c_edit", o->c_edit, "losses", steps, "written",
        json_step(&r->steps[r->n_steps + 1]), "change", soothe__json_rounded(r->change), "layers",
        json_layers(&r->layers), "instances", (json_int_t)r->texts.n_instances, "general",
        (json_int_t)r->texts.n_general, "safe_written", (json_int_t)n_written(&r->texts, true), "safe_led",
        (json_int_t)n_led(&r->texts), "unsafe_written", (json_int_t)n_written(&r->texts, false), "seconds",
        r->seconds_write, r->seconds_locate, r->seconds_edit);
}

/* "attack" is left out where there is none. */
static json_t *json_instance(const struct soothe__dinm_instance *x) {
    json_t *o = json_pack("{s:s, s:s, s:s}", "question", x->question, "unsafe", x->unsafe, "safe", x->safe);
    if (o && x->attack)
        json_object_set_new(o, "attack", json_string(x->attack));
    return o;
}

enum soothe_status soothe__dinm_write_instances(const struct soothe__dinm_texts *texts, const char *path,
                                                struct soothe_error *err) {
    struct soothe__new_file file   = {.stream = NULL};
    enum soothe_status      status = soothe__new_file_open(&file, path, err);
    for (size_t i = 0; i < texts->n_instances && !status; i++) {
        json_t *o = json_instance(&texts->instances[i]);
        if (!o || json_dumpf(o, file.stream, JSON_COMPACT) != 0 || fputc('\n', file.stream) == EOF)
            status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno ? errno : EIO));
        json_decref(o);
    }
    if (!status)
        status = soothe__new_file_commit(&file, err);
    soothe__new_file_abort(&file);
    return status;
}

/* ---- a table ----------------------------------------------------------------------------------------- */

static void print_edit(const struct soothe__dinm_options *o, const struct soothe__dinm_report *r) {
    const struct soothe__dinm_step *last = &r->steps[r->n_steps], *written = last + 1;
    printf("%s: %s, %s -> %s, changed by %.2f %% of its norm\n", o->out_path, r->tensor, r->type_before, r->type,
           100 * r->change);
    printf("layer by rule:");
    for (int rule = 0; rule < SOOTHE__DINM_RULES; rule++)
        printf(" %s %d%s", soothe__dinm_rule_names[rule], r->layers.largest[rule],
               rule + 1 < SOOTHE__DINM_RULES ? "," : "");
    printf("; edited: %d\n", r->layer);
    printf(
        "%zu instance%s (%zu safe, %zu unsafe answers written by the target, %zu refusals begun for it), %zu general "
        "questions\n",
        r->texts.n_instances, r->texts.n_instances == 1 ? "" : "s", n_written(&r->texts, true),
        n_written(&r->texts, false), n_led(&r->texts), r->texts.n_general);
    printf("after %d steps: -log P(safe) a token %.3f -> %.3f (written: %.3f), KL on general answers %.4f (%.4f)\n",
           r->n_steps, r->steps[0].nll, last->nll, written->nll, last->kl, written->kl);
    printf("%.0f s writing answers, %.0f s locating, %.0f s editing\n", r->seconds_write, r->seconds_locate,
           r->seconds_edit);
}

static void print_verdict(const struct soothe__dinm_verdict *v) {
    const struct soothe__answer_change *b = &v->benign;
    const struct soothe__model_change  *t = &v->texts;
    printf("\n%-17s %4s  %-17s %-17s %-17s %-17s\n", "defence", "n", "safe", "toxicity", "toxic", "distinct-2");
    for (int kind = 0; kind < SOOTHE__DEFENCE_KINDS; kind++) {
        const struct soothe__defence_figures *x = &v->before[kind], *y = &v->after[kind];
        if (!x->n)
            continue;
        const double pairs[][2] = {
            {x->safe, y->safe}, {x->toxicity, y->toxicity}, {x->toxic, y->toxic}, {x->distinct2, y->distinct2}};
        printf("%-17s %4zu ", soothe__defence_names[kind], x->n);
        for (size_t k = 0; k < sizeof pairs / sizeof *pairs; k++) {
            soothe__print_figure(pairs[k][0], 6, 3);
            printf(" ->");
            soothe__print_figure(pairs[k][1], 6, 3);
            printf("  ");
        }
        printf("\n");
    }
    printf("\n%zu harmless questions: %.3f of the answers the same, %.3f up to the first difference; refused %.3f -> "
           "%.3f; distinct-2 %.3f -> %.3f\n",
           b->n, b->same, b->same_start, b->refused_before, b->refused_after, b->distinct2_before, b->distinct2_after);
    if (t->n_texts)
        printf("%zu texts, %zu tokens: perplexity %.2f -> %.2f (%+.2f %%), KL %.4f +- %.4f a token\n", t->n_texts,
               t->n_tokens, t->ppl_before, t->ppl_after, 100 * (t->ppl_after / t->ppl_before - 1), t->kl, t->kl_error);
    printf("%.0f s judging\n", v->seconds);
}

int soothe__dinm_print(const struct soothe__dinm_options *o, const struct soothe__dinm_report *r,
                       const struct soothe__dinm_verdict *v, bool json) {
    if (json) {
        json_t *all = json_edit(o, r);
        if (all && v)
            json_object_set_new(all, "verdict", json_verdict(v));
        return soothe__print_json(all, 8);
    }
    print_edit(o, r);
    if (v)
        print_verdict(v);
    return SOOTHE__EXIT_DONE;
}
