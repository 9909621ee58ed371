/* SPDX-License-Identifier: Apache-2.0
 * How many threads, and the same work in all of them. */
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"

int32_t soothe__thread_count(int32_t wanted) {
    const long n_processors = sysconf(_SC_NPROCESSORS_ONLN);
    return wanted > 0 ? wanted : n_processors > 0 ? (int32_t)n_processors : 1;
}

void soothe__run_threads(size_t n, void *(*work)(void *), void *user) {
    size_t     n_started = 0;
    pthread_t *threads   = n > 1 ? soothe__calloc(n - 1, sizeof *threads) : NULL;
    while (threads && n_started < n - 1 && pthread_create(&threads[n_started], NULL, work, user) == 0)
        n_started++;
    work(user);
    for (size_t i = 0; i < n_started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
}
