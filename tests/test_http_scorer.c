/* SPDX-License-Identifier: Apache-2.0
 * The scorer behind an address, against an endpoint of our own (tests/moderation_server.py): good answers, and every
 * kind of bad one. What is not judged has a reason and never a number. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "score/scorer.h"
#include "test_support.h"

static int   port, server_stdin = -1;
static pid_t server;

static int start_server(void **state) {
    (void)state;
    int         in[2], out[2];
    char        text[32] = "", script[4096];
    const char *source   = getenv("SOOTHE_SOURCE");
    snprintf(script, sizeof script, "%s/tests/moderation_server.py", source ? source : ".");
    setenv("no_proxy", "127.0.0.1", 1);
    unsetenv("SOOTHE_SCORER_KEY");
    if (pipe(in) || pipe(out))
        return -1;
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    server = fork();
    if (server == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execlp("python3", "python3", script, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server_stdin    = in[1];
    const ssize_t n = read(out[0], text, sizeof text - 1);
    close(out[0]);
    port = n > 0 ? atoi(text) : 0; /* 0: no python3; the tests are skipped */
    return 0;
}

static int stop_server(void **state) {
    (void)state;
    close(server_stdin);
    waitpid(server, NULL, 0);
    return 0;
}

static struct soothe__scorer *open_path(const char *path) {
    struct soothe__scorer *scorer;
    struct soothe_error    err;
    char                   spec[200];
    if (!port)
        skip();
    snprintf(spec, sizeof spec, "http://127.0.0.1:%d/%s%cwait_ms=1", port, path, strchr(path, '#') ? '&' : '#');
    must(soothe__scorer_open(&scorer, spec, NULL, &err), &err);
    return scorer;
}

/* Scores the texts at a path; all must succeed as a call. */
static void score(const char *path, const char *const *texts, size_t n, struct soothe__score *scores) {
    struct soothe_error    err;
    struct soothe__scorer *scorer = open_path(path);
    must(soothe__scorer_score(scorer, texts, n, scores, &err), &err);
    soothe__scorer_close(scorer);
}

static void assert_none(const struct soothe__score *s, const char *word) {
    if (!isnan(s->toxicity) || !strstr(s->why, word))
        fail_msg("%g, \"%s\", does not say \"%s\"", s->toxicity, s->why, word);
}

static const char *const TEXTS[] = {"xxab", "", "\"x\\\n\xE2\x80\xA8 \xF0\x9F\x99\x82", "xxxx", "abc"};
enum { N = sizeof TEXTS / sizeof *TEXTS };

static void test_the_highest_category_is_the_score(void **state) {
    (void)state;
    struct soothe__score s[N];
    score("good", TEXTS, N, s);
    assert_true(s[0].toxicity == .5 && s[1].toxicity == 0 && s[3].toxicity == 1 && s[4].toxicity == 0);
    assert_true(fabs(s[2].toxicity - 1.0 / 7) < 1e-9); /* seven characters arrived, one of them x */
    score("good#categories=other", TEXTS, N, s);
    assert_true(s[0].toxicity == .25 && s[3].toxicity == .5);
    score("good#categories=none_such,rude&batch=2&timeout=5", TEXTS, N, s);
    assert_true(s[0].toxicity == .5 && s[3].toxicity == 1);
    score("good#categories=none_such", TEXTS, 1, s);
    assert_none(s, "no category none_such");
    score("flagged", TEXTS, N, s);
    assert_true(s[0].toxicity == 1 && s[4].toxicity == 0);
    score("good", TEXTS, 0, s);
}

static void test_texts_go_in_batches_and_come_back_in_order(void **state) {
    (void)state;
    static char          room[70][16];
    const char          *texts[70];
    struct soothe__score s[70];
    for (int i = 0; i < 70; i++) {
        snprintf(room[i], sizeof room[i], "%.*s%.*s", i % 5, "xxxx", 4 - i % 5, "aaaa");
        texts[i] = room[i];
    }
    texts[40] = "a\xFF"; /* takes nothing with it */
    score("good#batch=32", texts, 70, s);
    for (int i = 0; i < 70; i++)
        if (i != 40)
            assert_true(s[i].toxicity == i % 5 / 4.0);
    assert_none(&s[40], "UTF-8");
    score("count#batch=32", texts, 70, s);
    assert_true(s[0].toxicity == .01 && s[31].toxicity == .01 && s[32].toxicity == .02 && s[69].toxicity == .03);
}

static void test_wrong_answers_are_no_scores(void **state) {
    (void)state;
    struct soothe__score s[6];
    const char *const    six[] = {"a", "b", "c", "d", "e", "f"};
    score("short", TEXTS, N, s);
    for (int i = 0; i < N; i++)
        assert_none(&s[i], "4 results for 5 texts");
    score("garbage", TEXTS, N, s);
    assert_none(&s[0], "no list of results");
    score("empty", TEXTS, N, s);
    assert_none(&s[4], "no list of results");
    score("odd", six, 6, s);
    assert_none(&s[0], "score for rude is not between 0 and 1");
    assert_none(&s[1], "score for rude is not between 0 and 1");
    for (int i = 2; i < 5; i++)
        assert_none(&s[i], "no score for this text");
    assert_true(s[5].toxicity == .25); /* null: not judged in that category */
    score("refuses#model=m1", TEXTS, N, s);
    assert_none(&s[0], "400: unknown model m1");
}

static void test_what_passes_is_tried_again_and_what_stays_has_a_reason(void **state) {
    (void)state;
    struct soothe__score s[N];
    score("flaky", TEXTS, N, s);
    assert_true(s[0].toxicity == .5);
    score("down#batch=2", TEXTS, N, s);
    for (int i = 0; i < N; i++)
        assert_none(&s[i], "answered 500");
    score("later#batch=2", TEXTS, N, s); /* what was judged stays judged */
    assert_true(s[0].toxicity == .5);
    assert_none(&s[2], "answered 500");
}

static void test_a_slow_endpoint_has_its_time(void **state) {
    (void)state;
    struct soothe__score s[1];
    score("slow#timeout=1&tries=1", TEXTS, 1, s);
    assert_none(s, "no answer from the endpoint");
}

static void test_an_endpoint_that_can_judge_nothing_is_an_error(void **state) {
    (void)state;
    struct soothe_error    err;
    struct soothe__score   s[N];
    struct soothe__scorer *scorer = open_path("key");
    assert_int_equal(soothe__scorer_score(scorer, TEXTS, N, s, &err), SOOTHE_E_NETWORK);
    assert_non_null(strstr(err.message, "401: no such key"));
    soothe__scorer_close(scorer);
    must(soothe__scorer_open(&scorer, "http://127.0.0.1:1/v1/moderations#tries=2&wait_ms=1", NULL, &err), &err);
    assert_int_equal(soothe__scorer_score(scorer, TEXTS, N, s, &err), SOOTHE_E_NETWORK);
    assert_non_null(strstr(err.message, "127.0.0.1:1"));
    soothe__scorer_close(scorer);
}

static void test_the_key_goes_to_the_endpoint_and_nowhere_else(void **state) {
    (void)state;
    struct soothe_error    err;
    struct soothe__score   s[N];
    struct soothe__scorer *scorer;
    setenv("SOOTHE_SCORER_KEY", "secret", 1);
    score("key", TEXTS, N, s);
    assert_true(s[0].toxicity == .5);
    setenv("SOOTHE_SCORER_KEY", "wrong-one", 1);
    scorer = open_path("key");
    assert_int_equal(soothe__scorer_score(scorer, TEXTS, N, s, &err), SOOTHE_E_NETWORK);
    assert_null(strstr(err.message, "wrong-one"));
    soothe__scorer_close(scorer);
    setenv("SOOTHE_SCORER_KEY", "two\nlines", 1);
    assert_int_equal(soothe__scorer_open(&scorer, "http://127.0.0.1:1/", NULL, &err), SOOTHE_E_ARGUMENT);
    assert_null(strstr(err.message, "two"));
    unsetenv("SOOTHE_SCORER_KEY");
    static const char *const WITH_KEY[] = {"https://me:word@127.0.0.1/x", "https://h/v1?api_key=word",
                                           "https://h?word#batch=2"};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(soothe__scorer_open(&scorer, WITH_KEY[i], NULL, &err), SOOTHE_E_ARGUMENT);
        assert_non_null(strstr(err.message, "SOOTHE_SCORER_KEY"));
        assert_null(strstr(err.message, "word"));
    }
}

static void test_a_key_goes_encrypted_or_stays_on_this_machine(void **state) {
    (void)state;
    static const char *const FAR[]  = {"http://example.org/", "http://127.0.0.1.example.org/", "HTTP://10.0.0.1/",
                                       "http://localhost.example.org/#batch=2", "http://[::2]/"};
    static const char *const NEAR[] = {"http://127.0.0.1:1/", "http://127.9.9.9/", "http://LocalHost/",
                                       "http://[::1]:1/", "https://example.org/"};
    struct soothe_error      err;
    struct soothe__scorer   *scorer;
    setenv("SOOTHE_SCORER_KEY", "secret", 1);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(soothe__scorer_open(&scorer, FAR[i], NULL, &err), SOOTHE_E_ARGUMENT);
        assert_non_null(strstr(err.message, "unencrypted"));
        assert_null(strstr(err.message, "secret"));
        must(soothe__scorer_open(&scorer, NEAR[i], NULL, &err), &err);
        soothe__scorer_close(scorer);
    }
    must(soothe__scorer_open(&scorer, "http://example.org/#key=", NULL, &err), &err); /* none is sent */
    soothe__scorer_close(scorer);
    unsetenv("SOOTHE_SCORER_KEY");
}

static void test_each_endpoint_has_its_own_key(void **state) {
    (void)state;
    struct soothe_error    err;
    struct soothe__score   s[N];
    struct soothe__scorer *scorer;
    setenv("SOOTHE_SCORER_KEY", "wrong-one", 1);
    setenv("SOOTHE_TEST_OTHER_KEY", "secret", 1);
    score("key#key=SOOTHE_TEST_OTHER_KEY", TEXTS, N, s);
    assert_true(s[0].toxicity == .5);
    setenv("SOOTHE_TEST_OTHER_KEY", "other-one", 1);
    scorer = open_path("key#key=SOOTHE_TEST_OTHER_KEY");
    assert_int_equal(soothe__scorer_score(scorer, TEXTS, N, s, &err), SOOTHE_E_NETWORK);
    assert_null(strstr(err.message, "other-one"));
    soothe__scorer_close(scorer);
    unsetenv("SOOTHE_TEST_OTHER_KEY");
    assert_int_equal(soothe__scorer_open(&scorer, "https://h/#key=SOOTHE_TEST_OTHER_KEY", NULL, &err),
                     SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "SOOTHE_TEST_OTHER_KEY"));
    unsetenv("SOOTHE_SCORER_KEY");
}

static void test_options_are_checked_and_change_the_identity(void **state) {
    (void)state;
    static const char *const bad[] = {"http://h/#batch=0",    "http://h/#batch=x", "http://h/#timeout=-1",
                                      "http://h/#speed=1",    "http://h/#model",   "http://h/#batch=1&batch=9999",
                                      "http://h/#categories="};
    struct soothe__scorer   *a, *b;
    struct soothe_error      err;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(soothe__scorer_open(&a, bad[i], NULL, &err), SOOTHE_E_ARGUMENT);
        assert_null(a);
    }
    must(soothe__scorer_open(&a, "http://h/#categories=x", NULL, &err), &err);
    must(soothe__scorer_open(&b, "http://h/#batch=4", NULL, &err), &err);
    assert_string_equal(soothe__scorer_kind(a), "http");
    assert_string_not_equal(soothe__scorer_identity(a), soothe__scorer_identity(b));
    soothe__scorer_close(a);
    soothe__scorer_close(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_highest_category_is_the_score),
        cmocka_unit_test(test_texts_go_in_batches_and_come_back_in_order),
        cmocka_unit_test(test_wrong_answers_are_no_scores),
        cmocka_unit_test(test_what_passes_is_tried_again_and_what_stays_has_a_reason),
        cmocka_unit_test(test_a_slow_endpoint_has_its_time),
        cmocka_unit_test(test_an_endpoint_that_can_judge_nothing_is_an_error),
        cmocka_unit_test(test_the_key_goes_to_the_endpoint_and_nowhere_else),
        cmocka_unit_test(test_a_key_goes_encrypted_or_stays_on_this_machine),
        cmocka_unit_test(test_each_endpoint_has_its_own_key),
        cmocka_unit_test(test_options_are_checked_and_change_the_identity),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
