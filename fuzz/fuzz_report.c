/* SPDX-License-Identifier: Apache-2.0
 * Any bytes as the files of an evaluation: its manifest, its samples, its report. Refused with a sentence, or taken
 * with every place in bounds. */
#include <stdlib.h>
#include <string.h>

#include "eval/figures.h"
#include "input_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct soothe__eval_plan PLAN = {
    .n_methods = 2, .n_scorers = 1, .n_samples = 2, .group = 2, .n_items = {3, 1, 1}};

static void try_manifest(const char *text, size_t size) {
    json_t                  *m;
    struct soothe__eval_plan plan;
    struct soothe_error      err = {.message = ""};
    if (soothe__eval_manifest_parse(&m, &plan, text, size, "fuzz", &err)) {
        if (m || !err.message[0])
            abort();
        return;
    }
    const size_t n = soothe__eval_n_groups(&plan);
    for (size_t i = 0; i < n && i < 1000; i++) {
        const size_t                   g = i % 2 ? n - 1 - i / 2 : i / 2; /* from both ends */
        const struct soothe__eval_unit u = soothe__eval_unit_at(&plan, plan.n_methods - 1, g);
        if (u.n == 0 || u.n > plan.group || u.from + u.n > plan.n_items[u.kind] ||
            soothe__eval_group_of(&plan, u.kind, u.from + u.n - 1) != g)
            abort();
    }
    char *difference = soothe__eval_manifest_difference(m, "A", m, "B");
    if (difference)
        abort();
    json_decref(m);
}

static void try_report(const char *text, size_t size) {
    json_t             *report;
    struct soothe_error err = {.message = ""};
    if (soothe__eval_report_parse(&report, text, size, "fuzz", &err) && (report || !err.message[0]))
        abort();
    json_decref(report);
}

/* A record that is taken is written and read again without loss. */
static enum soothe_status take_record(void *user, const struct soothe__eval_record *r, const char *line, size_t size,
                                      struct soothe_error *err) {
    struct soothe__eval_record again;
    char                      *copy = soothe__eval_record_line(r, PLAN.n_scorers);
    (void)line;
    (void)size;
    if (r->i_method >= PLAN.n_methods || r->i_item >= PLAN.n_items[r->kind] || !copy ||
        soothe__eval_record_parse(&again, &PLAN, copy, strlen(copy), err))
        abort();
    char *third = soothe__eval_record_line(&again, PLAN.n_scorers);
    if (!third || strcmp(copy, third) != 0)
        abort();
    free(copy);
    free(third);
    soothe__eval_record_free(&again);
    const struct soothe__figures_view whole = soothe__figures_view_whole(&PLAN);
    return soothe__figures_add(user, &whole, r, err);
}

static void try_samples(const uint8_t *data, size_t size) {
    struct soothe__figures f;
    struct soothe_error    err = {.message = ""};
    if (soothe__figures_init(&f, &PLAN, &err))
        return;
    if (soothe__eval_samples_read(fuzz_input_file(data, size), &PLAN, take_record, &f, &err) && !err.message[0])
        abort();
    soothe__figures_free(&f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_manifest((const char *)data, size);
    try_report((const char *)data, size);
    try_samples(data, size);
    return 0;
}
