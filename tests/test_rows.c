/* SPDX-License-Identifier: Apache-2.0
 * Rows of JSON lines, CSV and TSV. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "test_support.h"
#include "corpus/rows.h"

static const char *written(const char *name, const char *bytes, size_t size) {
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    return name;
}

static struct soothe__rows *opened(const char *path, bool skip_bad) {
    struct soothe__rows *rows;
    struct soothe_error  err;
    must(soothe__rows_open(&rows, path, skip_bad, &err), &err);
    return rows;
}

static bool next(struct soothe__rows *rows) {
    struct soothe_error err;
    bool                more;
    must(soothe__rows_next(rows, &more, &err), &err);
    return more;
}

static void test_csv_fields_may_hold_commas_quotes_spaces_and_line_ends(void **state) {
    (void)state;
    static const char    text[] = "\xEF\xBB\xBFid,text,\r\n1,\" a, \"\"b\"\"\nc \",x\r\n\r\n2, d ,\n3,e,f";
    struct soothe__rows *rows   = opened(written("rows_1.csv", text, sizeof text - 1), false);
    assert_true(next(rows));
    assert_string_equal(soothe__rows_field(rows, "id"), "1");
    assert_string_equal(soothe__rows_field(rows, "text"), " a, \"b\"\nc ");
    assert_string_equal(soothe__rows_field(rows, ""), "x");
    assert_null(soothe__rows_field(rows, "label"));
    assert_int_equal(soothe__rows_line(rows), 2);
    assert_true(next(rows));
    assert_string_equal(soothe__rows_field(rows, "text"), " d ");
    assert_int_equal(soothe__rows_line(rows), 5);
    assert_true(next(rows));
    assert_string_equal(soothe__rows_field(rows, ""), "f");
    assert_false(next(rows));
    struct soothe__row_counts counts;
    soothe__rows_close(rows, NULL, &counts);
    assert_int_equal(counts.n_good, 3);
}

static void test_tsv_has_no_quotes(void **state) {
    (void)state;
    static const char    text[] = "a\tb\n\"x\ty\"\n";
    struct soothe__rows *rows   = opened(written("rows_2.tsv", text, sizeof text - 1), false);
    assert_true(next(rows));
    assert_string_equal(soothe__rows_field(rows, "a"), "\"x");
    assert_string_equal(soothe__rows_field(rows, "b"), "y\"");
    soothe__rows_close(rows, NULL, NULL);
}

static void test_json_paths_numbers_and_nulls(void **state) {
    (void)state;
    static const char text[] =
        "{\"prompt\": {\"text\": \"hi\", \"toxicity\": 0.25, \"threat\": null}, \"a.b\": true}\n\n{\"prompt\": \"x\"}";
    struct soothe__rows *rows = opened(written("rows_3", text, sizeof text - 1), false);
    struct soothe_error  err;
    double               value;
    assert_true(next(rows));
    assert_string_equal(soothe__rows_field(rows, "prompt.text"), "hi");
    must(soothe__rows_number(rows, "prompt.toxicity", 0, 1, &value, &err), &err);
    assert_true(value == 0.25);
    assert_null(soothe__rows_field(rows, "prompt.threat"));
    assert_string_equal(soothe__rows_field(rows, "a.b"), "1");
    assert_int_equal(soothe__rows_number(rows, "prompt.text", 0, 1, &value, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 1 of rows_3"));
    assert_string_equal(soothe__rows_names(rows)[1], "a.b");
    assert_true(next(rows));
    size_t            i;
    const char *const names[] = {"prompt.text", "prompt", NULL};
    assert_string_equal(soothe__rows_any_field(rows, names, &i), "x");
    assert_int_equal(i, 1);
    assert_int_equal(soothe__rows_line(rows), 3);
    assert_false(next(rows));
    soothe__rows_close(rows, NULL, NULL);
}

static void test_a_bad_row_is_named_by_line_or_counted(void **state) {
    (void)state;
    static const char text[] = "{\"a\": 1}\nno json\n{\"a\": \"\xFF\"}\n[1]\n{\"a\": \"z\\u0000\"}\n{\"a\": 2}\n";
    written("rows_4.jsonl", text, sizeof text - 1);
    struct soothe__rows *rows = opened("rows_4.jsonl", false);
    struct soothe_error  err;
    bool                 more;
    assert_true(next(rows));
    assert_int_equal(soothe__rows_next(rows, &more, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 2 of rows_4.jsonl"));
    soothe__rows_close(rows, NULL, NULL);

    rows = opened("rows_4.jsonl", true);
    while (next(rows))
        if (!strcmp(soothe__rows_field(rows, "a"), "2"))
            must(soothe__rows_reject(rows, &err, "two is %s", "too much"), &err);
    struct soothe__row_counts counts;
    soothe__rows_close(rows, NULL, &counts);
    assert_int_equal(counts.n_good, 1);
    assert_int_equal(counts.n_bad, 5);
    assert_non_null(strstr(counts.first_bad, "line 2: "));
}

static void test_bad_csv_is_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {{"", "empty"},
                 {"a,a\n1,2\n", "\"a\" twice"},
                 {"a,b\n1\n", "line 2 of rows_5.csv: 1 fields where the first row names 2 columns"},
                 {"a,b\n1,\"2\n3,4\n", "line 2 of rows_5.csv: a quote is opened and never closed"},
                 {"a,b\n1,\xC3\n", "invalid UTF-8"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct soothe__rows *rows;
        struct soothe_error  err = {.message = ""};
        bool                 more;
        written("rows_5.csv", cases[i].text, strlen(cases[i].text));
        enum soothe_status status = soothe__rows_open(&rows, "rows_5.csv", false, &err);
        if (!status)
            status = soothe__rows_next(rows, &more, &err);
        assert_int_equal(status, SOOTHE_E_FORMAT);
        if (!strstr(err.message, cases[i].says))
            fail_msg("\"%s\" does not say \"%s\"", err.message, cases[i].says);
        soothe__rows_close(rows, NULL, NULL);
    }
}

/* The rest of the file is one row, and has to end somewhere, also where a bad row would be left out. */
static void test_an_open_quote_does_not_swallow_the_file(void **state) {
    (void)state;
    FILE *f = fopen("rows_6.csv", "wb");
    assert_non_null(f);
    fputs("a,b\n1,\"2\n\xC3\n", f);
    for (int i = 0; i < 1 << 20; i++)
        fputs("1,23456\n", f);
    assert_int_equal(fclose(f), 0);
    struct soothe__rows *rows = opened("rows_6.csv", true);
    struct soothe_error  err;
    bool                 more;
    assert_int_equal(soothe__rows_next(rows, &more, &err), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "line 2 of rows_6.csv: a row of more than 4 MiB"));
    soothe__rows_close(rows, NULL, NULL);
    remove("rows_6.csv");
}

static void test_columns_are_limited_and_compared_in_time(void **state) {
    static const int N_COLUMNS[] = {65536, 65537, 700000};
    (void)state;
    for (size_t k = 0; k < sizeof N_COLUMNS / sizeof *N_COLUMNS; k++) {
        struct soothe__rows *rows;
        struct soothe_error  err = {.message = ""};
        FILE                *f   = fopen("rows_7.csv", "wb");
        assert_non_null(f);
        for (int i = 0; i < N_COLUMNS[k]; i++)
            fprintf(f, "%s%x", i ? "," : "", (unsigned)i % (k == 0 ? UINT32_MAX : 65536));
        assert_int_equal(fclose(f), 0);
        const enum soothe_status status = soothe__rows_open(&rows, "rows_7.csv", false, &err);
        if (k == 0)
            must(status, &err);
        else if (status != SOOTHE_E_FORMAT || !strstr(err.message, "65536 are read at most"))
            fail_msg("%d columns: %d \"%s\"", N_COLUMNS[k], (int)status, err.message);
        soothe__rows_close(rows, NULL, NULL);
    }
    remove("rows_7.csv");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_csv_fields_may_hold_commas_quotes_spaces_and_line_ends),
        cmocka_unit_test(test_tsv_has_no_quotes),
        cmocka_unit_test(test_json_paths_numbers_and_nulls),
        cmocka_unit_test(test_a_bad_row_is_named_by_line_or_counted),
        cmocka_unit_test(test_bad_csv_is_refused),
        cmocka_unit_test(test_an_open_quote_does_not_swallow_the_file),
        cmocka_unit_test(test_columns_are_limited_and_compared_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
