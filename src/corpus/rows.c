/* SPDX-License-Identifier: Apache-2.0
 * Rows of JSON lines (jansson), CSV and TSV (libcsv), on the lines of json_lines.c. */
#include "corpus/rows.h"

#include <csv.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "corpus/corpus.h"

enum { ROW_MAX_SIZE = 4 << 20, COLUMNS_MAX = 1 << 16 };

enum format { FORMAT_JSON, FORMAT_CSV, FORMAT_TSV };

/* Zero-terminated strings, one after another. */
struct cells {
    char   *bytes;
    size_t  size, capacity;
    size_t *at; /* where each begins */
    size_t  n, at_capacity;
};

struct soothe__rows {
    struct soothe__lines     *lines;
    char                     *path;
    enum format               format;
    bool                      skip_bad;
    struct soothe__row_counts counts;
    size_t                    line, row_line;           /* lines read; where the row begins              */
    char                     *line_text;                /* of the line read last, owned by lines         */
    size_t                    line_size;                /*                                                */
    bool                      too_long, again;          /* again: that line is still to be taken up       */
    struct csv_parser         csv;                      /*                                                */
    bool                      csv_ready;                /* to be freed                                    */
    bool                      row_ended, out_of_memory; /* said by libcsv's callbacks                   */
    struct cells              header, row;              /* CSV and TSV                                    */
    json_t                   *object;                   /* JSON                                           */
    char                    **made;                     /* texts made for the row's fields                */
    size_t                    n_made;
    const char              **names;
};

/* ---- cells ------------------------------------------------------------------------------------------- */

static bool cells_add(struct cells *c, const char *text, size_t size) {
    if (c->size + size + 1 > c->capacity) {
        const size_t capacity = 2 * (c->size + size + 1);
        char        *bytes    = soothe__realloc(c->bytes, capacity, 1);
        if (!bytes)
            return false;
        c->bytes    = bytes;
        c->capacity = capacity;
    }
    if (c->n == c->at_capacity) {
        const size_t capacity = 2 * c->n + 8;
        size_t      *at       = soothe__realloc(c->at, capacity, sizeof *at);
        if (!at)
            return false;
        c->at          = at;
        c->at_capacity = capacity;
    }
    c->at[c->n++] = c->size;
    if (size)
        memcpy(c->bytes + c->size, text, size);
    c->bytes[c->size + size] = '\0';
    c->size += size + 1;
    return true;
}

static void cells_clear(struct cells *c) {
    c->size = c->n = 0;
}

static void cells_free(struct cells *c) {
    free(c->bytes);
    free(c->at);
}

/* ---- lines -------------------------------------------------------------------------------------------- */

/* The next line, or the last one once more; *any is false at the end. */
static enum soothe_status next_line(struct soothe__rows *r, bool *any, struct soothe_error *err) {
    if (!r->again) {
        enum soothe_status status = soothe__lines_next(r->lines, &r->line_text, &r->line_size, &r->too_long, err);
        if (status)
            return status;
        r->line++;
        if (r->line == 1 && r->line_text && r->line_size >= 3 && !memcmp(r->line_text, "\xEF\xBB\xBF", 3)) {
            r->line_text += 3; /* byte order mark */
            r->line_size -= 3;
        }
    }
    r->again = false;
    *any     = r->line_text != NULL;
    return SOOTHE_OK;
}

/* Why the line can be no text; NULL if it can. */
static const char *fault_of_line(const struct soothe__rows *r) {
    if (r->too_long)
        return "the line is longer than 4 MiB";
    if (memchr(r->line_text, '\0', r->line_size))
        return "a zero byte: this is no text";
    if (!soothe__utf8_valid(r->line_text, r->line_size))
        return "invalid UTF-8";
    return NULL;
}

static bool is_blank(const char *text, size_t size) {
    for (size_t i = 0; i < size; i++)
        if (!strchr(" \t\r", text[i]))
            return false;
    return true;
}

/* ---- CSV and TSV ----------------------------------------------------------------------------------------- */

static void on_cell(void *text, size_t size, void *user) {
    struct soothe__rows *r = user;
    if (!cells_add(&r->row, text, size))
        r->out_of_memory = true;
}

static void on_row_end(int ending, void *user) {
    (void)ending;
    struct soothe__rows *r = user;
    r->row_ended           = true;
}

static int never(unsigned char c) {
    (void)c;
    return 0;
}

/* Reads one row into r->row: several lines where a quoted field holds line ends. *fault is NULL for a good one. */
static enum soothe_status read_cells(struct soothe__rows *r, bool *any, const char **fault, struct soothe_error *err) {
    size_t size  = 0;
    *fault       = NULL;
    r->row_ended = false;
    cells_clear(&r->row);
    while (!r->row_ended) {
        enum soothe_status status = next_line(r, any, err);
        if (status)
            return status;
        if (!*any) {
            if (size == 0)
                return SOOTHE_OK;
            return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: a quote is opened and never closed", r->row_line,
                                r->path);
        }
        if (size == 0)
            r->row_line = r->line;
        if (!*fault)
            *fault = fault_of_line(r);
        size += r->line_size + 1;
        if (*fault && size == r->line_size + 1)
            return SOOTHE_OK;    /* the parser has not seen it */
        if (size > ROW_MAX_SIZE) /* with a fault or without: its cells are kept */
            return soothe__fail(err, SOOTHE_E_FORMAT,
                                "line %zu of %s: a row of more than 4 MiB; is a quote opened and never closed?",
                                r->row_line, r->path);
        if (csv_parse(&r->csv, r->line_text, r->line_size, on_cell, on_row_end, r) != r->line_size ||
            csv_parse(&r->csv, "\n", 1, on_cell, on_row_end, r) != 1 || r->out_of_memory)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", r->path);
        if (size == r->line_size + 1 && is_blank(r->line_text, r->line_size) && r->row.n == 0)
            size = 0; /* an empty line is no row */
    }
    return SOOTHE_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A column's name that stands there twice, or NULL. */
static enum soothe_status find_twice(const char **twice, const char *const *names, size_t n, struct soothe_error *err) {
    const char **sorted = soothe__calloc(n + 1, sizeof *sorted);
    *twice              = NULL;
    if (!sorted)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu columns", n);
    memcpy(sorted, names, n * sizeof *sorted);
    qsort(sorted, n, sizeof *sorted, by_name);
    for (size_t i = 1; i < n && !*twice; i++)
        if (strcmp(sorted[i - 1], sorted[i]) == 0)
            *twice = sorted[i];
    free(sorted);
    return SOOTHE_OK;
}

static enum soothe_status read_header(struct soothe__rows *r, struct soothe_error *err) {
    const char        *fault, *twice;
    bool               any;
    enum soothe_status status = read_cells(r, &any, &fault, err);
    if (status)
        return status;
    if (!any)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is empty: not even a row that names the columns", r->path);
    if (fault)
        return soothe__fail(err, SOOTHE_E_FORMAT, "the first row of %s names no columns: %s", r->path, fault);
    const struct cells empty = {0};
    r->header                = r->row;
    r->row                   = empty;
    if (r->header.n > COLUMNS_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "the first row of %s has %zu columns; %d are read at most", r->path,
                            r->header.n, COLUMNS_MAX);
    r->names = soothe__calloc(r->header.n + 1, sizeof *r->names);
    if (!r->names)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", r->path);
    for (size_t i = 0; i < r->header.n; i++)
        r->names[i] = r->header.bytes + r->header.at[i];
    status = find_twice(&twice, r->names, r->header.n, err);
    if (!status && twice)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s names the column \"%s\" twice", r->path, twice);
    return status;
}

/* ---- JSON lines ------------------------------------------------------------------------------------------- */

static enum soothe_status read_object(struct soothe__rows *r, bool *any, const char **fault, json_error_t *why,
                                      struct soothe_error *err) {
    enum soothe_status status;
    do {
        status = next_line(r, any, err);
        if (status || !*any)
            return status;
    } while (is_blank(r->line_text, r->line_size));
    r->row_line = r->line;
    *fault      = fault_of_line(r);
    if (*fault)
        return SOOTHE_OK;
    r->object = json_loadb(r->line_text, r->line_size, JSON_REJECT_DUPLICATES, why);
    if (!r->object)
        *fault = why->text;
    else if (!json_is_object(r->object))
        *fault = "no JSON object";
    return SOOTHE_OK;
}

static const json_t *find_value(const json_t *object, const char *name) {
    const json_t *value = json_object_get(object, name);
    for (const char *dot = strchr(name, '.'); !value && dot; dot = strchr(dot + 1, '.')) {
        char *head = soothe__format("%.*s", (int)(dot - name), name);
        if (head && json_is_object(json_object_get(object, head)))
            value = find_value(json_object_get(object, head), dot + 1);
        free(head);
    }
    return value;
}

static const char *text_of(struct soothe__rows *r, const json_t *value) {
    if (!value || json_is_null(value))
        return NULL;
    if (json_is_string(value))
        return json_string_value(value);
    if (json_is_boolean(value))
        return json_is_true(value) ? "1" : "0";
    char **made = soothe__realloc(r->made, r->n_made + 1, sizeof *made);
    char  *text = made ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    if (made)
        r->made = made;
    if (text)
        r->made[r->n_made++] = text;
    return text;
}

static void forget_object(struct soothe__rows *r) {
    for (size_t i = 0; i < r->n_made; i++)
        free(r->made[i]);
    r->n_made = 0;
    json_decref(r->object);
    r->object = NULL;
    if (r->format == FORMAT_JSON) {
        free(r->names);
        r->names = NULL;
    }
}

/* ---- the rows ---------------------------------------------------------------------------------------------- */

static bool ends_in(const char *name, size_t size, const char *ending) {
    const size_t n = strlen(ending);
    return size >= n && !strncasecmp(name + size - n, ending, n);
}

static enum format format_of(const char *path, const char *first, size_t first_size) {
    static const char *const PACKED[] = {".xz", ".gz", ".zst", ".bz2"};
    size_t                   n        = strlen(path);
    for (size_t i = 0; i < sizeof PACKED / sizeof *PACKED; i++)
        if (ends_in(path, n, PACKED[i])) {
            n -= strlen(PACKED[i]);
            break;
        }
    if (ends_in(path, n, ".csv"))
        return FORMAT_CSV;
    if (ends_in(path, n, ".tsv"))
        return FORMAT_TSV;
    if (ends_in(path, n, ".jsonl") || ends_in(path, n, ".json") || ends_in(path, n, ".ndjson"))
        return FORMAT_JSON;
    return first_size > 0 && first[0] == '{' ? FORMAT_JSON : FORMAT_CSV;
}

static enum soothe_status begin(struct soothe__rows *r, struct soothe_error *err) {
    bool               any;
    enum soothe_status status = next_line(r, &any, err);
    if (status)
        return status;
    r->again  = any;
    r->format = format_of(r->path, any ? r->line_text : "", any ? r->line_size : 0);
    if (r->format == FORMAT_JSON)
        return SOOTHE_OK;
    if (csv_init(&r->csv, 0))
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", r->path);
    r->csv_ready = true;
    csv_set_space_func(&r->csv, never); /* spaces belong to the text */
    if (r->format == FORMAT_TSV) {
        csv_set_delim(&r->csv, '\t');
        csv_set_quote(&r->csv, '\0'); /* which no line holds */
    }
    return read_header(r, err);
}

enum soothe_status soothe__rows_open(struct soothe__rows **out, const char *path, bool skip_bad,
                                     struct soothe_error *err) {
    *out                   = NULL;
    struct soothe__rows *r = soothe__calloc(1, sizeof *r);
    if (!r)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", path);
    r->skip_bad               = skip_bad;
    r->path                   = soothe__strdup(strcmp(path, "-") ? path : "standard input");
    enum soothe_status status = r->path ? soothe__lines_open(&r->lines, path, err)
                                        : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", path);
    if (!status)
        status = begin(r, err);
    if (status)
        soothe__rows_close(r, NULL, NULL);
    else
        *out = r;
    return status;
}

/* Counts the present row as bad, or fails. */
static enum soothe_status bad_row(struct soothe__rows *r, const char *why, struct soothe_error *err) {
    if (!r->skip_bad)
        return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: %s", r->row_line, r->path, why);
    if (r->counts.n_bad++ == 0)
        snprintf(r->counts.first_bad, sizeof r->counts.first_bad, "line %zu: %s", r->row_line, why);
    return SOOTHE_OK;
}

enum soothe_status soothe__rows_next(struct soothe__rows *r, bool *more, struct soothe_error *err) {
    for (;;) {
        const char  *fault = NULL;
        char         count[96];
        json_error_t why;
        forget_object(r);
        enum soothe_status status =
            r->format == FORMAT_JSON ? read_object(r, more, &fault, &why, err) : read_cells(r, more, &fault, err);
        if (status || !*more)
            return status;
        if (!fault && r->format != FORMAT_JSON && r->row.n != r->header.n) {
            snprintf(count, sizeof count, "%zu fields where the first row names %zu columns", r->row.n, r->header.n);
            fault = count;
        }
        if (!fault) {
            r->counts.n_good++;
            return SOOTHE_OK;
        }
        status = bad_row(r, fault, err);
        if (status)
            return status;
    }
}

const char *soothe__rows_field(struct soothe__rows *r, const char *name) {
    if (r->format == FORMAT_JSON)
        return text_of(r, find_value(r->object, name));
    for (size_t i = 0; i < r->header.n && i < r->row.n; i++)
        if (!strcmp(r->header.bytes + r->header.at[i], name))
            return r->row.bytes + r->row.at[i];
    return NULL;
}

const char *soothe__rows_any_field(struct soothe__rows *r, const char *const *names, size_t *i_name) {
    for (size_t i = 0; names[i]; i++) {
        const char *text = soothe__rows_field(r, names[i]);
        if (text) {
            if (i_name)
                *i_name = i;
            return text;
        }
    }
    return NULL;
}

enum soothe_status soothe__rows_number(struct soothe__rows *r, const char *name, double lo, double hi, double *out,
                                       struct soothe_error *err) {
    const char *text = soothe__rows_field(r, name);
    if (!text || !*text)
        return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: there is no \"%s\"", r->row_line, r->path, name);
    if (!soothe__parse_double(out, text, lo, hi))
        return soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s: \"%s\" is \"%.40s\", not a number from %g to %g",
                            r->row_line, r->path, name, text, lo, hi);
    return SOOTHE_OK;
}

enum soothe_status soothe__rows_reject(struct soothe__rows *r, struct soothe_error *err, const char *format, ...) {
    char    why[192];
    va_list list;
    va_start(list, format);
    vsnprintf(why, sizeof why, format, list);
    va_end(list);
    r->counts.n_good--;
    return bad_row(r, why, err);
}

const char *const *soothe__rows_names(struct soothe__rows *r) {
    static const char *const NONE[] = {NULL};
    if (r->format == FORMAT_JSON && r->object && !r->names) {
        r->names      = soothe__calloc(json_object_size(r->object) + 1, sizeof *r->names);
        size_t      i = 0;
        const char *key;
        json_t     *value;
        if (r->names)
            json_object_foreach(r->object, key, value) {
                (void)value;
                r->names[i++] = key;
            }
    }
    return r->names ? r->names : NONE;
}

size_t soothe__rows_line(const struct soothe__rows *r) {
    return r->row_line;
}

void soothe__rows_close(struct soothe__rows *r, char hex[65], struct soothe__row_counts *counts) {
    if (!r)
        return;
    if (counts)
        *counts = r->counts;
    forget_object(r);
    soothe__lines_close(r->lines, hex);
    if (r->csv_ready)
        csv_free(&r->csv);
    cells_free(&r->header);
    cells_free(&r->row);
    free(r->names);
    free(r->made);
    free(r->path);
    free(r);
}
