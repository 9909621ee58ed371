/* SPDX-License-Identifier: Apache-2.0
 * Runs a fuzz target over the files of its corpus, for builds without libFuzzer. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    int  n      = 0;
    if (!folder) {
        fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        char  *path = soothe__format("%s/%s", argv[1], entry->d_name), *data = NULL;
        size_t size = 0;
        if (entry->d_name[0] != '.' && path && soothe__read_file(&data, &size, path, NULL) == SOOTHE_OK) {
            LLVMFuzzerTestOneInput((const uint8_t *)data, size);
            n++;
        }
        free(data);
        free(path);
    }
    closedir(folder);
    printf("%d inputs replayed\n", n);
    return n > 0 ? 0 : 1;
}
