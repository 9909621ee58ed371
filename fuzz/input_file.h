/* SPDX-License-Identifier: Apache-2.0
 * The fuzzer's bytes as a file, for readers that take a path. */
#ifndef INPUT_FILE_H
#define INPUT_FILE_H

#include <stddef.h>
#include <stdint.h>

/* Writes the bytes to a file of this process, each time the same one, and returns its path. Aborts if it
 * cannot: that is the machine's fault, not a finding. Removed at the end of the process. */
const char *fuzz_input_file(const uint8_t *data, size_t size);

/* Another path beside it, for what the target needs once; removed likewise. */
const char *fuzz_other_file(void);

#endif
