/* SPDX-License-Identifier: Apache-2.0
 * The report's page: what is put into it comes out again, and hostile texts stay texts. How the page looks is judged
 * by eye (scripts/screenshot_report.sh). */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/base.h"
#include "eval/report_html.h"
#include "test_support.h"

#define PAGE "report_html_page.html"
#define START "id=\"report\">"
#define END "</script>"

static int tear_down(void **state) {
    (void)state;
    unlink(PAGE);
    return 0;
}

/* The data element's text as a browser takes it: up to the first end tag. */
static json_t *data_in(const char *page) {
    const char *data = strstr(page, START);
    assert_non_null(data);
    data += strlen(START);
    const char *end = strstr(data, END);
    assert_non_null(end);
    for (const char *p = data; p < end; p++) {
        assert_null(strchr("<>&", *p));
        assert_true(strncmp(p, "\xE2\x80\xA8", 3) != 0 && strncmp(p, "\xE2\x80\xA9", 3) != 0);
    }
    return json_loadb(data, (size_t)(end - data), 0, NULL);
}

static void must_write(const char *report) {
    struct soothe_error err;
    must(soothe__report_write_html(PAGE, report, strlen(report), &err), &err);
}

static void must_refuse(const char *report, size_t size, enum soothe_status wanted, const char *word) {
    struct soothe_error err;
    unlink(PAGE);
    assert_int_equal(soothe__report_write_html(PAGE, report, size, &err), wanted);
    if (!strstr(err.message, word))
        fail_msg("\"%s\" does not say \"%s\"", err.message, word);
    assert_false(soothe__file_exists(PAGE));
}

static char *read_page(void) {
    struct soothe_error err;
    char               *page;
    must(soothe__read_file(&page, NULL, PAGE, &err), &err);
    return page;
}

static void test_the_page_holds_the_report(void **state) {
    (void)state;
    struct soothe_error err;
    char               *report, *page, path[1024];
    size_t              size;
    snprintf(path, sizeof path, "%s/sample_report.json", getenv("SOOTHE_DATA"));
    must(soothe__read_file(&report, &size, path, &err), &err);
    must(soothe__report_write_html(PAGE, report, size, &err), &err);
    page           = read_page();
    json_t *wanted = json_loadb(report, size, 0, NULL), *got = data_in(page);
    assert_non_null(wanted);
    assert_true(json_equal(wanted, got));
    json_decref(wanted);
    json_decref(got);
    free(report);
    free(page);
}

static void test_the_page_asks_nothing_of_the_network(void **state) {
    (void)state;
    must_write("{\"schema\":1,\"methods\":[{\"name\":\"plain\"}]}");
    char *page = read_page();
    assert_non_null(strstr(page, "default-src 'none'"));
    for (const char *p = page; (p = strstr(p, "http")); p++) /* namespaces alone, which nobody fetches */
        assert_true(strncmp(p, "http://www.w3.org/2000/svg", 26) == 0 || strncmp(p, "http-equiv", 10) == 0);
    assert_null(strstr(page, "src=\""));
    assert_null(strstr(page, "@import"));
    assert_null(strstr(page, "innerHTML")); /* texts are set as texts */
    assert_non_null(strstr(page, "</html>"));
    free(page);
}

static void test_hostile_texts_stay_texts(void **state) {
    (void)state;
    static const char *const texts[] = {"</script><script>alert(1)</script>",
                                        "<!-- <script>",
                                        "]]> & &lt; \"quotes\" 'single' `${1}` \\ \\u003c",
                                        "right to left \xE2\x80\xAE override, \xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D",
                                        "line\xE2\x80\xA8separators\xE2\x80\xA9here",
                                        "\xE2\x80\xA7 and \xE2\x80\xAA are none",
                                        "a tab\t, a line\n, a bell\a",
                                        "REPORT id=\"report\">REPORT<",
                                        "\xF0\x9F\x99\x82 beyond the BMP"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        json_t *wanted = json_pack("{s:i, s:[{s:s, s:[{s:s, s:s}]}]}", "schema", 1, "methods", "name", texts[i],
                                   "worst", "prompt", texts[i], "text", texts[i]);
        char   *report = json_dumps(wanted, 0), *page;
        must_write(report);
        page        = read_page();
        json_t *got = data_in(page);
        assert_true(json_equal(wanted, got));
        json_decref(got);
        json_decref(wanted);
        free(report);
        free(page);
    }
}

static void test_what_is_no_report_is_refused(void **state) {
    (void)state;
    static const struct {
        const char        *report;
        enum soothe_status status;
        const char        *word;
    } bad[] = {
        {"", SOOTHE_E_FORMAT, "not JSON"},
        {"{\"schema\":1,\"methods\":[{\"name\":\"plain\"}]", SOOTHE_E_FORMAT, "not JSON"},
        {"{\"schema\":1,\"methods\":[{\"name\":\"plain\"}]} x", SOOTHE_E_FORMAT, "not JSON"},
        {"{\"schema\":1,\"methods\":[{\"name\":\"a\xFF\"}]}", SOOTHE_E_FORMAT, "decode"},
        {"{\"schema\":1,\"methods\":[{\"name\":\"\xED\xA0\x80\"}]}", SOOTHE_E_FORMAT, "decode"},
        {"{\"schema\":1,\"schema\":1,\"methods\":[{\"name\":\"a\"}]}", SOOTHE_E_FORMAT, "duplicate"},
        {"{\"schema\":1,\"x\":NaN,\"methods\":[{\"name\":\"a\"}]}", SOOTHE_E_FORMAT, "not JSON"},
        {"[1]", SOOTHE_E_FORMAT, "schema"},
        {"{\"methods\":[{\"name\":\"a\"}]}", SOOTHE_E_FORMAT, "schema"},
        {"{\"schema\":2,\"methods\":[{\"name\":\"a\"}]}", SOOTHE_E_UNSUPPORTED, "schema 2"},
        {"{\"schema\":1}", SOOTHE_E_FORMAT, "methods"},
        {"{\"schema\":1,\"methods\":[]}", SOOTHE_E_FORMAT, "methods"},
        {"{\"schema\":1,\"methods\":[{\"name\":\"a\"},7]}", SOOTHE_E_FORMAT, "method 2"},
        {"{\"schema\":1,\"methods\":[{\"name\":3}]}", SOOTHE_E_FORMAT, "method 1"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        must_refuse(bad[i].report, strlen(bad[i].report), bad[i].status, bad[i].word);
    char deep[6000]; /* deeper than any report: refused, no stack overflow */
    memset(deep, '[', sizeof deep);
    must_refuse(deep, sizeof deep, SOOTHE_E_FORMAT, "not JSON");
}

static void test_a_page_that_cannot_be_written_is_an_error(void **state) {
    (void)state;
    static const char   report[] = "{\"schema\":1,\"methods\":[{\"name\":\"plain\"}]}";
    struct soothe_error err;
    assert_int_equal(soothe__report_write_html("no_such_folder/x.html", report, strlen(report), &err), SOOTHE_E_IO);
    assert_non_null(strstr(err.message, "no_such_folder/x.html"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_page_holds_the_report),
        cmocka_unit_test(test_the_page_asks_nothing_of_the_network),
        cmocka_unit_test(test_hostile_texts_stay_texts),
        cmocka_unit_test(test_what_is_no_report_is_refused),
        cmocka_unit_test(test_a_page_that_cannot_be_written_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, tear_down);
}
