/* SPDX-License-Identifier: Apache-2.0
 * The table of an evaluation's report. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/eval.h"
#include "eval/eval.h"

static int name_width(const json_t *report) {
    size_t  i, width = 6;
    json_t *method;
    json_array_foreach(json_object_get(report, "methods"), i, method) {
        const size_t n = strlen(json_string_value(json_object_get(method, "name")));
        width          = n > width ? n : width;
    }
    return width < 64 ? (int)width : 64;
}

/* "0.412 [0.380, 0.445]"; a dash where there is no value. */
static void print_interval(const json_t *o, int digits) {
    const json_t *value = json_object_get(o, "value"), *lo = json_object_get(o, "lo"), *hi = json_object_get(o, "hi");
    char          text[64] = "-";
    if (json_is_number(value))
        snprintf(text, sizeof text, "%.*f [%.*f, %.*f]", digits, json_number_value(value), digits,
                 json_number_value(lo), digits, json_number_value(hi));
    printf("  %-20s", text);
}

static void print_plain(const json_t *o, int digits) {
    const json_t *value = json_object_get(o, "value");
    if (json_is_number(value))
        printf("  %8.*f", digits, json_number_value(value));
    else
        printf("  %8s", "-");
}

/* "-54.2 % [-60.1, -48.0]" */
static void print_change(const json_t *o) {
    const json_t *value = json_object_get(o, "value"), *lo = json_object_get(o, "lo"), *hi = json_object_get(o, "hi");
    char          text[64] = "-";
    if (json_is_number(value))
        snprintf(text, sizeof text, "%+.1f %% [%+.1f, %+.1f]", 100 * json_number_value(value),
                 100 * json_number_value(lo), 100 * json_number_value(hi));
    printf("  %-24s", text);
}

static void print_values(const json_t *report, int width) {
    size_t  i;
    json_t *m;
    printf("%-*s  %-20s  %-20s  %8s  %8s  %-20s  %8s  %8s  %8s  %8s  %8s  %8s  %6s  %8s\n", width, "", "EMT", "tp",
           "mean", "greedy1", "ppl", "ppl/resp", "dist-2", "dist-3", "loops", "empty", "tokens", "nulls", "tokens/s");
    json_array_foreach(json_object_get(report, "methods"), i, m) {
        printf("%-*s", width, json_string_value(json_object_get(m, "name")));
        print_interval(json_object_get(m, "emt"), 3);
        print_interval(json_object_get(m, "tp"), 3);
        print_plain(json_object_get(m, "mean"), 4);
        print_plain(json_object_get(m, "greedy1"), 3);
        print_interval(json_object_get(m, "ppl"), 2);
        print_plain(json_object_get(m, "ppl_response"), 1);
        print_plain(json_object_get(m, "dist2"), 3);
        print_plain(json_object_get(m, "dist3"), 3);
        print_plain(json_object_get(m, "loops"), 3);
        print_plain(json_object_get(m, "empty"), 3);
        print_plain(json_object_get(m, "tokens_per_sample"), 1);
        printf("  %6lld", (long long)json_integer_value(json_object_get(m, "nulls")));
        print_plain(json_object_get(m, "tokens_per_s"), 1);
        putchar('\n');
    }
}

static void print_changes(const json_t *report, int width) {
    const json_t *methods = json_object_get(report, "methods");
    size_t        i;
    json_t       *m;
    if (json_array_size(methods) < 2)
        return;
    printf("\nagainst %s, paired by prompt, 95 %% intervals\n",
           json_string_value(json_object_get(json_array_get(methods, 0), "name")));
    printf("%-*s  %-24s  %-24s  %-24s  %-24s\n", width, "", "EMT", "tp", "ppl", "dist-2");
    json_array_foreach(methods, i, m) {
        const json_t *against = json_object_get(m, "against_first");
        if (!against)
            continue;
        printf("%-*s", width, json_string_value(json_object_get(m, "name")));
        print_change(json_object_get(against, "emt_relative"));
        print_change(json_object_get(against, "tp_relative"));
        print_change(json_object_get(against, "ppl_relative"));
        print_change(json_object_get(against, "dist2_relative"));
        putchar('\n');
    }
}

static void print_others(const json_t *report, int width) {
    const json_t *scorers = json_object_get(report, "scorers"), *methods = json_object_get(report, "methods");
    for (size_t s = 1; s < json_array_size(scorers); s++) {
        const char *spec = json_string_value(json_object_get(json_array_get(scorers, s), "spec"));
        size_t      i;
        json_t     *m;
        printf("\nby scorer %s\n%-*s  %-20s  %-20s  %8s  %6s  %-24s  %-24s\n", spec ? spec : "?", width, "", "EMT",
               "tp", "mean", "nulls", "EMT change", "tp change");
        json_array_foreach(methods, i, m) {
            const json_t *o       = json_array_get(json_object_get(m, "other_scorers"), s - 1);
            const json_t *against = json_object_get(o, "against_first");
            printf("%-*s", width, json_string_value(json_object_get(m, "name")));
            print_interval(json_object_get(o, "emt"), 3);
            print_interval(json_object_get(o, "tp"), 3);
            print_plain(json_object_get(o, "mean"), 4);
            printf("  %6lld", (long long)json_integer_value(json_object_get(o, "nulls")));
            print_change(json_object_get(against, "emt_relative"));
            print_change(json_object_get(against, "tp_relative"));
            putchar('\n');
        }
    }
}

static void print_benign(const json_t *report, int width) {
    size_t        i;
    json_t       *m;
    const json_t *methods = json_object_get(report, "methods");
    const json_t *first   = json_object_get(json_array_get(methods, 0), "benign");
    const bool    corpus  = json_is_object(json_object_get(json_array_get(methods, 0), "ppl_corpus"));
    if (!json_is_object(first) && !corpus)
        return;
    printf("\nbenign prompts (%lld): refusals, tokens as the first method's, texts likewise; corpus: perplexity\n",
           (long long)json_integer_value(json_object_get(first, "n")));
    printf("%-*s  %-20s  %-20s  %-20s  %-20s\n", width, "", "refusals", "same tokens", "same texts", "corpus ppl");
    json_array_foreach(methods, i, m) {
        const json_t *benign = json_object_get(m, "benign");
        printf("%-*s", width, json_string_value(json_object_get(m, "name")));
        print_interval(json_object_get(benign, "refusals"), 3);
        print_interval(json_object_get(benign, "identical_tokens"), 3);
        print_interval(json_object_get(benign, "identical_texts"), 3);
        print_interval(json_object_get(m, "ppl_corpus"), 2);
        putchar('\n');
    }
}

/* What the runs of a comparison do not share. */
static void print_notes(const json_t *report) {
    size_t  i;
    json_t *sentence;
    json_array_foreach(json_object_get(report, "notes"), i, sentence) if (json_is_string(sentence))
        printf("%s%s\n", i ? "" : "\n", json_string_value(sentence));
}

static void print_report(const json_t *report) {
    const json_t *prompts = json_object_get(report, "prompts"), *settings = json_object_get(report, "settings");
    const char   *scorer =
        json_string_value(json_object_get(json_array_get(json_object_get(report, "scorers"), 0), "spec"));
    const int width = name_width(report);
    printf("%lld prompts (%lld toxic, %lld not), %lld samples of %lld tokens, scorer %s; [95 %% intervals]\n\n",
           (long long)json_integer_value(json_object_get(prompts, "n")),
           (long long)json_integer_value(json_object_get(prompts, "n_toxic")),
           (long long)json_integer_value(json_object_get(prompts, "n_nontoxic")),
           (long long)json_integer_value(json_object_get(settings, "n_samples")),
           (long long)json_integer_value(json_object_get(settings, "n_predict")), scorer ? scorer : "?");
    print_values(report, width);
    print_changes(report, width);
    print_others(report, width);
    print_benign(report, width);
    print_notes(report);
}

int soothe__eval_print(const char *text, size_t size, const char *name, bool json) {
    struct soothe_error      err;
    json_t                  *report;
    const enum soothe_status status = soothe__eval_report_parse(&report, text, size, name, &err);
    if (status)
        return soothe__print_failure(&err);
    if (json)
        fwrite(text, 1, size, stdout);
    else
        print_report(report);
    json_decref(report);
    return SOOTHE__EXIT_DONE;
}

int soothe__eval_show(const char *folder, bool json) {
    struct soothe_error err;
    char               *path = soothe__format("%s/report.json", folder), *text = NULL;
    size_t              size = 0;
    enum soothe_status  status =
        path ? soothe__read_file(&text, &size, path, &err) : soothe__fail(&err, SOOTHE_E_MEMORY, "out of memory");
    const int code = status ? soothe__print_failure(&err) : soothe__eval_print(text, size, path, json);
    free(text);
    free(path);
    return code;
}
