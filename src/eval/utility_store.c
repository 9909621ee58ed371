/* SPDX-License-Identifier: Apache-2.0
 * Likelihoods in a file that is only ever added to. A line is written whole and handed to the system at once, so that a
 * killed run loses the questions at work alone. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "eval/utility.h"

static enum soothe_status append(struct soothe__utility_store *s, const json_t *line, struct soothe_error *err) {
    char *text = line ? json_dumps(line, JSON_COMPACT) : NULL;
    if (!text)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a line of %s", s->path);
    const bool ok = fputs(text, s->file) >= 0 && fputc('\n', s->file) != EOF && fflush(s->file) == 0;
    free(text);
    return ok ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", s->path, strerror(errno));
}

static enum soothe_status compare(const struct soothe__utility_store *s, const json_t *there, const json_t *here,
                                  const char *what, struct soothe_error *err) {
    char              *difference = soothe__eval_manifest_difference(there, s->path, here, "this run");
    enum soothe_status status     = SOOTHE_OK;
    if (difference)
        status = soothe__fail(err, SOOTHE_E_MISMATCH, "%s holds another run: %s%.600s", s->path, what, difference);
    free(difference);
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------------ */

/* {"system": 0, "question": 3, "log_p": [-12.5, …] or null} */
static bool take_answer(struct soothe__utility *u, const json_t *line) {
    const json_t    *list       = json_object_get(line, "log_p");
    const json_int_t i_system   = json_integer_value(json_object_get(line, "system")),
                     i_question = json_integer_value(json_object_get(line, "question"));
    if (!json_is_integer(json_object_get(line, "question")) || i_question < 0 || (size_t)i_question >= u->n_questions ||
        !(json_is_null(list) || json_is_array(list)))
        return false;
    const size_t n     = soothe__utility_n_choices(u, (size_t)i_question);
    double      *log_p = &u->log_p[(size_t)i_system * u->n_texts + u->first[i_question]];
    if (json_is_array(list) && json_array_size(list) != n)
        return false;
    for (size_t k = 0; k < n; k++) {
        const json_t *value = json_array_get(list, k);
        if (value && !json_is_number(value))
            return false;
        log_p[k] = value ? json_number_value(value) : (double)NAN;
    }
    u->done[(size_t)i_system * u->n_questions + (size_t)i_question] = 1;
    return true;
}

/* Of a system or of a question; false: of neither. */
static bool take_line(struct soothe__utility_store *s, struct soothe__utility *u, const json_t *line) {
    const json_t    *system = json_object_get(line, "system"), *about = json_object_get(line, "is");
    const json_int_t i = json_integer_value(system);
    if (!json_is_integer(system) || i < 0 || (size_t)i >= s->n_systems)
        return false;
    if (about && !s->known[i]) {
        s->known[i] = json_deep_copy(about);
        return s->known[i] != NULL;
    }
    return s->known[i] && take_answer(u, line);
}

static enum soothe_status read_lines(struct soothe__utility_store *s, const json_t *settings, struct soothe__utility *u,
                                     struct soothe_error *err) {
    char              *text     = NULL;
    size_t             capacity = 0, n_line = 0;
    off_t              end    = 0; /* of the last good line */
    ssize_t            size   = 0;
    bool               broken = false;
    enum soothe_status status = SOOTHE_OK;
    rewind(s->file);
    while (!status && (size = getline(&text, &capacity, s->file)) > 0) {
        if (broken)
            status = soothe__fail(err, SOOTHE_E_FORMAT, "line %zu of %s is damaged", n_line, s->path);
        n_line++;
        json_t *line = status || text[size - 1] != '\n' ? NULL : json_loadb(text, (size_t)size, 0, NULL);
        if (!status && line && n_line == 1)
            status = compare(s, line, settings, "", err);
        else if (!status)
            broken = !line || !take_line(s, u, line);
        end += broken || status ? 0 : size;
        json_decref(line);
    }
    free(text);
    if (!status && ferror(s->file))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot read %s: %s", s->path, strerror(errno));
    if (!status && ftruncate(fileno(s->file), end) != 0)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot cut the torn end off %s: %s", s->path, strerror(errno));
    return status || end ? status : append(s, settings, err);
}

enum soothe_status soothe__utility_store_open(struct soothe__utility_store *s, const char *path, bool resume,
                                              const json_t *settings, struct soothe__utility *u,
                                              struct soothe_error *err) {
    *s = (struct soothe__utility_store){.path = path, .n_systems = u->n_systems};
    if (!resume && soothe__file_exists(path))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s is there already: --resume goes on with it", path);
    enum soothe_status status = SOOTHE_OK;
    s->known                  = soothe__calloc(s->n_systems, sizeof *s->known);
    s->file                   = s->known ? fopen(path, "a+be") : NULL;
    if (!s->known)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    else if (!s->file)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(errno));
    else if (flock(fileno(s->file), LOCK_EX | LOCK_NB) != 0)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s is in use by another process", path);
    else
        status = read_lines(s, settings, u, err);
    if (status)
        soothe__utility_store_close(s);
    return status;
}

/* ---- adding ------------------------------------------------------------------------------------------------- */

enum soothe_status soothe__utility_store_system(struct soothe__utility_store *s, size_t i_system, const json_t *about,
                                                struct soothe_error *err) {
    if (!s->file)
        return SOOTHE_OK;
    char what[40];
    snprintf(what, sizeof what, "system %zu: ", i_system + 1);
    if (s->known[i_system])
        return compare(s, s->known[i_system], about, what, err);
    json_t                  *line   = json_pack("{s:I, s:O}", "system", (json_int_t)i_system, "is", about);
    const enum soothe_status status = append(s, line, err);
    json_decref(line);
    return status;
}

enum soothe_status soothe__utility_store_add(struct soothe__utility_store *s, const struct soothe__utility *u,
                                             size_t i_system, size_t i_question, struct soothe_error *err) {
    if (!s->file)
        return SOOTHE_OK;
    const double *log_p = &u->log_p[i_system * u->n_texts + u->first[i_question]];
    json_t       *list  = isnan(log_p[0]) ? json_null() : json_array();
    for (size_t k = 0; json_is_array(list) && k < soothe__utility_n_choices(u, i_question); k++)
        json_array_append_new(list, json_real(log_p[k]));
    json_t *line =
        json_pack("{s:I, s:I, s:o}", "system", (json_int_t)i_system, "question", (json_int_t)i_question, "log_p", list);
    const enum soothe_status status = append(s, line, err);
    json_decref(line);
    return status;
}

void soothe__utility_store_close(struct soothe__utility_store *s) {
    for (size_t i = 0; s->known && i < s->n_systems; i++)
        json_decref(s->known[i]);
    free(s->known);
    if (s->file)
        fclose(s->file);
    *s = (struct soothe__utility_store){.file = NULL};
}
