/* SPDX-License-Identifier: Apache-2.0
 * Two models on the same questions. */
#include <stdlib.h>
#include <string.h>

#include "eval/figures.h"
#include "eval/model_change.h"
#include "generate/answers.h"

static double shared_start(const char *a, const char *b) {
    const size_t n = strlen(a), m = strlen(b), longer = n > m ? n : m;
    size_t       k = 0;
    while (a[k] && a[k] == b[k])
        k++;
    return longer ? (double)k / (double)longer : 1.0;
}

enum soothe_status soothe__answer_change(struct soothe__answer_change *change, struct llama_model *before,
                                         struct llama_model *after, const char *const *questions, size_t n,
                                         int32_t n_predict, int32_t n_threads, const volatile sig_atomic_t *stop,
                                         struct soothe_error *err) {
    struct soothe__turn                *turns   = soothe__calloc(n + 1, sizeof *turns);
    struct soothe__answer              *answers = soothe__calloc(2 * n + 1, sizeof *answers);
    const char                        **texts   = soothe__calloc(2 * n + 1, sizeof *texts);
    const struct soothe__answer_options how     = {
            .n_predict = n_predict, .n_parallel = 16, .n_threads = n_threads, .stop = stop};
    enum soothe_status status = SOOTHE_OK;
    *change                   = (struct soothe__answer_change){.n = n};
    if (!turns || !answers || !texts)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu answers", n);
    for (size_t i = 0; i < n && !status; i++)
        turns[i].user = questions[i];
    if (!status)
        status = soothe__answer(answers, before, turns, n, &how, err);
    if (!status)
        status = soothe__answer(answers + n, after, turns, n, &how, err);
    for (size_t i = 0; i < 2 * n && !status; i++)
        texts[i] = answers[i].text;
    for (size_t i = 0; i < n && !status; i++) {
        change->same += (double)(strcmp(texts[i], texts[n + i]) == 0) / (double)n;
        change->same_start += shared_start(texts[i], texts[n + i]) / (double)n;
        change->refused_before += (double)soothe__is_refusal(texts[i]) / (double)n;
        change->refused_after += (double)soothe__is_refusal(texts[n + i]) / (double)n;
    }
    if (!status) {
        change->distinct2_before = soothe__distinct(texts, n, 2);
        change->distinct2_after  = soothe__distinct(texts + n, n, 2);
    }
    if (answers)
        soothe__answers_free(answers, 2 * n);
    free(turns);
    free(answers);
    free(texts);
    return status;
}
