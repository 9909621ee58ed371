/* SPDX-License-Identifier: Apache-2.0
 * Allocation with the product of count and size checked. */
#include "base/base.h"

#include <stdlib.h>
#include <string.h>

void *soothe__calloc(size_t n, size_t size) {
    /* calloc checks the product too, but sanitizers stop the program there instead of returning NULL. */
    if (size && n > SIZE_MAX / size)
        return NULL;
    return n && size ? calloc(n, size) : calloc(1, 1); /* 0 bytes still get a block, so NULL means failure */
}

void *soothe__realloc(void *old, size_t n, size_t size) {
    if (size && n > SIZE_MAX / size)
        return NULL;
    return realloc(old, n && size ? n * size : 1); /* never 0: realloc(p, 0) may free p */
}

char *soothe__strdup(const char *s) {
    const size_t size = strlen(s) + 1;
    char        *copy = malloc(size);
    return copy ? memcpy(copy, s, size) : NULL;
}

char *soothe__format(const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const int length = vsnprintf(NULL, 0, format, args);
    char     *s      = length < 0 ? NULL : malloc((size_t)length + 1);
    if (s)
        vsnprintf(s, (size_t)length + 1, format, again);
    va_end(again);
    va_end(args);
    return s;
}
