/* SPDX-License-Identifier: Apache-2.0
 * Whole characters out of bytes that come in pieces. */
#include <string.h>

#include "base/base.h"

/* Bytes of the character that begins at s; 0 if none does. A zero byte is none: texts end with it. */
static size_t whole(const unsigned char *s, size_t n) {
    if (n > 0 && s[0] == 0)
        return 0;
    for (size_t k = 1; k <= 4 && k <= n; k++)
        if (soothe__utf8_valid((const char *)s, k))
            return k;
    return 0;
}

/* Could these 1 to 3 bytes be the beginning of a character? Tried with every kind of byte that may follow. */
static bool begins_one(const unsigned char *s, size_t n) {
    static const unsigned char FOLLOWING[] = {0x80, 0x90, 0xA0};
    unsigned char              c[4];
    memcpy(c, s, n);
    for (size_t i = 0; i < sizeof FOLLOWING; i++) {
        memset(c + n, 0x80, sizeof c - n);
        c[n] = FOLLOWING[i];
        for (size_t k = n + 1; k <= 4; k++)
            if (whole(c, k) == k)
                return true;
    }
    return false;
}

size_t soothe__utf8_push(struct soothe__utf8_stream *s, const char *bytes, size_t n, char *out) {
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        s->held[s->n_held++] = (unsigned char)bytes[i];
        while (s->n_held > 0) {
            const size_t k = whole(s->held, s->n_held);
            if (k == 0 && s->n_held < 4 && begins_one(s->held, s->n_held))
                break;
            memcpy(out + size, k ? (const char *)s->held : "\xEF\xBF\xBD", k ? k : 3);
            size += k ? k : 3;
            s->n_held -= k ? k : 1;
            memmove(s->held, s->held + (k ? k : 1), s->n_held);
        }
    }
    return size;
}
