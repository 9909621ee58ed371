/* SPDX-License-Identifier: Apache-2.0
 * Labelled texts, as commands are given them. */
#include "cli/score.h"

int soothe__check_rows(const struct soothe__row_choice *c, const char *command, const char *more) {
    if (more)
        return soothe__print_misuse(command, "\"%s\" belongs to no option (texts are given by --data)", more);
    if (!c->data || !c->data[0])
        return soothe__print_misuse(command, "which texts? --data takes a file of rows");
    return SOOTHE__EXIT_DONE;
}

static void tell_bad_rows(const struct soothe__labelled_texts *t) {
    for (size_t i = 0; i < t->n_files; i++) {
        const struct soothe__row_counts *c = &t->files[i].counts;
        if (c->n_bad)
            fprintf(stderr, "soothe: %s: %zu bad row%s left out (%s)\n", t->files[i].path, c->n_bad,
                    c->n_bad > 1 ? "s" : "", c->first_bad);
    }
}

enum soothe_status soothe__read_rows(struct soothe__labelled_texts *texts, const struct soothe__row_choice *c,
                                     struct soothe_error *err) {
    const struct soothe__labelled_fields fields = {c->text, c->label, c->source, c->positive, c->skip_bad != 0};
    enum soothe_status                   status = SOOTHE_OK;
    for (char **path = c->data; *path && !status; path++)
        status = soothe__labelled_read(texts, *path, &fields, err);
    tell_bad_rows(texts);
    return status;
}

void soothe__row_choice_free(struct soothe__row_choice *c) {
    char *const texts[] = {c->text, c->label, c->source, c->positive};
    soothe__free_texts(texts, sizeof texts / sizeof *texts);
    soothe__free_list(c->data);
}

enum soothe_status soothe__read_probe_texts(struct soothe__probe_texts *texts, char *const *paths, bool need_labels,
                                            bool skip_bad, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (; *paths && !status; paths++)
        status = soothe__probe_texts_read(texts, *paths, need_labels, skip_bad, err);
    if (!status && texts->n_bad)
        fprintf(stderr, "soothe: %zu bad rows left out\n", texts->n_bad);
    return status;
}
