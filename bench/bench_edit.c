/* SPDX-License-Identifier: Apache-2.0
 * Time and memory of an edit, whatever the size of the model: bench_edit MODEL OUT. Surgery along a random direction on
 * the published share of the gate rows; OUT is removed afterwards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "methods/surgery.h"

static double peak_mib(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* What is timed: ranking all rows, and writing the edited model with its hashes. */
static enum soothe_status edit(const char *model, const char *out, double seconds[2], struct soothe__surgery_report *r,
                               struct soothe_error *err) {
    struct soothe__gguf            g;
    struct soothe__model_facts     facts;
    struct soothe__diff           *diff  = NULL;
    struct soothe__probe           probe = {.layer = SOOTHE__LAYER_FINAL};
    struct soothe__surgery_options o     = soothe__surgery_options_default();
    o.control                            = SOOTHE__SURGERY_RANDOM_DIRECTION;
    enum soothe_status status            = soothe__gguf_open(&g, model, err);
    if (!status)
        status = soothe__model_facts(&facts, &g, err);
    if (!status && !(probe.weight = soothe__calloc(facts.d, sizeof(float))))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status) {
        probe.d         = (int32_t)facts.d;
        probe.weight[0] = 1;
    }
    soothe__gguf_close(&g);
    double from = soothe__seconds();
    if (!status)
        status = soothe__surgery(&diff, r, model, &probe, &o, NULL, 0, err);
    seconds[0] = soothe__seconds() - from;
    from       = soothe__seconds();
    if (!status)
        status = soothe__diff_apply(diff, model, out, err);
    seconds[1] = soothe__seconds() - from;
    soothe__diff_free(diff);
    free(probe.weight);
    return status;
}

int main(int argc, char **argv) {
    struct soothe_error           err;
    struct soothe__surgery_report report;
    struct stat                   st;
    double                        seconds[2];
    if (argc != 3 || stat(argv[1], &st) != 0) {
        fprintf(stderr, "bench_edit MODEL OUT\n");
        return 2;
    }
    if (edit(argv[1], argv[2], seconds, &report, &err)) {
        fprintf(stderr, "bench_edit: %s\n", err.message);
        return 1;
    }
    printf("%.0f MiB, %lld of %lld gate rows: %.1f s to rank, %.1f s to write and hash, peak memory %.0f MiB\n",
           (double)st.st_size / 1048576, (long long)report.n_chosen, (long long)report.n_rows, seconds[0], seconds[1],
           peak_mib());
    soothe__surgery_report_free(&report);
    unlink(argv[2]);
    return 0;
}
