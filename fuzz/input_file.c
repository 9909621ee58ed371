/* SPDX-License-Identifier: Apache-2.0 */
#include "input_file.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char input[64], other[80];

static void remove_files(void) {
    unlink(input);
    unlink(other);
}

static void make_paths(void) {
    if (input[0])
        return;
    /* Memory rather than a disk, where there is one. */
    snprintf(input, sizeof input, "%s/soothe-fuzz-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    const int fd = mkstemp(input);
    if (fd < 0)
        abort();
    close(fd);
    snprintf(other, sizeof other, "%s.other", input);
    atexit(remove_files);
}

const char *fuzz_input_file(const uint8_t *data, size_t size) {
    make_paths();
    FILE *f = fopen(input, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f) != 0)
        abort();
    return input;
}

const char *fuzz_other_file(void) {
    make_paths();
    return other;
}
