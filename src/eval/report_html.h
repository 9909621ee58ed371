/* SPDX-License-Identifier: Apache-2.0
 * An evaluation's report as one page that needs nothing else: web/report.html with report.json inside. */
#ifndef SOOTHE_REPORT_HTML_H
#define SOOTHE_REPORT_HTML_H

#include "base/base.h"

/* Writes the page, beside and renamed.
 * report_json  (size) the bytes of report.json, schema 1: an object with a non-empty list "methods" of objects with a
 *              "name"; every other part may be missing. Its text may hold anything: <, >, &, U+2028 and U+2029 are
 *              written as JSON escapes, so that no text of a model can end the script element or begin a comment
 * errors       SOOTHE_E_FORMAT no JSON, invalid UTF-8, not a report; SOOTHE_E_UNSUPPORTED another schema; SOOTHE_E_IO
 */
enum soothe_status soothe__report_write_html(const char *path, const char *report_json, size_t size,
                                             struct soothe_error *err);

#endif /* SOOTHE_REPORT_HTML_H */
