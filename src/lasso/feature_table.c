/* SPDX-License-Identifier: Apache-2.0 */
#include "lasso/feature_table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static enum soothe_status no_memory(struct soothe_error *err, size_t n_rows) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a table of %zu rows", n_rows);
}

/* ---- columns ------------------------------------------------------------------------------------------ */

static bool contains(const char *const *list, const char *name) {
    for (; list && *list; list++)
        if (!strcmp(*list, name))
            return true;
    return false;
}

static enum soothe_status name_columns(struct soothe__table *t, struct soothe__rows *rows,
                                       const struct soothe__table_choice *choice, const char *path,
                                       struct soothe_error *err) {
    const char *const *all    = soothe__rows_names(rows);
    const char *const *wanted = choice->columns ? choice->columns : all;
    size_t             n      = 0;
    while (wanted[n])
        n++;
    t->names = soothe__calloc(n + 1, sizeof *t->names);
    if (!t->names)
        return no_memory(err, t->n_rows);
    if (!choice->columns && !contains(all, choice->target) && !soothe__rows_field(rows, choice->target))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no column \"%s\"; the first is \"%.60s\"", path,
                            choice->target, all[0] ? all[0] : "");
    if (choice->text && !choice->columns)
        return SOOTHE_OK;
    for (size_t i = 0; i < n; i++) {
        if (!strcmp(wanted[i], choice->target) || contains(choice->leave_out, wanted[i]) ||
            (choice->text && !strcmp(wanted[i], choice->text)))
            continue;
        if (!(t->names[t->n_columns] = soothe__strdup(wanted[i])))
            return no_memory(err, t->n_rows);
        t->n_columns++;
    }
    return t->n_columns || choice->text
               ? SOOTHE_OK
               : soothe__fail(err, SOOTHE_E_FORMAT, "%s has no column but \"%s\"", path, choice->target);
}

/* ---- rows ----------------------------------------------------------------------------------------------- */

static bool grow(struct soothe__table *t, size_t *capacity, bool with_text) {
    if (t->n_rows < *capacity)
        return true;
    const size_t n     = 2 * *capacity + 256;
    double      *cells = t->n_columns ? soothe__realloc(t->cells, n, t->n_columns * sizeof *cells) : NULL;
    t->cells           = cells ? cells : t->cells;
    char **targets     = soothe__realloc(t->targets, n, sizeof *targets);
    t->targets         = targets ? targets : t->targets;
    char **texts       = with_text ? soothe__realloc(t->texts, n, sizeof *texts) : NULL;
    t->texts           = texts ? texts : t->texts;
    size_t *lines      = soothe__realloc(t->lines, n, sizeof *lines);
    t->lines           = lines ? lines : t->lines;
    const bool ok      = (cells || !t->n_columns) && targets && (texts || !with_text) && lines;
    *capacity          = ok ? n : *capacity;
    return ok;
}

/* Why the present row cannot be used is given to rows_reject; *use tells whether it was taken. */
static enum soothe_status take_row(struct soothe__table *t, struct soothe__rows *rows,
                                   const struct soothe__table_choice *choice, struct soothe_error *err) {
    double     *cells  = t->cells + t->n_rows * t->n_columns;
    const char *target = soothe__rows_field(rows, choice->target);
    double      number;
    if (!target || !*target)
        return soothe__rows_reject(rows, err, "column \"%s\" (the target) is missing", choice->target);
    if (choice->numbers_alone && !soothe__parse_double(&number, target, -1e150, 1e150))
        return soothe__rows_reject(rows, err, "column \"%s\" is \"%.40s\", not a number", choice->target, target);
    for (size_t j = 0; j < t->n_columns; j++) {
        const char *field = soothe__rows_field(rows, t->names[j]);
        if (!field || !*field)
            return soothe__rows_reject(rows, err, "column \"%s\" is missing", t->names[j]);
        if (!soothe__parse_double(&cells[j], field, -1e150, 1e150))
            return soothe__rows_reject(rows, err, "column \"%s\" is \"%.40s\", not a number", t->names[j], field);
    }
    const char *text = choice->text ? soothe__rows_field(rows, choice->text) : NULL;
    if (choice->text && !text)
        return soothe__rows_reject(rows, err, "column \"%s\" is missing", choice->text);
    char *own_text = text ? soothe__strdup(text) : NULL, *own_target = soothe__strdup(target);
    if (!own_target || (text && !own_text)) {
        free(own_text);
        free(own_target);
        return no_memory(err, t->n_rows);
    }
    if (text)
        t->texts[t->n_rows] = own_text;
    t->targets[t->n_rows] = own_target;
    t->lines[t->n_rows++] = soothe__rows_line(rows);
    return SOOTHE_OK;
}

enum soothe_status soothe__table_read(struct soothe__table *table, const char *path,
                                      const struct soothe__table_choice *choice, struct soothe_error *err) {
    struct soothe__rows *rows;
    size_t               capacity = 0;
    *table                        = (struct soothe__table){0};
    enum soothe_status status     = soothe__rows_open(&rows, path, choice->skip_bad, err);
    if (status)
        return status;
    for (bool more; !(status = soothe__rows_next(rows, &more, err)) && more;) {
        if (!table->names && (status = name_columns(table, rows, choice, path, err)))
            break;
        if (!grow(table, &capacity, choice->text != NULL)) {
            status = no_memory(err, table->n_rows);
            break;
        }
        if ((status = take_row(table, rows, choice, err)))
            break;
    }
    soothe__rows_close(rows, table->sha256, &table->counts);
    if (!status && table->n_rows == 0)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s has no usable row%s%s", path, table->counts.n_bad ? ": " : "",
                              table->counts.first_bad);
    if (status)
        soothe__table_free(table);
    return status;
}

void soothe__table_free(struct soothe__table *t) {
    for (size_t i = 0; i < t->n_rows; i++) {
        free(t->targets[i]);
        if (t->texts)
            free(t->texts[i]);
    }
    for (size_t j = 0; t->names && t->names[j]; j++)
        free(t->names[j]);
    free(t->names);
    free(t->cells);
    free(t->targets);
    free(t->texts);
    free(t->lines);
    memset(t, 0, sizeof *t);
}

/* ---- the target -------------------------------------------------------------------------------------------- */

static bool add_positive(struct soothe__target *target, const char *value, size_t size) {
    char **list = soothe__realloc(target->positive, target->n_positive + 1, sizeof *list);
    if (!list)
        return false;
    target->positive         = list;
    list[target->n_positive] = soothe__format("%.*s", (int)size, value);
    return list[target->n_positive] && ++target->n_positive;
}

static bool occurs(const struct soothe__table *table, const char *value) {
    for (size_t i = 0; i < table->n_rows; i++)
        if (!strcmp(table->targets[i], value))
            return true;
    return false;
}

static enum soothe_status read_positive(struct soothe__target *target, const struct soothe__table *table,
                                        const char *list, struct soothe_error *err) {
    for (const char *s = list;; s++) {
        const size_t n = strcspn(s, ",");
        if (!add_positive(target, s, n))
            return no_memory(err, table->n_rows);
        if (!occurs(table, target->positive[target->n_positive - 1]))
            return soothe__fail(err, SOOTHE_E_FORMAT, "no row has the target \"%s\"; the first has \"%.60s\"",
                                target->positive[target->n_positive - 1], table->targets[0]);
        s += n;
        if (!*s)
            return SOOTHE_OK;
    }
}

/* The values there are, at most three; returns how many. */
static size_t distinct_values(const struct soothe__table *table, const char *values[3]) {
    size_t n = 0;
    for (size_t i = 0; i < table->n_rows && n < 3; i++) {
        bool known = false;
        for (size_t v = 0; v < n; v++)
            known = known || !strcmp(values[v], table->targets[i]);
        if (!known)
            values[n++] = table->targets[i];
    }
    return n;
}

static bool is_larger(const char *a, const char *b) {
    double x, y;
    if (soothe__parse_double(&x, a, -1e150, 1e150) && soothe__parse_double(&y, b, -1e150, 1e150))
        return x > y;
    return strcmp(a, b) > 0;
}

enum soothe_status soothe__target_decide(struct soothe__target *target, const struct soothe__table *table,
                                         enum soothe__family_choice family, const char *positive,
                                         struct soothe_error *err) {
    const char *values[3]      = {"", "", ""};
    *target                    = (struct soothe__target){.family = SOOTHE__BINOMIAL};
    const size_t n             = distinct_values(table, values);
    const bool   auto_gaussian = family == SOOTHE__FAMILY_AUTO && !positive && n != 2;
    if (family == SOOTHE__FAMILY_GAUSSIAN || auto_gaussian) {
        target->family = SOOTHE__GAUSSIAN;
        return SOOTHE_OK;
    }
    if (positive)
        return read_positive(target, table, positive, err);
    if (n != 2)
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            n < 2 ? "the target is \"%.60s\" in every row: nothing to learn"
                                  : "the target has more than two values (\"%.60s\", \"%.60s\", \"%.60s\"): say by "
                                    "--positive which of them to tell from the others",
                            values[0], values[1], values[2]);
    const bool second = is_larger(values[1], values[0]);
    target->negative  = soothe__strdup(values[!second]);
    return target->negative && add_positive(target, values[second], strlen(values[second]))
               ? SOOTHE_OK
               : no_memory(err, table->n_rows);
}

enum soothe_status soothe__target_values(double *y, const struct soothe__target *target,
                                         const struct soothe__table *table, const char *path,
                                         struct soothe_error *err) {
    for (size_t i = 0; i < table->n_rows; i++) {
        const char *value = table->targets[i];
        if (target->family == SOOTHE__GAUSSIAN) {
            if (!soothe__parse_double(&y[i], value, -1e150, 1e150))
                return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: the target is \"%.40s\", not a number",
                                    table->lines[i], path, value);
            continue;
        }
        y[i] = 0;
        for (size_t p = 0; p < target->n_positive; p++)
            if (!strcmp(value, target->positive[p]))
                y[i] = 1;
        if (y[i] == 0 && target->negative && strcmp(value, target->negative) != 0)
            return soothe__fail(err, SOOTHE_E_FORMAT,
                                "line %zu of %s: the target is \"%.40s\", neither \"%s\" nor \"%s\"", table->lines[i],
                                path, value, target->positive[0], target->negative);
    }
    return SOOTHE_OK;
}

void soothe__target_free(struct soothe__target *target) {
    for (size_t p = 0; p < target->n_positive; p++)
        free(target->positive[p]);
    free(target->positive);
    free(target->negative);
    *target = (struct soothe__target){0};
}
