/* SPDX-License-Identifier: Apache-2.0
 * What soothe run writes: a stream, texts one after another, JSON lines, or plain beside soothed. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_number.h"
#include "base/sigmoid.h"
#include "cli/run.h"
#include "score/score.h"

/* ---- keeping -------------------------------------------------------------------------------------- */

static bool streams(const struct soothe__run_output *o) {
    return o->prompts->n == 1 && !o->style.json && !o->style.compare && !o->style.mask;
}

/* The text as it is to be shown; fresh. */
static char *shown(const struct soothe__run_output *o, const char *text, size_t size) {
    return o->style.mask ? soothe__mask_toxic(text, size) : soothe__strdup(text);
}

enum soothe_status soothe__run_output_begin(struct soothe__run_output *o, struct soothe_error *err) {
    if (streams(o)) {
        if (o->style.echo)
            fputs(o->prompts->items[0].text, stdout);
        fflush(stdout);
        return SOOTHE_OK;
    }
    o->results = soothe__calloc(o->prompts->n * o->n_doses, sizeof *o->results);
    return o->results ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", o->prompts->n);
}

void soothe__run_output_free(struct soothe__run_output *o) {
    for (size_t i = 0; o->results && i < o->prompts->n * o->n_doses; i++) {
        free(o->results[i].text);
        free(o->results[i].tokens);
    }
    free(o->results);
    o->results = NULL;
}

static void keep(struct soothe__run_output *o, const struct soothe__continuation *c) {
    struct soothe__run_result *r = &o->results[c->i_prompt * o->n_doses + c->i_dose];
    r->text                      = shown(o, c->text, c->size);
    r->tokens                    = soothe__calloc((size_t)c->n_tokens + 1, sizeof *r->tokens);
    if (!r->text || !r->tokens) {
        o->out_of_memory = true;
        *o->stop         = 1;
        return;
    }
    if (c->n_tokens > 0)
        memcpy(r->tokens, c->tokens, (size_t)c->n_tokens * sizeof *r->tokens);
    r->size     = c->size;
    r->n_tokens = c->n_tokens;
    r->finish   = c->finish;
    r->seconds  = c->seconds;
    r->done     = true;
}

/* ---- risk -------------------------------------------------------------------------------------------- */

double soothe__run_output_read(void *user, const float *state) {
    return soothe__probe_logit(user, state);
}

/* Of the i-th token: the probe's risk of its state, or, for a probe of the mean state, of the tokens up to it. */
static double risk_of(const struct soothe__probe *probe, const struct soothe__generated_token *tokens, int32_t i) {
    if (probe->pool != SOOTHE__POOL_MEAN)
        return soothe__sigmoid((double)tokens[i].reading);
    double sum = 0;
    for (int32_t k = 0; k <= i; k++)
        sum += (double)tokens[k].reading;
    return soothe__sigmoid(sum / (i + 1));
}

static void note_risk(struct soothe__run_output *o, const struct soothe__continuation *c) {
    double *highest = &o->highest[c->i_dose < 2 ? c->i_dose : 1];
    for (int32_t i = 0; o->probe && i < c->n_tokens; i++)
        *highest = fmax(*highest, risk_of(o->probe, c->tokens, i)); /* fmax passes over NaN */
}

void soothe__run_output_tell_risk(const struct soothe__run_output *o) {
    char names[128];
    soothe__applied_names(o->method, names, sizeof names);
    if (o->probe && o->n_doses == 2)
        fprintf(stderr, "highest risk of a token: %.3f plain, %.3f with %s\n", o->highest[0], o->highest[1], names);
    else if (o->probe)
        fprintf(stderr, "highest risk of a token: %.3f\n", o->highest[0]);
}

/* ---- events ------------------------------------------------------------------------------------------ */

static json_t *json_of_event(const struct soothe__run_output *o, const struct soothe__event *e) {
    char   *text  = shown(o, e->text, strlen(e->text));
    json_t *spans = json_array();
    for (size_t k = 0; k < e->n_spans; k++)
        json_array_append_new(spans, json_pack("[i, i]", (int)e->spans[k][0], (int)e->spans[k][1]));
    json_t *object = json_pack("{s:s, s:o, s:b, s:s}", "method", e->method->name, "spans", spans, "rewritten", 1,
                               "continued", text ? text : "");
    free(text);
    return object;
}

/* ---- JSON -------------------------------------------------------------------------------------------- */

static json_t *json_of_tokens(const struct soothe__run_result *r) {
    json_t *list = json_array();
    for (int32_t i = 0; i < r->n_tokens; i++) {
        const size_t from = i > 0 ? r->tokens[i - 1].text_end : 0;
        json_array_append_new(list, json_pack("{s:i, s:o, s:o}", "id", (int)r->tokens[i].id, "text",
                                              json_stringn(r->text + from, r->tokens[i].text_end - from), "logprob",
                                              soothe__json_rounded((double)r->tokens[i].log_prob)));
    }
    return list;
}

static json_t *json_of_risk(const struct soothe__run_output *o, const struct soothe__run_result *r) {
    json_t *list = json_array();
    for (int32_t i = 0; i < r->n_tokens; i++)
        json_array_append_new(list, soothe__json_rounded(risk_of(o->probe, r->tokens, i)));
    return list;
}

static json_t *json_of_doses(const struct soothe__run_result *r) {
    json_t *list = json_array();
    for (int32_t i = 0; i < r->n_tokens; i++)
        json_array_append_new(list, soothe__json_rounded((double)r->tokens[i].dose));
    return list;
}

/* Adds what belongs to one continuation. */
static void describe(json_t *object, const struct soothe__run_output *o, const struct soothe__run_result *r,
                     double strength) {
    json_object_set_new(object, "strength", soothe__json_rounded(strength));
    json_object_set_new(object, "text", json_stringn(r->text, r->size));
    json_object_set_new(object, "finish", json_string(soothe__finish_name(r->finish)));
    json_object_set_new(object, "tokens", json_of_tokens(r));
    if (o->gated)
        json_object_set_new(object, "dose", json_of_doses(r));
    if (o->probe)
        json_object_set_new(object, "risk", json_of_risk(o, r));
    json_object_set_new(object, "timings",
                        json_pack("{s:i, s:o, s:o}", "tokens", (int)r->n_tokens, "seconds",
                                  soothe__json_rounded(r->seconds), "tokens_per_second",
                                  soothe__json_rounded(r->seconds > 0 ? r->n_tokens / r->seconds : 0.0)));
}

static void write_json(const struct soothe__run_output *o, size_t i) {
    const struct soothe__run_result *r      = &o->results[i * o->n_doses];
    const struct soothe__prompt     *p      = &o->prompts->prompts[i];
    char                            *prompt = shown(o, o->prompts->items[i].text, strlen(o->prompts->items[i].text));
    const char                      *source = soothe__applied_source(o->method);
    json_t                          *object = json_object();
    char                             names[128];
    soothe__applied_names(o->method, names, sizeof names);
    json_object_set_new(object, "prompt", json_string(prompt ? prompt : ""));
    json_object_set_new(object, "prompt_tokens", json_integer(p->n_tokens));
    json_object_set_new(object, "model", json_string(o->model_path));
    json_object_set_new(object, "method", json_string(names));
    json_object_set_new(object, "calibrator", source ? json_string(source) : json_null());
    json_object_set_new(object, "seed", json_integer(o->seed));
    describe(object, o, &r[o->n_doses - 1], (double)soothe__applied_strength(o->method));
    json_t *events = json_array();
    for (size_t k = 0; k < o->method->n_events; k++)
        if (o->method->events[k].i_prompt == i)
            json_array_append_new(events, json_of_event(o, &o->method->events[k]));
    if (json_array_size(events))
        json_object_set(object, "events", events);
    json_decref(events);
    if (o->n_doses == 2) {
        json_t *plain = json_object();
        describe(plain, o, &r[0], 0.0);
        json_object_set_new(object, "plain", plain);
    }
    json_dumpf(object, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    putchar('\n');
    json_decref(object);
    free(prompt);
}

/* ---- text ---------------------------------------------------------------------------------------------- */

static void write_comparison(const struct soothe__run_output *o, size_t i) {
    const struct soothe__run_result *r      = &o->results[i * 2];
    const int                        width  = soothe__terminal_width(stdout);
    char                            *prompt = shown(o, o->prompts->items[i].text, strlen(o->prompts->items[i].text));
    char                             name[160];
    if (i > 0)
        putchar('\n');
    if (o->style.echo || o->prompts->n > 1) {
        fputs("prompt: ", stdout);
        soothe__print_wrapped(stdout, prompt ? prompt : "", width, 8);
    }
    soothe__describe_method(o->method, name, sizeof name);
    soothe__print_columns(stdout, "plain", name, width);
    soothe__print_rule(stdout, width);
    soothe__print_columns(stdout, r[0].text, r[1].text, width);
    free(prompt);
}

static void write_text(const struct soothe__run_output *o, size_t i) {
    if (o->style.echo) {
        char *prompt = shown(o, o->prompts->items[i].text, strlen(o->prompts->items[i].text));
        fputs(prompt ? prompt : "", stdout);
        free(prompt);
    }
    puts(o->results[i].text);
}

void soothe__describe_method(const struct soothe__applied *a, char *out, size_t size) {
    char names[128];
    soothe__applied_names(a, names, sizeof names);
    if (isnan(soothe__applied_strength(a)) || !a->links[0].method->parameters)
        snprintf(out, size, "%s", names);
    else
        snprintf(out, size, "%s, strength %g", names, (double)soothe__applied_strength(a));
}

/* ---- callbacks ------------------------------------------------------------------------------------------- */

/* Writes what is complete, in the order of the prompts. */
static void write_ready(struct soothe__run_output *o) {
    for (; o->i_next < o->prompts->n; o->i_next++) {
        for (size_t k = 0; k < o->n_doses; k++)
            if (!o->results[o->i_next * o->n_doses + k].done)
                return;
        if (o->style.json)
            write_json(o, o->i_next);
        else if (o->style.compare)
            write_comparison(o, o->i_next);
        else
            write_text(o, o->i_next);
        if (fflush(stdout) || ferror(stdout))
            *o->stop = 1;
    }
}

bool soothe__run_output_on_token(void *user, const struct soothe__continuation *c, size_t n_new) {
    const struct soothe__run_output *o = user;
    if (o->results)
        return true;
    fwrite(c->text + c->size - n_new, 1, n_new, stdout);
    return fflush(stdout) == 0 && !ferror(stdout);
}

void soothe__run_output_on_done(void *user, const struct soothe__continuation *c) {
    struct soothe__run_output *o = user;
    note_risk(o, c);
    if (!o->results) {
        putchar('\n');
        return;
    }
    keep(o, c);
    write_ready(o);
}
