/* SPDX-License-Identifier: Apache-2.0
 * The report as one self-contained page. */
#ifndef SOOTHE_REPORT_HTML_H
#define SOOTHE_REPORT_HTML_H

#include "base/base.h"

/* Writes a page that shows the report.json given as text.  errors  SOOTHE_E_FORMAT, SOOTHE_E_IO, SOOTHE_E_MEMORY */
enum soothe_status soothe__report_write_html(const char *path, const char *report_json_text, size_t size,
                                             struct soothe_error *err);

#endif /* SOOTHE_REPORT_HTML_H */
