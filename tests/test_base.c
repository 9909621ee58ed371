/* SPDX-License-Identifier: Apache-2.0
 * The base layer: errors, memory, random numbers, files, hashes, text. */
#define _XOPEN_SOURCE 700
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

static char folder[] = "/tmp/soothe-test-XXXXXX";

static char *in_folder(const char *name) {
    char *path = soothe__format("%s/%s", folder, name);
    assert_non_null(path);
    return path;
}

static int n_files_in_folder(void) {
    int  n   = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(dir);
    return n;
}

static void write_text(const char *path, const char *text) {
    struct soothe__new_file f;
    assert_int_equal(soothe__new_file_open(&f, path, NULL), SOOTHE_OK);
    assert_true(fputs(text, f.stream) >= 0);
    assert_int_equal(soothe__new_file_commit(&f, NULL), SOOTHE_OK);
}

static void assert_file_holds(const char *path, const char *text) {
    char  *data;
    size_t size;
    assert_int_equal(soothe__read_file(&data, &size, path, NULL), SOOTHE_OK);
    assert_int_equal(size, strlen(text));
    assert_string_equal(data, text);
    free(data);
}

static int make_folder(void **state) {
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state) {
    (void)state;
    DIR *dir = opendir(folder);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        char *path = in_folder(e->d_name);
        if (strcmp(e->d_name, ".") && strcmp(e->d_name, ".."))
            remove(path);
        free(path);
    }
    if (dir)
        closedir(dir);
    return rmdir(folder);
}

/* ---- errors ---- */

static void test_every_status_has_its_own_name(void **state) {
    (void)state;
    for (int a = SOOTHE_OK; a <= SOOTHE_E_NUMERIC; a++)
        for (int b = SOOTHE_OK; b < a; b++)
            assert_string_not_equal(soothe_status_name((enum soothe_status)a),
                                    soothe_status_name((enum soothe_status)b));
    assert_string_equal(soothe_status_name(SOOTHE_E_SHAPE), "SOOTHE_E_SHAPE");
    assert_non_null(soothe_status_name((enum soothe_status)999));
}

static void test_a_failure_may_wrap_its_own_message_and_is_cut_to_fit(void **state) {
    (void)state;
    struct soothe_error err;
    assert_int_equal(soothe__fail(&err, SOOTHE_E_IO, "row %d", 7), SOOTHE_E_IO);
    assert_int_equal(soothe__fail(&err, SOOTHE_E_FORMAT, "file: %s", err.message), SOOTHE_E_FORMAT);
    assert_string_equal(err.message, "file: row 7");
    assert_int_equal(err.status, SOOTHE_E_FORMAT);
    assert_int_equal(soothe__fail(NULL, SOOTHE_E_MEMORY, "no one listens"), SOOTHE_E_MEMORY);
    soothe__fail(&err, SOOTHE_E_IO, "%02000d", 1);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

/* ---- memory ---- */

static void test_a_product_that_overflows_is_refused(void **state) {
    (void)state;
    volatile size_t huge = SIZE_MAX / 2; /* volatile: the compiler would warn of it, rightly */
    assert_null(soothe__calloc(huge, 3));
    char *old = soothe__strdup("kept");
    assert_null(soothe__realloc(old, huge, 3));
    assert_string_equal(old, "kept");
    free(old);
}

static void test_an_empty_request_still_gives_a_block(void **state) {
    (void)state;
    char *a = soothe__calloc(0, 8);
    assert_non_null(a);
    a = soothe__realloc(a, 0, 8);
    assert_non_null(a);
    free(a);
}

static void test_formatted_text_may_be_long(void **state) {
    (void)state;
    char *s = soothe__format("%05000d|%s", 0, "end");
    assert_int_equal(strlen(s), 5004);
    assert_string_equal(s + 5000, "|end");
    free(s);
}

/* ---- random numbers ---- */

static void test_random_numbers_are_those_of_the_published_generator(void **state) {
    (void)state;
    /* Round 1 of the demonstration program of the PCG C library (pcg32-demo, seed 42, stream 54). */
    static const uint32_t expected[] = {0xa15c02b7, 0x7b47f409, 0xba1d3330, 0x83d2f293, 0xbfa4784b, 0xcbed606e};
    struct soothe__rng    rng        = soothe__rng_seed(42, 54);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        assert_int_equal(soothe__rng_u32(&rng), expected[i]);
}

static void test_numbers_below_n_are_below_n_and_even(void **state) {
    (void)state;
    struct soothe__rng rng      = soothe__rng_seed(1, 1);
    int                count[6] = {0};
    for (int i = 0; i < 60000; i++) {
        const uint32_t x = soothe__rng_below(&rng, 6);
        assert_true(x < 6);
        count[x]++;
    }
    for (int i = 0; i < 6; i++)
        assert_in_range(count[i], 9500, 10500); /* 10000, standard deviation 91 */
    assert_int_equal(soothe__rng_below(&rng, 0), 0);
    assert_int_equal(soothe__rng_below(&rng, 1), 0);
}

static void test_normal_numbers_have_mean_0_and_variance_1(void **state) {
    (void)state;
    struct soothe__rng rng = soothe__rng_seed(2026, 3);
    double             sum = 0, squares = 0, uniform = 0;
    const int          n = 100000;
    for (int i = 0; i < n; i++) {
        const double x = soothe__rng_normal(&rng);
        const double u = soothe__rng_uniform(&rng);
        assert_true(isfinite(x) && u >= 0.0 && u < 1.0);
        sum += x;
        squares += x * x;
        uniform += u;
    }
    assert_true(fabs(sum / n) < 0.015);           /* five standard deviations of the mean */
    assert_true(fabs(squares / n - 1.0) < 0.025); /* likewise: sqrt(2/n) each             */
    assert_true(fabs(uniform / n - 0.5) < 0.005);
}

/* ---- files ---- */

static void test_a_new_file_is_not_visible_before_its_commit(void **state) {
    (void)state;
    char                   *path = in_folder("new");
    struct soothe__new_file f;
    assert_int_equal(soothe__new_file_open(&f, path, NULL), SOOTHE_OK);
    fputs("text", f.stream);
    fflush(f.stream);
    assert_false(soothe__file_exists(path));
    assert_int_equal(soothe__new_file_commit(&f, NULL), SOOTHE_OK);
    assert_file_holds(path, "text");
    soothe__new_file_abort(&f); /* safe after a commit: the file stays */
    assert_file_holds(path, "text");
    assert_int_equal(n_files_in_folder(), 1);
    remove(path);
    free(path);
}

static void test_an_aborted_file_leaves_the_old_one_and_nothing_else(void **state) {
    (void)state;
    char                   *path = in_folder("old");
    struct soothe__new_file f, zero = {0};
    write_text(path, "old");
    assert_int_equal(soothe__new_file_open(&f, path, NULL), SOOTHE_OK);
    fputs("half of the new o", f.stream);
    soothe__new_file_abort(&f);
    soothe__new_file_abort(&f);
    soothe__new_file_abort(&zero);
    assert_file_holds(path, "old");
    assert_int_equal(n_files_in_folder(), 1);
    remove(path);
    free(path);
}

static void test_a_full_device_gives_a_sentence_and_stays_a_device(void **state) {
    (void)state;
    struct stat st;
    if (stat("/dev/full", &st) != 0)
        skip();
    struct soothe__new_file f;
    struct soothe_error     err;
    assert_int_equal(soothe__new_file_open(&f, "/dev/full", &err), SOOTHE_OK);
    fputs("text", f.stream);
    assert_int_equal(soothe__new_file_commit(&f, &err), SOOTHE_E_IO);
    assert_string_equal(err.message, "cannot write /dev/full: No space left on device");
    assert_int_equal(stat("/dev/full", &st), 0);
    assert_true(S_ISCHR(st.st_mode));
}

static void test_a_write_cut_short_leaves_the_old_file_and_nothing_else(void **state) {
    (void)state;
    char *path = in_folder("limited");
    write_text(path, "old");

    /* A limit on the size of files makes write() fail half way, as a full disk does. */
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*handler)(int)          = signal(SIGXFSZ, SIG_IGN);
    const struct rlimit     limit = {.rlim_cur = 10000, .rlim_max = before.rlim_max};
    struct soothe__new_file f;
    struct soothe_error     err;
    assert_int_equal(soothe__new_file_open(&f, path, &err), SOOTHE_OK);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < 10000; i++)
        fputs("0123456789", f.stream);
    const enum soothe_status status = soothe__new_file_commit(&f, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);

    assert_int_equal(status, SOOTHE_E_IO);
    assert_non_null(strstr(err.message, path));
    assert_file_holds(path, "old");
    assert_int_equal(n_files_in_folder(), 1);
    remove(path);
    free(path);
}

static void test_a_rename_that_fails_removes_the_new_file(void **state) {
    (void)state;
    char                   *path = in_folder("taken");
    struct soothe__new_file f;
    struct soothe_error     err;
    assert_int_equal(soothe__new_file_open(&f, path, &err), SOOTHE_OK);
    assert_int_equal(mkdir(path, 0700), 0); /* a file cannot be renamed over a folder */
    assert_int_equal(soothe__new_file_commit(&f, &err), SOOTHE_E_IO);
    assert_non_null(strstr(err.message, "taken"));
    assert_int_equal(n_files_in_folder(), 1);
    rmdir(path);
    free(path);
}

static void test_a_link_is_followed_and_stays_a_link(void **state) {
    (void)state;
    char       *path = in_folder("file"), *link_path = in_folder("link");
    struct stat st;
    write_text(path, "old");
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(symlink(path, link_path), 0);
    write_text(link_path, "new");
    assert_int_equal(lstat(link_path, &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_file_holds(path, "new");
    remove(link_path);
    remove(path);
    free(path);
    free(link_path);
}

static void test_a_file_with_the_longest_possible_name_can_be_written(void **state) {
    (void)state;
    char name[256];
    memset(name, 'n', 255);
    name[255]  = '\0';
    char *path = in_folder(name);
    write_text(path, "text");
    assert_file_holds(path, "text");
    remove(path);
    free(path);
}

static void test_a_file_with_zeros_is_read_whole(void **state) {
    (void)state;
    char                   *path = in_folder("zeros");
    struct soothe__new_file f;
    char                   *data;
    size_t                  size;
    static const char       zeros[70000];
    assert_int_equal(soothe__new_file_open(&f, path, NULL), SOOTHE_OK);
    fwrite(zeros, 1, sizeof zeros, f.stream);
    assert_int_equal(soothe__new_file_commit(&f, NULL), SOOTHE_OK);
    assert_int_equal(soothe__read_file(&data, &size, path, NULL), SOOTHE_OK);
    assert_int_equal(size, sizeof zeros);
    assert_memory_equal(data, zeros, sizeof zeros);
    free(data);
    remove(path);
    free(path);
}

static void test_a_file_that_does_not_tell_its_size_is_read_whole(void **state) {
    (void)state;
    char  *data;
    size_t size;
    if (!soothe__file_exists("/proc/self/status"))
        skip();
    assert_int_equal(soothe__read_file(&data, &size, "/proc/self/status", NULL), SOOTHE_OK);
    assert_true(size > 100 && strlen(data) == size);
    free(data);
}

static void test_a_missing_file_and_a_folder_are_not_read(void **state) {
    (void)state;
    struct soothe_error err;
    char               *data = folder, *path = in_folder("missing");
    size_t              size;
    assert_int_equal(soothe__read_file(&data, &size, path, &err), SOOTHE_E_IO);
    assert_null(data);
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(soothe__read_file(&data, &size, folder, &err), SOOTHE_E_IO);
    assert_null(data);
    assert_non_null(strstr(err.message, "Is a directory"));
    free(path);
}

static void test_folders_are_made_on_the_way_and_a_file_in_the_way_is_named(void **state) {
    (void)state;
    struct soothe_error err;
    char               *path = in_folder("a//b/"), *a = in_folder("a"), *b = in_folder("a/b");
    char               *file = in_folder("f"), *below = in_folder("f/g");
    assert_int_equal(soothe__make_folders(path, &err), SOOTHE_OK);
    assert_int_equal(soothe__make_folders(path, &err), SOOTHE_OK);
    assert_int_equal(rmdir(b), 0);
    assert_int_equal(rmdir(a), 0);
    write_text(file, "");
    assert_int_equal(soothe__make_folders(below, &err), SOOTHE_E_IO);
    assert_non_null(strstr(err.message, "Not a directory"));
    remove(file);
    free(path);
    free(a);
    free(b);
    free(file);
    free(below);
}

/* ---- hashes ---- */

static void test_sha256_gives_the_figures_of_the_standard(void **state) {
    (void)state;
    /* FIPS 180-4 examples: "abc", the 448-bit message; and the empty message. */
    static const struct {
        const char *text, *hex;
    } cases[] = {
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char                   hex[65];
        struct soothe__sha256 *h = soothe__sha256_new();
        assert_non_null(h);
        for (const char *p = cases[i].text; *p; p++)
            soothe__sha256_add(h, p, 1);
        soothe__sha256_finish(h, hex);
        assert_string_equal(hex, cases[i].hex);

        char *path = in_folder("hashed");
        write_text(path, cases[i].text);
        assert_int_equal(soothe__sha256_file(hex, path, NULL), SOOTHE_OK);
        assert_string_equal(hex, cases[i].hex);
        remove(path);
        free(path);
    }
    soothe__sha256_finish(soothe__sha256_new(), NULL);
}

static void test_the_hash_of_a_missing_file_is_no_hash(void **state) {
    (void)state;
    char                hex[65] = "left from before";
    struct soothe_error err;
    assert_int_equal(soothe__sha256_file(hex, "/nonexistent/file", &err), SOOTHE_E_IO);
    assert_string_equal(hex, "");
}

/* ---- text ---- */

static void test_well_formed_utf8_is_accepted(void **state) {
    (void)state;
    static const char *texts[] = {"",
                                  "plain",
                                  "\xC2\x80",
                                  "\xDF\xBF",
                                  "\xE0\xA0\x80",
                                  "\xED\x9F\xBF",
                                  "\xEE\x80\x80",
                                  "\xEF\xBF\xBF",
                                  "\xF0\x90\x80\x80",
                                  "\xF4\x8F\xBF\xBF",
                                  "gr\xC3\xBC\xC3\x9F"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_true(soothe__utf8_valid(texts[i], strlen(texts[i])));
    assert_true(soothe__utf8_valid("a\0b", 3));
}

static void test_ill_formed_utf8_is_refused(void **state) {
    (void)state;
    static const char *texts[] = {
        "\x80",
        "\xBF",
        "\xC0\x80",
        "\xC1\xBF", /* lone continuation; overlong          */
        "\xE0\x80\x80",
        "\xE0\x9F\xBF",
        "\xF0\x8F\xBF\xBF", /* overlong                             */
        "\xED\xA0\x80",
        "\xED\xBF\xBF", /* surrogates                           */
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80",
        "\xFF", /* above U+10FFFF; bytes of no sequence */
        "\xC3",
        "\xE2\x82",
        "\xF0\x9F\x98",
        "\xE2\x82x", /* truncated                            */
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        assert_false(soothe__utf8_valid(texts[i], strlen(texts[i])));
    assert_false(soothe__utf8_valid("\xE2\x82\xAC", 2)); /* the size counts, not the zero */
}

static void test_a_number_must_be_the_whole_text_and_finite(void **state) {
    (void)state;
    static const char *bad[] = {"",     " 1",    "1 ",   "1x", "x",   "1,5", "nan", "inf",
                                "-inf", "1e999", "0x10", "1e", "--1", ".",   "+"};
    double             x     = 7.0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(soothe__parse_double(&x, bad[i], -INFINITY, INFINITY));
    assert_true(x == 7.0);
    assert_true(soothe__parse_double(&x, "-2.5e-1", -1, 1) && x == -0.25);
    assert_true(soothe__parse_double(&x, "1", 0, 1) && x == 1.0);
    assert_false(soothe__parse_double(&x, "1.0001", 0, 1));
    assert_false(soothe__parse_double(&x, "-0.1", 0, 1));
}

static void test_a_whole_number_must_be_the_whole_text_and_in_range(void **state) {
    (void)state;
    static const char *bad[] = {
        "", " 1", "1 ", "1.0", "1e3", "x", "-", "+-1", "0x10", "9223372036854775808", "-9223372036854775809"};
    int64_t n = 7;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(soothe__parse_int64(&n, bad[i], INT64_MIN, INT64_MAX));
    assert_int_equal(n, 7);
    assert_true(soothe__parse_int64(&n, "-9223372036854775808", INT64_MIN, INT64_MAX) && n == INT64_MIN);
    assert_true(soothe__parse_int64(&n, "+010", 0, 10) && n == 10);
    assert_false(soothe__parse_int64(&n, "11", 0, 10));
}

static void test_the_clock_does_not_run_backwards(void **state) {
    (void)state;
    const double before = soothe__seconds();
    assert_true(soothe__seconds() >= before);
}

struct pieces {
    _Atomic int next, done[1000];
};

static void *take_pieces(void *user) {
    struct pieces *p = user;
    for (int i; (i = p->next++) < 1000;)
        p->done[i]++;
    return NULL;
}

static void test_threads_do_all_the_work_whatever_their_number(void **state) {
    (void)state;
    assert_int_equal(soothe__thread_count(3), 3);
    assert_true(soothe__thread_count(0) >= 1);
    assert_int_equal(soothe__thread_count(-1), soothe__thread_count(0));
    for (size_t n = 0; n <= 4; n++) {
        struct pieces p = {.next = 0};
        soothe__run_threads(n, take_pieces, &p);
        for (int i = 0; i < 1000; i++)
            assert_int_equal(p.done[i], 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_status_has_its_own_name),
        cmocka_unit_test(test_a_failure_may_wrap_its_own_message_and_is_cut_to_fit),
        cmocka_unit_test(test_a_product_that_overflows_is_refused),
        cmocka_unit_test(test_an_empty_request_still_gives_a_block),
        cmocka_unit_test(test_formatted_text_may_be_long),
        cmocka_unit_test(test_random_numbers_are_those_of_the_published_generator),
        cmocka_unit_test(test_numbers_below_n_are_below_n_and_even),
        cmocka_unit_test(test_normal_numbers_have_mean_0_and_variance_1),
        cmocka_unit_test(test_threads_do_all_the_work_whatever_their_number),
        cmocka_unit_test(test_a_new_file_is_not_visible_before_its_commit),
        cmocka_unit_test(test_an_aborted_file_leaves_the_old_one_and_nothing_else),
        cmocka_unit_test(test_a_full_device_gives_a_sentence_and_stays_a_device),
        cmocka_unit_test(test_a_write_cut_short_leaves_the_old_file_and_nothing_else),
        cmocka_unit_test(test_a_rename_that_fails_removes_the_new_file),
        cmocka_unit_test(test_a_link_is_followed_and_stays_a_link),
        cmocka_unit_test(test_a_file_with_the_longest_possible_name_can_be_written),
        cmocka_unit_test(test_a_file_with_zeros_is_read_whole),
        cmocka_unit_test(test_a_file_that_does_not_tell_its_size_is_read_whole),
        cmocka_unit_test(test_a_missing_file_and_a_folder_are_not_read),
        cmocka_unit_test(test_folders_are_made_on_the_way_and_a_file_in_the_way_is_named),
        cmocka_unit_test(test_sha256_gives_the_figures_of_the_standard),
        cmocka_unit_test(test_the_hash_of_a_missing_file_is_no_hash),
        cmocka_unit_test(test_well_formed_utf8_is_accepted),
        cmocka_unit_test(test_ill_formed_utf8_is_refused),
        cmocka_unit_test(test_a_number_must_be_the_whole_text_and_finite),
        cmocka_unit_test(test_a_whole_number_must_be_the_whole_text_and_in_range),
        cmocka_unit_test(test_the_clock_does_not_run_backwards),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
