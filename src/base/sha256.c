/* SPDX-License-Identifier: Apache-2.0
 * SHA-256 through libcrypto, which has the processor's own instructions for it. */
#include "base/base.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

struct soothe__sha256 {
    EVP_MD_CTX *context;
    bool        failed;
};

struct soothe__sha256 *soothe__sha256_new(void) {
    struct soothe__sha256 *h = soothe__calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->context = EVP_MD_CTX_new();
    if (!h->context || EVP_DigestInit_ex(h->context, EVP_sha256(), NULL) != 1) {
        soothe__sha256_finish(h, NULL);
        return NULL;
    }
    return h;
}

void soothe__sha256_add(struct soothe__sha256 *h, const void *data, size_t size) {
    if (EVP_DigestUpdate(h->context, data, size) != 1)
        h->failed = true;
}

void soothe__sha256_finish(struct soothe__sha256 *h, char hex[65]) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    if (hex)
        hex[0] = '\0'; /* on failure: text that equals no hash */
    if (!h)
        return;
    if (hex && !h->failed && EVP_DigestFinal_ex(h->context, digest, NULL) == 1)
        for (int i = 0; i < 32; i++)
            snprintf(hex + 2 * i, 3, "%02x", (unsigned)digest[i]);
    EVP_MD_CTX_free(h->context);
    free(h);
}

enum soothe_status soothe__sha256_file(char hex[65], const char *path, struct soothe_error *err) {
    enum { CHUNK = 1 << 20 };
    hex[0] = '\0';

    FILE                  *in     = fopen(path, "rb");
    const int              why    = errno;
    unsigned char         *chunk  = malloc(CHUNK);
    struct soothe__sha256 *h      = soothe__sha256_new();
    enum soothe_status     status = SOOTHE_OK;
    size_t                 n;
    if (!in) {
        status = soothe__fail(err, SOOTHE_E_IO, "cannot open %s: %s", path, strerror(why));
        goto done;
    }
    if (!chunk || !h) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory hashing %s", path);
        goto done;
    }
    while ((n = fread(chunk, 1, CHUNK, in)) > 0)
        soothe__sha256_add(h, chunk, n);
    if (ferror(in))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot read %s: %s", path, strerror(errno));
done:
    soothe__sha256_finish(h, status ? NULL : hex);
    free(chunk);
    if (in)
        fclose(in);
    return status;
}
