/* SPDX-License-Identifier: Apache-2.0
 * What most tests begin with. Include it after <cmocka.h>. */
#ifndef TEST_SUPPORT_H
#define TEST_SUPPORT_H

#include "soothe.h"

/* For llama_log_set: the engine's messages are not the test's. */
static inline void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)level;
    (void)text;
    (void)user;
}

/* A group's set-up that needs no more than that. */
static inline int quiet_engine(void **state) {
    (void)state;
    llama_log_set(quiet, NULL);
    return 0;
}

/* Fails the test with the sentence of an error. */
static inline void must(enum soothe_status status, const struct soothe_error *err) {
    if (status != SOOTHE_OK)
        fail_msg("%s: %s", soothe_status_name(status), err->message);
}

#endif /* TEST_SUPPORT_H */
