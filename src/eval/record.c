/* SPDX-License-Identifier: Apache-2.0
 * One prompt under one method as a line of JSON, and back. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_number.h"
#include "eval/eval.h"

/* ---- writing ------------------------------------------------------------------------------------------------ */

json_t *soothe__eval_json_reason(const char *why) {
    size_t n = strlen(why);
    while (!soothe__utf8_valid(why, n))
        n--;
    return n ? json_stringn(why, n) : json_string("no reason given");
}

void soothe__eval_note_reason(struct soothe__eval_sample *s, size_t i_scorer, size_t n_scorers, const char *why) {
    if (i_scorer == 0) {
        snprintf(s->why, sizeof s->why, "%s", why[0] ? why : "no reason given");
        return;
    }
    if (!s->other_why) {
        s->other_why = json_array();
        for (size_t i = 1; i < n_scorers; i++)
            json_array_append_new(s->other_why, json_null());
    }
    json_array_set_new(s->other_why, i_scorer - 1, soothe__eval_json_reason(why));
}

static json_t *json_sample(const struct soothe__eval_sample *s, size_t n_scorers) {
    json_t *tokens = json_array(), *scores = json_array();
    for (int32_t i = 0; i < s->n_tokens; i++)
        json_array_append_new(tokens, json_integer(s->tokens[i]));
    for (size_t i = 0; i < n_scorers; i++)
        json_array_append_new(scores, soothe__json_number(s->scores[i]));
    json_t *o = json_pack("{s:s, s:o, s:s, s:o}", "text", s->text ? s->text : "", "tokens", tokens, "finish",
                          soothe__finish_name(s->finish), "scores", scores);
    if (!o)
        return NULL;
    if (s->n_ppl > 0) {
        json_object_set_new(o, "nll", soothe__json_number(s->nll));
        json_object_set_new(o, "n_ppl", json_integer(s->n_ppl));
    }
    if (s->why[0])
        json_object_set_new(o, "why", soothe__eval_json_reason(s->why));
    if (s->other_why)
        json_object_set(o, "other_why", s->other_why);
    return o;
}

char *soothe__eval_record_line(const struct soothe__eval_record *r, size_t n_scorers) {
    json_t *o  = json_pack("{s:s, s:I, s:I, s:s}", "kind", soothe__eval_kind_names[r->kind], "method",
                           (json_int_t)r->i_method, "item", (json_int_t)r->i_item, "prompt", r->prompt);
    bool    ok = o != NULL;
    if (ok && r->continued)
        ok = json_object_set_new(o, "continued", json_string(r->continued)) == 0;
    if (ok && r->kind == SOOTHE__EVAL_PROMPT) {
        json_t *samples = json_array();
        json_object_set_new(o, "toxicity", soothe__json_number(r->toxicity));
        json_object_set_new(o, "toxic", r->toxic < 0 ? json_null() : json_boolean(r->toxic));
        for (size_t i = 0; i < r->n_samples && ok; i++)
            ok = json_array_append_new(samples, json_sample(&r->samples[i], n_scorers)) == 0;
        ok = json_object_set_new(o, "samples", samples) == 0 && ok;
    }
    if (ok && r->kind != SOOTHE__EVAL_CORPUS)
        ok = json_object_set_new(o, "greedy", json_sample(&r->greedy, n_scorers)) == 0;
    if (ok && r->kind == SOOTHE__EVAL_CORPUS)
        ok = json_object_set_new(o, "nll", soothe__json_number(r->nll)) == 0 &&
             json_object_set_new(o, "n_ppl", json_integer(r->n_ppl)) == 0;
    /* 17 digits: a double comes back as it was, so that a report from the file is one from memory. */
    char *text = ok ? json_dumps(o, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
    char *line = text ? soothe__format("%s\n", text) : NULL;
    free(text);
    json_decref(o);
    return line;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

/* A number in [lo, hi], or null for NaN. */
static bool read_number(double *out, const json_t *value, double lo, double hi) {
    *out = json_is_number(value) ? json_number_value(value) : (double)NAN;
    return json_is_null(value) || (json_is_number(value) && *out >= lo && *out <= hi);
}

static bool read_int32(int32_t *out, const json_t *value) {
    const json_int_t n = json_integer_value(value);
    *out               = (int32_t)n;
    return json_is_integer(value) && n >= 0 && n <= INT32_MAX;
}

static bool read_finish(enum soothe__finish *out, const json_t *value) {
    const char *name = json_string_value(value);
    for (int i = SOOTHE__FINISH_STOP; name && i <= SOOTHE__FINISH_INTERRUPTED; i++) {
        if (!strcmp(name, soothe__finish_name((enum soothe__finish)i))) {
            *out = (enum soothe__finish)i;
            return true;
        }
    }
    return false;
}

static bool read_sample(struct soothe__eval_sample *s, const json_t *o, size_t n_scorers) {
    json_t       *others = json_object_get(o, "other_why");
    const json_t *tokens = json_object_get(o, "tokens"), *scores = json_object_get(o, "scores");
    const char   *text    = json_string_value(json_object_get(o, "text")),
               *why       = json_string_value(json_object_get(o, "why"));
    const size_t n_tokens = json_array_size(tokens);
    if (!text || !json_is_array(tokens) || n_tokens > INT32_MAX || json_array_size(scores) != n_scorers ||
        !read_finish(&s->finish, json_object_get(o, "finish")))
        return false;
    s->text   = soothe__strdup(text);
    s->tokens = soothe__calloc(n_tokens + 1, sizeof *s->tokens);
    s->scores = soothe__calloc(n_scorers, sizeof *s->scores);
    if (!s->text || !s->tokens || !s->scores)
        return false;
    for (size_t i = 0; i < n_tokens; i++)
        if (!read_int32(&s->tokens[i], json_array_get(tokens, i)))
            return false;
    s->n_tokens = (int32_t)n_tokens;
    for (size_t i = 0; i < n_scorers; i++)
        if (!read_number(&s->scores[i], json_array_get(scores, i), 0.0, 1.0))
            return false;
    snprintf(s->why, sizeof s->why, "%s", why ? why : "");
    if (json_array_size(others) + 1 == n_scorers)
        s->other_why = json_incref(others);
    s->nll = 0;
    if (!json_object_get(o, "n_ppl"))
        return true;
    return read_int32(&s->n_ppl, json_object_get(o, "n_ppl")) &&
           read_number(&s->nll, json_object_get(o, "nll"), -1e12, 1e12) && !isnan(s->nll);
}

static bool read_kind(struct soothe__eval_record *r, const json_t *value) {
    const char *name = json_string_value(value);
    for (int i = 0; name && i < SOOTHE__EVAL_KINDS; i++) {
        if (!strcmp(name, soothe__eval_kind_names[i])) {
            r->kind = (enum soothe__eval_kind)i;
            return true;
        }
    }
    return false;
}

static bool read_place(size_t *out, const json_t *value, size_t n) {
    const json_int_t i = json_integer_value(value);
    *out               = (size_t)i;
    return json_is_integer(value) && i >= 0 && (size_t)i < n;
}

static bool read_samples(struct soothe__eval_record *r, const struct soothe__eval_plan *plan, const json_t *o) {
    const json_t *samples = json_object_get(o, "samples"), *toxic = json_object_get(o, "toxic");
    if (!read_number(&r->toxicity, json_object_get(o, "toxicity"), 0.0, 1.0) ||
        !(json_is_boolean(toxic) || json_is_null(toxic)) || json_array_size(samples) != plan->n_samples)
        return false;
    r->toxic   = json_is_null(toxic) ? -1 : json_is_true(toxic);
    r->samples = soothe__calloc(plan->n_samples, sizeof *r->samples);
    for (size_t i = 0; r->samples && i < plan->n_samples; i++) {
        r->n_samples = i + 1;
        if (!read_sample(&r->samples[i], json_array_get(samples, i), plan->n_scorers))
            return false;
    }
    return r->samples != NULL;
}

static const char *read_record(struct soothe__eval_record *r, const struct soothe__eval_plan *plan, const json_t *o) {
    const char *prompt = json_string_value(json_object_get(o, "prompt"));
    if (!read_kind(r, json_object_get(o, "kind")))
        return "kind";
    if (!read_place(&r->i_method, json_object_get(o, "method"), plan->n_methods))
        return "method";
    if (!read_place(&r->i_item, json_object_get(o, "item"), plan->n_items[r->kind]))
        return "item";
    if (!prompt || !(r->prompt = soothe__strdup(prompt)))
        return "prompt";
    const json_t *continued = json_object_get(o, "continued"); /* only where a method rewrote the prompt */
    if (continued && (!json_is_string(continued) || !(r->continued = soothe__strdup(json_string_value(continued)))))
        return "continued";
    if (r->kind == SOOTHE__EVAL_PROMPT && !read_samples(r, plan, o))
        return "samples";
    if (r->kind != SOOTHE__EVAL_CORPUS && !read_sample(&r->greedy, json_object_get(o, "greedy"), plan->n_scorers))
        return "greedy";
    if (r->kind == SOOTHE__EVAL_CORPUS &&
        (!read_int32(&r->n_ppl, json_object_get(o, "n_ppl")) ||
         !read_number(&r->nll, json_object_get(o, "nll"), -1e12, 1e12) || isnan(r->nll)))
        return "nll";
    return NULL;
}

enum soothe_status soothe__eval_record_parse(struct soothe__eval_record *r, const struct soothe__eval_plan *plan,
                                             const char *line, size_t size, struct soothe_error *err) {
    json_error_t why;
    *r        = (struct soothe__eval_record){.toxicity = NAN, .toxic = -1};
    json_t *o = json_loadb(line, size, JSON_REJECT_DUPLICATES, &why);
    if (!o)
        return soothe__fail(err, SOOTHE_E_FORMAT, "no JSON: %s", why.text);
    const char *wrong = read_record(r, plan, o);
    json_decref(o);
    if (!wrong)
        return SOOTHE_OK;
    soothe__eval_record_free(r);
    return soothe__fail(err, SOOTHE_E_FORMAT, "\"%s\" is not what the run's manifest lets expect", wrong);
}

static void sample_free(struct soothe__eval_sample *s) {
    free(s->text);
    free(s->tokens);
    free(s->scores);
    json_decref(s->other_why);
}

void soothe__eval_record_free(struct soothe__eval_record *r) {
    for (size_t i = 0; r->samples && i < r->n_samples; i++)
        sample_free(&r->samples[i]);
    free(r->samples);
    sample_free(&r->greedy);
    free(r->prompt);
    free(r->continued);
    *r = (struct soothe__eval_record){.i_method = 0};
}
