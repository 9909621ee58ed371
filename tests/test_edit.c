/* SPDX-License-Identifier: Apache-2.0
 * Changing tensors row by row from file to file. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "edit/edit.h"
#include "test_support.h"

#define IN "edit_in.gguf"
#define OUT "edit_out.gguf"
#define OUT2 "edit_out2.gguf"

enum { WIDTH = 256, ROWS = 6, EXPERTS = 3 };
static const enum ggml_type TYPES[] = {GGML_TYPE_F32,  GGML_TYPE_F16,    GGML_TYPE_BF16,  GGML_TYPE_Q4_0,
                                       GGML_TYPE_Q4_1, GGML_TYPE_Q5_0,   GGML_TYPE_Q5_1,  GGML_TYPE_Q8_0,
                                       GGML_TYPE_Q2_K, GGML_TYPE_Q3_K,   GGML_TYPE_Q4_K,  GGML_TYPE_Q5_K,
                                       GGML_TYPE_Q6_K, GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_XS};
enum { N_TYPES = sizeof TYPES / sizeof *TYPES };

/* ---- files ------------------------------------------------------------------------------------------------------ */

static struct ggml_tensor *add_tensor(struct ggml_context *shapes, struct gguf_context *meta, const char *name,
                                      enum ggml_type type, int n_dims, const int64_t *ne, struct soothe__rng *rng) {
    struct ggml_tensor *t = ggml_new_tensor(shapes, type, n_dims, ne);
    const int64_t       n = ggml_nelements(t);
    ggml_set_name(t, name);
    if (type == GGML_TYPE_I32 || ggml_quantize_requires_imatrix(type))
        memset(t->data, 0, ggml_nbytes(t));
    else {
        float *values = soothe__calloc((size_t)n, sizeof *values);
        assert_non_null(values);
        for (int64_t i = 0; i < n; i++)
            values[i] = (float)soothe__rng_normal(rng);
        if (type == GGML_TYPE_F32)
            memcpy(t->data, values, ggml_nbytes(t));
        else
            ggml_quantize_chunk(type, values, t->data, 0, n / ne[0], ne[0], NULL);
        free(values);
    }
    gguf_add_tensor(meta, t);
    return t;
}

/* One matrix of every type, one tensor of three dimensions of every type, a norm, and two that cannot be written. */
static int set_up(void **state) {
    (void)state;
    struct soothe__rng   rng  = soothe__rng_seed(5, 1);
    struct gguf_context *meta = gguf_init_empty();
    struct ggml_context *shapes =
        ggml_init((struct ggml_init_params){.mem_size = 16 << 20, .mem_buffer = NULL, .no_alloc = false});
    const int64_t ne[3] = {WIDTH, ROWS, EXPERTS};
    char          name[64];
    gguf_set_val_str(meta, "general.name", "a model");
    gguf_set_val_str(meta, "general.architecture", "llama");
    gguf_set_val_u32(meta, "general.alignment", 32);
    for (int i = 0; i < N_TYPES; i++) {
        snprintf(name, sizeof name, "m.%s", ggml_type_name(TYPES[i]));
        add_tensor(shapes, meta, name, TYPES[i], 2, ne, &rng);
        snprintf(name, sizeof name, "x.%s", ggml_type_name(TYPES[i]));
        add_tensor(shapes, meta, name, TYPES[i], 3, ne, &rng);
    }
    add_tensor(shapes, meta, "norm", GGML_TYPE_F32, 1, (int64_t[]){7}, &rng);
    add_tensor(shapes, meta, "many", GGML_TYPE_F32, 2, (int64_t[]){32, 5000}, &rng);
    add_tensor(shapes, meta, "integers", GGML_TYPE_I32, 2, ne, &rng);
    add_tensor(shapes, meta, "coarse", GGML_TYPE_IQ1_S, 2, ne, &rng);
    assert_true(gguf_write_to_file(meta, IN, false));
    gguf_free(meta);
    ggml_free(shapes);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(IN);
    unlink(OUT);
    unlink(OUT2);
    return 0;
}

static char *tensor_bytes(const struct soothe__gguf *g, int64_t i) {
    struct soothe_error err;
    const size_t        size  = gguf_get_tensor_size(g->meta, i);
    char               *bytes = soothe__calloc(size, 1);
    assert_non_null(bytes);
    must(soothe__gguf_read(g, i, 0, bytes, size, &err), &err);
    return bytes;
}

static char *get_tensor(const char *path, const char *name) {
    struct soothe_error err;
    struct soothe__gguf g;
    must(soothe__gguf_open(&g, path, &err), &err);
    char *bytes = tensor_bytes(&g, gguf_find_tensor(g.meta, name));
    soothe__gguf_close(&g);
    return bytes;
}

static void assert_same_tensors(const char *a, const char *b, const char *but) {
    struct soothe_error err;
    struct soothe__gguf ga, gb;
    must(soothe__gguf_open(&ga, a, &err), &err);
    must(soothe__gguf_open(&gb, b, &err), &err);
    assert_int_equal(gguf_get_n_tensors(ga.meta), gguf_get_n_tensors(gb.meta));
    for (int64_t i = 0; i < gguf_get_n_tensors(ga.meta); i++) {
        const size_t size = gguf_get_tensor_size(ga.meta, i);
        assert_string_equal(gguf_get_tensor_name(ga.meta, i), gguf_get_tensor_name(gb.meta, i));
        assert_int_equal(gguf_get_tensor_type(ga.meta, i), gguf_get_tensor_type(gb.meta, i));
        assert_memory_equal(gguf_get_tensor_ne(ga.meta, i), gguf_get_tensor_ne(gb.meta, i), 4 * sizeof(int64_t));
        assert_int_equal(size, gguf_get_tensor_size(gb.meta, i));
        if (but && !strcmp(but, gguf_get_tensor_name(ga.meta, i)))
            continue;
        char *x = tensor_bytes(&ga, i), *y = tensor_bytes(&gb, i);
        assert_memory_equal(x, y, size);
        free(x);
        free(y);
    }
    soothe__gguf_close(&ga);
    soothe__gguf_close(&gb);
}

/* No new file of this process that was not renamed. */
static void assert_nothing_left(void) {
    char command[128];
    snprintf(command, sizeof command, "test -z \"$(ls -A | grep '^.soothe-%ld-.*tmp$')\"", (long)getpid());
    assert_int_equal(system(command), 0);
}

/* ---- an edit ------------------------------------------------------------------------------------------------------
 */

struct addition {
    int64_t rows[3];
    int     n;
    float   factor, special; /* special is written into the first value, unless 0 */
    bool    kill;
    int64_t n_seen;
};

static float step(int64_t row, int64_t i) {
    return (float)((row + 3 * i) % 17 - 8) * 0.05F;
}

static enum soothe_status add(void *user, int64_t first, int64_t n, int64_t ne0, float *values, bool *changed,
                              struct soothe_error *err) {
    struct addition *a = user;
    (void)err;
    if (a->kill && values)
        raise(SIGKILL);
    for (int64_t r = 0; r < n; r++) {
        assert_false(changed[r]);
        for (int k = 0; k < a->n; k++)
            changed[r] = changed[r] || a->rows[k] == first + r;
        assert_true(!values || changed[r]); /* only what was asked for is dequantised */
        for (int64_t i = 0; values && i < ne0; i++)
            values[r * ne0 + i] += a->factor * step(first + r, i);
        if (values && a->special != 0)
            values[r * ne0] = a->special;
    }
    a->n_seen += values ? n : 0;
    return SOOTHE_OK;
}

static enum soothe_status edit(const char *in, const char *out, const char *name, struct addition *a,
                               struct soothe_error *err) {
    const struct soothe__fact        facts[] = {{"strength", NULL, 0.25}, {"data", "some texts", 0}};
    const struct soothe__edit_record record  = {"test", facts, 2};
    const struct soothe__tensor_edit e       = {name, add, a};
    return soothe__edit_gguf(in, out, &e, 1, &record, err);
}

/* ---- tests ---------------------------------------------------------------------------------------------------------
 */

static void check_changed(const char *name, enum ggml_type type, const struct addition *a, int64_t n_rows) {
    const struct ggml_type_traits *traits   = ggml_get_type_traits(type);
    const size_t                   row_size = ggml_row_size(type, WIDTH);
    char                          *before = get_tensor(IN, name), *after = get_tensor(OUT, name);
    char                          *wanted = soothe__calloc(1, row_size);
    float                          values[WIDTH];
    for (int64_t r = 0; r < n_rows; r++) {
        bool is_changed = false;
        for (int k = 0; k < a->n; k++)
            is_changed = is_changed || a->rows[k] == r;
        memcpy(wanted, before + (size_t)r * row_size, row_size);
        if (is_changed) {
            if (type == GGML_TYPE_F32)
                memcpy(values, wanted, row_size);
            else
                traits->to_float(wanted, values, WIDTH);
            for (int64_t i = 0; i < WIDTH; i++)
                values[i] += a->factor * step(r, i);
            if (type == GGML_TYPE_F32)
                memcpy(wanted, values, row_size);
            else
                ggml_quantize_chunk(type, values, wanted, 0, 1, WIDTH, NULL);
            assert_memory_not_equal(wanted, before + (size_t)r * row_size, row_size);
        }
        assert_memory_equal(after + (size_t)r * row_size, wanted, row_size);
    }
    free(before);
    free(after);
    free(wanted);
}

static void test_rows_of_every_type_change_and_all_others_keep_their_bytes(void **state) {
    (void)state;
    struct soothe_error err;
    for (int i = 0; i < 2 * N_TYPES; i++) {
        const enum ggml_type type   = TYPES[i / 2];
        const int64_t        n_rows = i % 2 ? ROWS * EXPERTS : ROWS;
        struct addition      a      = {.rows = {1, 2, n_rows - 1}, .n = 3, .factor = 1};
        char                 name[64];
        snprintf(name, sizeof name, "%s.%s", i % 2 ? "x" : "m", ggml_type_name(type));
        must(edit(IN, OUT, name, &a, &err), &err);
        assert_int_equal(a.n_seen, 3);
        check_changed(name, type, &a, n_rows);
        assert_same_tensors(IN, OUT, name);
    }
    assert_nothing_left();
}

/* Requantising a row that did not change would not give its bytes in every type. */
static void test_strength_zero_changes_no_byte_of_any_tensor(void **state) {
    (void)state;
    struct soothe_error err;
    for (int i = 0; i < N_TYPES; i++) {
        struct addition a = {.rows = {0, 2, 5}, .n = 3, .factor = 0};
        char            name[64];
        snprintf(name, sizeof name, "m.%s", ggml_type_name(TYPES[i]));
        must(edit(IN, OUT, name, &a, &err), &err);
        assert_same_tensors(IN, OUT, NULL);
    }
}

static void test_long_tensors_and_vectors_are_edited_too(void **state) {
    (void)state;
    struct soothe_error err;
    struct addition     a      = {.rows = {0, 1023, 4999}, .n = 3, .factor = 1};
    char               *before = get_tensor(IN, "many");
    must(edit(IN, OUT, "many", &a, &err), &err);
    char *after = get_tensor(OUT, "many");
    for (int64_t r = 0; r < 5000; r++) {
        float row[32];
        memcpy(row, before + r * 128, sizeof row);
        for (int64_t i = 0; i < 32 && (r == 0 || r == 1023 || r == 4999); i++)
            row[i] += step(r, i);
        assert_memory_equal(row, after + r * 128, sizeof row);
    }
    free(before);
    free(after);
    struct addition norm = {.n = 1, .factor = 1};
    must(edit(IN, OUT, "norm", &norm, &err), &err);
    assert_same_tensors(IN, OUT, "norm");
    assert_int_equal(norm.n_seen, 1);
}

static void test_two_edits_of_one_tensor_are_as_one_after_the_other(void **state) {
    (void)state;
    struct soothe_error err;
    struct addition     a = {.rows = {1, 2, 3}, .n = 3, .factor = 1}, b = {.rows = {2, 3, 4}, .n = 3, .factor = -2};
    const struct soothe__tensor_edit both[] = {{"m.q4_1", add, &a}, {"x.f16", add, &a}, {"m.q4_1", add, &b}};
    const struct soothe__edit_record record = {.kind = "test"};
    must(soothe__edit_gguf(IN, OUT, both, 3, &record, &err), &err);
    must(soothe__edit_gguf(IN, OUT2, both, 2, &record, &err), &err);
    char *wanted = get_tensor(OUT, "m.q4_1");
    unlink(OUT);
    must(edit(OUT2, OUT, "m.q4_1", &b, &err), &err);
    char *found = get_tensor(OUT, "m.q4_1");
    assert_memory_equal(wanted, found, ROWS * ggml_row_size(GGML_TYPE_Q4_1, WIDTH));
    free(wanted);
    free(found);
}

static const char *get_string(const struct soothe__gguf *g, const char *key) {
    const char *text = soothe__gguf_find_string(g, key);
    assert_non_null(text);
    return text;
}

static void test_what_was_done_is_written_into_the_file(void **state) {
    (void)state;
    struct soothe_error err;
    struct soothe__gguf in, out, out2;
    struct addition     a = {.rows = {1}, .n = 1, .factor = 1};
    char                hex[65];
    must(edit(IN, OUT, "m.q8_0", &a, &err), &err);
    must(edit(OUT, OUT2, "m.q8_0", &a, &err), &err);
    must(soothe__gguf_open(&in, IN, &err), &err);
    must(soothe__gguf_open(&out, OUT, &err), &err);
    must(soothe__gguf_open(&out2, OUT2, &err), &err);
    assert_string_equal(get_string(&out, "general.name"), "a model");
    assert_int_equal(soothe__edit_count(&in), 0);
    assert_int_equal(soothe__edit_count(&out), 1);
    assert_int_equal(soothe__edit_count(&out2), 2);
    assert_string_equal(get_string(&out, "soothe.edit.0.kind"), "test");
    assert_string_equal(get_string(&out, "soothe.edit.0.tool"), SOOTHE_VERSION);
    assert_string_equal(get_string(&out, "soothe.edit.0.data"), "some texts");
    const int64_t i = gguf_find_key(out.meta, "soothe.edit.0.strength");
    assert_true(i >= 0 && gguf_get_val_f64(out.meta, i) == 0.25);
    const int64_t names = gguf_find_key(out.meta, "soothe.edit.0.tensors");
    assert_int_equal(gguf_get_arr_n(out.meta, names), 1);
    assert_string_equal(gguf_get_arr_str(out.meta, names, 0), "m.q8_0");
    must(soothe__sha256_file(hex, IN, &err), &err);
    assert_string_equal(get_string(&out, "soothe.edit.0.base_sha256"), hex);
    must(soothe__sha256_file(hex, OUT, &err), &err);
    assert_string_equal(get_string(&out2, "soothe.edit.1.base_sha256"), hex);
    must(soothe__tensors_hash(hex, &in, &err), &err);
    assert_string_equal(get_string(&out, "soothe.edit.0.base_tensors_sha256"), hex);
    must(soothe__tensors_hash(hex, &out, &err), &err);
    assert_string_equal(get_string(&out, "soothe.edit.0.tensors_sha256"), hex);
    assert_string_equal(get_string(&out2, "soothe.edit.0.tensors_sha256"), hex);
    assert_string_equal(get_string(&out2, "soothe.edit.1.base_tensors_sha256"), hex);
    soothe__gguf_close(&in);
    soothe__gguf_close(&out);
    soothe__gguf_close(&out2);
}

/* ---- refusals and failures: the original stays, and nothing half-written is left --------------------------------- */

static void assert_refused(enum soothe_status wanted, const char *in, const char *out, const char *name,
                           struct addition a, const char *words) {
    struct soothe_error err;
    char                before[65], after[65];
    unlink(OUT);
    must(soothe__sha256_file(before, IN, &err), &err);
    assert_int_equal(edit(in, out, name, &a, &err), wanted);
    if (!strstr(err.message, words))
        fail_msg("\"%s\" does not say \"%s\"", err.message, words);
    must(soothe__sha256_file(after, IN, &err), &err);
    assert_string_equal(before, after);
    assert_false(soothe__file_exists(OUT));
    assert_nothing_left();
}

static void test_what_cannot_be_edited_is_refused_by_name(void **state) {
    (void)state;
    const struct addition a = {.rows = {1}, .n = 1, .factor = 1};
    assert_refused(SOOTHE_E_FORMAT, IN, OUT, "blk.0.ffn_gate.weight", a, "has no tensor blk.0.ffn_gate.weight");
    assert_refused(SOOTHE_E_UNSUPPORTED, IN, OUT, "integers", a, "i32");
    assert_refused(SOOTHE_E_UNSUPPORTED, IN, OUT, "coarse", a, "iq1_s");
    assert_refused(SOOTHE_E_ARGUMENT, IN, IN, "m.q4_0", a, "needs another name");
    assert_refused(SOOTHE_E_ARGUMENT, IN, "./" IN, "m.q4_0", a, "needs another name");
    assert_refused(SOOTHE_E_IO, "edit_absent.gguf", OUT, "m.q4_0", a, "edit_absent.gguf");
    assert_refused(SOOTHE_E_IO, IN, "no/such/folder/out.gguf", "m.q4_0", a, "no/such/folder/out.gguf");
}

static void test_numbers_that_are_not_finite_are_refused(void **state) {
    (void)state;
    const struct addition nan = {.rows = {1}, .n = 1, .special = NAN}, inf = {.rows = {1}, .n = 1, .special = INFINITY},
                          large = {.rows = {1}, .n = 1, .special = 1e30F};
    for (int i = 0; i < N_TYPES; i++) {
        char name[64];
        snprintf(name, sizeof name, "m.%s", ggml_type_name(TYPES[i]));
        assert_refused(SOOTHE_E_NUMERIC, IN, OUT, name, nan, "row 1 of tensor m.");
        assert_refused(SOOTHE_E_NUMERIC, IN, OUT, name, inf, "row 1 of tensor m.");
    }
    assert_refused(SOOTHE_E_NUMERIC, IN, OUT, "m.f16", large, "row 1 of tensor m.f16");
    assert_refused(SOOTHE_E_NUMERIC, IN, OUT, "m.q4_0", large, "row 1 of tensor m.q4_0");
}

static void test_a_full_disk_leaves_no_half_file(void **state) {
    (void)state;
    const struct addition a = {.rows = {1}, .n = 1, .factor = 1};
    struct soothe_error   err;
    struct rlimit         old, small;
    struct stat           st;
    assert_int_equal(stat(IN, &st), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    signal(SIGXFSZ, SIG_IGN);
    const rlim_t at[] = {0, 100, (rlim_t)st.st_size / 2, (rlim_t)st.st_size - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        small          = old;
        small.rlim_cur = at[i];
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        assert_refused(SOOTHE_E_IO, IN, OUT, "m.q4_0", a, "cannot write");
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    }
    struct addition b = a;
    assert_int_equal(edit(IN, "/dev/full", "m.q4_0", &b, &err), SOOTHE_E_IO);
}

static void test_a_file_that_was_there_survives_a_failed_edit(void **state) {
    (void)state;
    struct soothe_error err;
    char                before[65], after[65];
    struct addition     a = {.rows = {1}, .n = 1, .factor = 1}, nan = {.rows = {1}, .n = 1, .special = NAN};
    must(edit(IN, OUT, "m.q4_0", &a, &err), &err);
    must(soothe__sha256_file(before, OUT, &err), &err);
    assert_int_equal(edit(IN, OUT, "m.q4_0", &nan, &err), SOOTHE_E_NUMERIC);
    must(soothe__sha256_file(after, OUT, &err), &err);
    assert_string_equal(before, after);
}

static void test_killed_in_mid_write_the_name_stays_free_and_the_original_whole(void **state) {
    (void)state;
    struct soothe_error err;
    char                before[65], after[65];
    struct addition     a = {.rows = {1}, .n = 1, .factor = 1, .kill = true};
    int                 how;
    unlink(OUT);
    must(soothe__sha256_file(before, IN, &err), &err);
    const pid_t child = fork();
    if (child == 0) {
        (void)edit(IN, OUT, "many", &a, &err);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &how, 0), child);
    assert_true(WIFSIGNALED(how) && WTERMSIG(how) == SIGKILL);
    assert_false(soothe__file_exists(OUT));
    must(soothe__sha256_file(after, IN, &err), &err);
    assert_string_equal(before, after);
    char half[128];
    snprintf(half, sizeof half, ".soothe-%ld-0.tmp", (long)child);
    assert_int_equal(unlink(half), 0); /* the half file has a name that says what it is */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_of_every_type_change_and_all_others_keep_their_bytes),
        cmocka_unit_test(test_strength_zero_changes_no_byte_of_any_tensor),
        cmocka_unit_test(test_long_tensors_and_vectors_are_edited_too),
        cmocka_unit_test(test_two_edits_of_one_tensor_are_as_one_after_the_other),
        cmocka_unit_test(test_what_was_done_is_written_into_the_file),
        cmocka_unit_test(test_what_cannot_be_edited_is_refused_by_name),
        cmocka_unit_test(test_numbers_that_are_not_finite_are_refused),
        cmocka_unit_test(test_a_full_disk_leaves_no_half_file),
        cmocka_unit_test(test_a_file_that_was_there_survives_a_failed_edit),
        cmocka_unit_test(test_killed_in_mid_write_the_name_stays_free_and_the_original_whole),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
