/* SPDX-License-Identifier: Apache-2.0 */
#include "eval/report_html.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

static const char PAGE[] = {
#include "eval/report_page.inc"
};

/* Where the report goes: the text of the page's data element. */
static const char PLACE[] = "id=\"report\">REPORT<";

enum { SCHEMA = 1, BEFORE = sizeof "id=\"report\">" - 1, WORD = sizeof "REPORT" - 1 };

static enum soothe_status check_methods(const json_t *methods, struct soothe_error *err) {
    if (json_array_size(methods) == 0) /* 0 also for what is no array */
        return soothe__fail(err, SOOTHE_E_FORMAT, "the report holds no list \"methods\"");
    for (size_t i = 0; i < json_array_size(methods); i++)
        if (!json_is_string(json_object_get(json_array_get(methods, i), "name")))
            return soothe__fail(err, SOOTHE_E_FORMAT, "method %zu of the report is no object with a \"name\"", i + 1);
    return SOOTHE_OK;
}

static enum soothe_status check_report(const char *text, size_t size, struct soothe_error *err) {
    json_error_t       why;
    json_t            *report = json_loadb(text, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    const json_t      *schema = json_object_get(report, "schema");
    enum soothe_status status;
    if (!report)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "the report is not JSON: line %d: %s", why.line, why.text);
    else if (!json_is_object(report) || !json_is_integer(schema))
        status = soothe__fail(err, SOOTHE_E_FORMAT, "the report is no object with a number \"schema\"");
    else if (json_integer_value(schema) != SCHEMA)
        status = soothe__fail(err, SOOTHE_E_UNSUPPORTED, "the report has schema %lld; this version reads schema %d",
                              (long long)json_integer_value(schema), SCHEMA);
    else
        status = check_methods(json_object_get(report, "methods"), err);
    json_decref(report);
    return status;
}

/* In valid JSON these bytes stand inside strings alone, where an escape means the same; numbers and their digits stay
 * as they were written. */
static bool put_json(FILE *out, const char *text, size_t size) {
    bool   ok   = true;
    size_t done = 0;
    for (size_t i = 0; i < size && ok; i++) {
        const char *escape = NULL;
        size_t      n      = 1;
        if (text[i] == '<' || text[i] == '>' || text[i] == '&') {
            escape = text[i] == '<' ? "\\u003c" : text[i] == '>' ? "\\u003e" : "\\u0026";
        } else if (size - i >= 3 && memcmp(text + i, "\xE2\x80", 2) == 0 && (text[i + 2] & 0xFE) == 0xA8) {
            escape = (text[i + 2] & 1) ? "\\u2029" : "\\u2028"; /* ends a line in older JavaScript */
            n      = 3;
        }
        if (!escape)
            continue;
        ok = fwrite(text + done, 1, i - done, out) == i - done && fputs(escape, out) >= 0;
        i += n - 1;
        done = i + 1;
    }
    return ok && fwrite(text + done, 1, size - done, out) == size - done;
}

enum soothe_status soothe__report_write_html(const char *path, const char *report_json, size_t size,
                                             struct soothe_error *err) {
    struct soothe__new_file f      = {0};
    enum soothe_status      status = check_report(report_json, size, err);
    if (status)
        return status;
    const char *place = memmem(PAGE, sizeof PAGE, PLACE, sizeof PLACE - 1);
    if (!place)
        return soothe__fail(err, SOOTHE_E_FORMAT, "the page's template has no place for the report");
    const size_t before = (size_t)(place - PAGE) + BEFORE, after = before + WORD;
    status = soothe__new_file_open(&f, path, err);
    if (status)
        return status;
    if (fwrite(PAGE, 1, before, f.stream) == before && put_json(f.stream, report_json, size) &&
        fwrite(PAGE + after, 1, sizeof PAGE - after, f.stream) == sizeof PAGE - after)
        status = soothe__new_file_commit(&f, err);
    else
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno ? errno : EIO));
    soothe__new_file_abort(&f);
    return status;
}
