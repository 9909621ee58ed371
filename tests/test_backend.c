/* SPDX-License-Identifier: Apache-2.0
 * Fusion where tensors are not in this process's memory: target and calibrator on a device of the engine's RPC backend,
 * whose server is a child process. Skipped where the engine was built without -DGGML_RPC=ON
 * (scripts/test_backend.sh builds one). A host pointer into such a tensor is not valid, so that whoever reads or writes
 * states otherwise than by ggml_backend_tensor_get and _set crashes here. */
#include <arpa/inet.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/batch.h"
#include "fusion/calibrator_file.h"
#include "fusion/fusion.h"
#include "test_support.h"
#include "tiny_model.h"

#define TARGET "test_backend_target.gguf"
#define CUT "test_backend_cut.gguf"
#define TRAINED "test_backend_trained.gguf"
#define MATRIX "test_backend_matrix.gguf"

typedef ggml_backend_reg_t add_server(const char *endpoint);
typedef void               start_server(const char *endpoint, const char *cache, size_t n_threads, size_t n_devices,
                                        ggml_backend_dev_t *devices);

static pid_t              server;
static ggml_backend_dev_t device; /* NULL: the engine has no such backend */
static char               endpoint[32];

/* What the engine says of where it puts things: "RPC0[127.0.0.1:1234] model buffer size = …". */
static int n_remote_weights, n_remote_nodes;

static void listen_to(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)user;
    n_remote_weights += strstr(text, "RPC") && strstr(text, "model buffer size");
    n_remote_nodes += strstr(text, "RPC") && strstr(text, "compute buffer size");
}

/* ---- the server ------------------------------------------------------------------------------------------------- */

static struct sockaddr_in local(uint16_t port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
    a.sin_addr.s_addr    = htonl(INADDR_LOOPBACK);
    return a;
}

static uint16_t free_port(void) {
    struct sockaddr_in a    = local(0);
    socklen_t          size = sizeof a;
    const int          s    = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(s >= 0 && bind(s, (struct sockaddr *)&a, size) == 0 &&
                getsockname(s, (struct sockaddr *)&a, &size) == 0);
    close(s);
    return ntohs(a.sin_port);
}

static bool answers(uint16_t port) {
    const struct sockaddr_in a  = local(port);
    const int                s  = socket(AF_INET, SOCK_STREAM, 0);
    const bool               ok = s >= 0 && connect(s, (const struct sockaddr *)&a, sizeof a) == 0;
    if (s >= 0)
        close(s);
    return ok;
}

static int set_up(void **state) {
    (void)state;
    llama_log_set(listen_to, NULL);
    ggml_backend_reg_t rpc = ggml_backend_reg_by_name("RPC");
    if (!rpc)
        return 0;
    start_server *start =
        (start_server *)(uintptr_t)ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_start_server");
    add_server *add = (add_server *)(uintptr_t)ggml_backend_reg_get_proc_address(rpc, "ggml_backend_rpc_add_server");
    assert_true(start && add);
    const uint16_t port = free_port();
    snprintf(endpoint, sizeof endpoint, "127.0.0.1:%u", port);
    server = fork();
    assert_true(server >= 0);
    if (server == 0) {
        ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
        alarm(600); /* should the test die without ending it */
        if (freopen("/dev/null", "w", stdout))
            start(endpoint, NULL, 2, 1, &cpu);
        _exit(1);
    }
    for (int i = 0; i < 200 && !answers(port); i++)
        usleep(50000);
    ggml_backend_reg_t remote = add(endpoint);
    assert_non_null(remote);
    assert_true(ggml_backend_reg_dev_count(remote) > 0);
    ggml_backend_register(remote); /* for the calibrator, whose devices are not named */
    device = ggml_backend_reg_dev_get(remote, 0);
    assert_false(ggml_backend_buft_is_host(ggml_backend_dev_buffer_type(device)));
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(TARGET);
    unlink(CUT);
    unlink(TRAINED);
    unlink(MATRIX);
    if (server > 0) {
        kill(server, SIGTERM);
        waitpid(server, NULL, 0);
    }
    return 0;
}

/* ---- two places ------------------------------------------------------------------------------------------------- */

static struct llama_model *load(const char *path, bool remote) {
    ggml_backend_dev_t        devices[] = {device, NULL}, none[] = {NULL};
    struct llama_model_params mp = llama_model_default_params();
    mp.devices                   = remote ? devices : none;
    mp.n_gpu_layers              = remote ? 999 : 0;
    struct llama_model *model    = llama_model_load_from_file(path, mp);
    assert_non_null(model);
    return model;
}

enum { LENGTH = 24, MORE = 3 };

/* Fused logits (LENGTH + MORE, n_vocab): a prompt of which every token is output, and some tokens more. */
static float *fused_logits(const char *target_path, const char *calibrator_path, bool remote, bool exact,
                           int32_t *n_vocab) {
    struct soothe_error             err;
    struct soothe_calibrator       *cal;
    struct soothe_session          *s;
    struct llama_model             *target = load(target_path, remote);
    struct soothe_calibrator_params cp     = soothe_calibrator_params_default();
    struct soothe_session_params    sp     = soothe_session_params_default();
    cp.n_gpu_layers                        = remote ? 999 : 0;
    cp.keep_type                           = exact;
    sp.context.n_ctx                       = 64;
    sp.context.n_threads = sp.context.n_threads_batch = 2;
    sp.strength                                       = 1.0f;
    must(soothe_calibrator_open(&cal, calibrator_path, target_path, &cp, &err), &err);
    must(soothe_session_new(&s, target, cal, &sp, &err), &err);
    *n_vocab             = llama_vocab_n_tokens(llama_model_get_vocab(target));
    const size_t       V = (size_t)*n_vocab;
    float             *z = soothe__calloc((LENGTH + MORE) * V, sizeof *z);
    struct llama_batch b = llama_batch_init(LENGTH, 0, 1);
    assert_non_null(z);
    for (int32_t i = 0; i < LENGTH; i++)
        soothe__batch_add(&b, (37 * i + i * i) % 250, i, 0, true);
    must(soothe_decode(s, b, &err), &err);
    for (int32_t i = 0; i < LENGTH; i++)
        memcpy(z + (size_t)i * V, llama_get_logits_ith(soothe_session_context(s), i), V * sizeof *z);
    for (int32_t i = 0; i < MORE; i++) {
        b.n_tokens = 0;
        soothe__batch_add(&b, 7 * i + 3, LENGTH + i, 0, true);
        must(soothe_decode(s, b, &err), &err);
        memcpy(z + (size_t)(LENGTH + i) * V, llama_get_logits_ith(soothe_session_context(s), -1), V * sizeof *z);
    }
    llama_batch_free(b);
    soothe_session_free(s);
    soothe_calibrator_free(cal);
    llama_model_free(target);
    return z;
}

/* By how much the logits differ, of their norm. n_models  that must be there: the target, and blocks */
static double difference(const char *target_path, const char *calibrator_path, int n_models, bool exact) {
    int32_t n_vocab;
    float  *here     = fused_logits(target_path, calibrator_path, false, exact, &n_vocab);
    n_remote_weights = n_remote_nodes = 0;
    float *there                      = fused_logits(target_path, calibrator_path, true, exact, &n_vocab);
    assert_int_equal(n_remote_weights, n_models);
    assert_true(n_remote_nodes >= n_models);
    double error = 0, square = 0;
    for (size_t i = 0; i < (size_t)(LENGTH + MORE) * (size_t)n_vocab; i++) {
        assert_true(isfinite(here[i]) && isfinite(there[i]));
        error += ((double)here[i] - (double)there[i]) * ((double)here[i] - (double)there[i]);
        square += (double)here[i] * (double)here[i];
    }
    free(here);
    free(there);
    return sqrt(error / square);
}

static void write_calibrators(uint64_t seed) {
    enum { D = 64 };
    static float        a[D * D], b[D * D];
    struct soothe_error err;
    struct soothe__rng  rng = soothe__rng_seed(seed, 7);
    for (int i = 0; i < D * D; i++) {
        a[i] = (float)(0.05 * soothe__rng_normal(&rng));
        b[i] = (float)(0.05 * soothe__rng_normal(&rng));
    }
    must(soothe_calibrator_init(TARGET, 3, CUT, &err), &err);
    struct soothe__calibrator_spec spec = {.name        = "blocks",
                                           .source_path = CUT,
                                           .target_path = TARGET,
                                           .form        = SOOTHE_FORM_RESIDUAL,
                                           .strength    = 1,
                                           .d_cal       = D,
                                           .d_tgt       = D,
                                           .a           = a,
                                           .b           = b,
                                           .block_type  = GGML_TYPE_F32,
                                           .matrix_type = GGML_TYPE_F32};
    must(soothe__calibrator_write(TRAINED, &spec, &err), &err);
    spec.name        = "matrix";
    spec.source_path = NULL;
    spec.d_cal       = 0;
    spec.a           = NULL;
    must(soothe__calibrator_write(MATRIX, &spec, &err), &err);
}

static void test_fused_logits_are_those_of_the_processor(void **state) {
    (void)state;
    static const enum tiny_family families[] = {TINY_LLAMA, TINY_QWEN2, TINY_GEMMA3, TINY_GPT2};
    if (!device)
        skip();
    for (size_t f = 0; f < sizeof families / sizeof *families; f++) {
        assert_true(tiny_model_write(TARGET, &(struct tiny_options){.family = families[f], .seed = 5}));
        write_calibrators(9);
        const double blocks = difference(TARGET, TRAINED, 2, true), matrix = difference(TARGET, MATRIX, 1, true);
        print_message("family %zu: logits differ by %.1e of their norm with blocks, %.1e with a matrix\n", f, blocks,
                      matrix);
        assert_true(blocks < 1e-3 && matrix < 1e-3);
    }
}

/* SOOTHE_TEST_MODEL, with the shipped matrix and, where SOOTHE_TEST_CALIBRATOR names one, a calibrator of blocks. */
static void test_a_real_model_too(void **state) {
    (void)state;
    const char *model = getenv("SOOTHE_TEST_MODEL"), *blocks = getenv("SOOTHE_TEST_CALIBRATOR");
    const char *models = getenv("SOOTHE_MODELS");
    char        matrix[4096];
    if (!device || !model || !*model || !models)
        skip();
    snprintf(matrix, sizeof matrix, "%s/default.calibrator.gguf", models);
    const char *const calibrators[] = {matrix, blocks};
    for (size_t i = 0; i < 2; i++)
        if (calibrators[i] && *calibrators[i]) {
            const double d = difference(model, calibrators[i], i ? 2 : 1, false);
            print_message("%s: logits differ by %.1e of their norm\n", i ? "blocks" : "matrix", d);
            assert_true(d < 1e-2); /* 1.2e-3: the engine repacks Q4_0 in this process, not in the server */
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fused_logits_are_those_of_the_processor),
        cmocka_unit_test(test_a_real_model_too),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
