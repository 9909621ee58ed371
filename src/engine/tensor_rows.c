/* SPDX-License-Identifier: Apache-2.0
 * Rows of a tensor as numbers and back. */
#include "engine/tensor_rows.h"

#include <math.h>
#include <string.h>
#include <strings.h>

bool soothe__type_writable(enum ggml_type type) {
    switch (type) {
    case GGML_TYPE_F32:
    case GGML_TYPE_F16:
    case GGML_TYPE_BF16:
    case GGML_TYPE_Q4_0:
    case GGML_TYPE_Q4_1:
    case GGML_TYPE_Q5_0:
    case GGML_TYPE_Q5_1:
    case GGML_TYPE_Q8_0:
    case GGML_TYPE_Q2_K:
    case GGML_TYPE_Q3_K:
    case GGML_TYPE_Q4_K:
    case GGML_TYPE_Q5_K:
    case GGML_TYPE_Q6_K:
    case GGML_TYPE_IQ4_NL:
    case GGML_TYPE_IQ4_XS:
    case GGML_TYPE_MXFP4:
        return true;
    default:
        return false;
    }
}

enum ggml_type soothe__type_by_name(const char *name) {
    for (int t = 0; t < GGML_TYPE_COUNT; t++)
        if (ggml_type_name((enum ggml_type)t) && strcasecmp(ggml_type_name((enum ggml_type)t), name) == 0)
            return (enum ggml_type)t;
    return GGML_TYPE_COUNT;
}

static enum soothe_status check_finite(const float *values, int64_t n, const char *what, const char *where,
                                       struct soothe_error *err) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(values[i]))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "%s: %s a value that is not finite (%g at %lld)", where, what,
                                (double)values[i], (long long)i);
    return SOOTHE_OK;
}

static enum soothe_status decode(float *values, const void *bytes, enum ggml_type type, int64_t ne0, const char *where,
                                 struct soothe_error *err) {
    if (!soothe__type_readable(type))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s: type %s cannot be read as numbers", where,
                            ggml_type_name(type));
    soothe__dequantise(values, bytes, type, ne0);
    return SOOTHE_OK;
}

enum soothe_status soothe__row_decode(float *values, const void *bytes, enum ggml_type type, int64_t ne0,
                                      const char *where, struct soothe_error *err) {
    const enum soothe_status status = decode(values, bytes, type, ne0, where, err);
    return status ? status : check_finite(values, ne0, "the file holds", where, err);
}

enum soothe_status soothe__row_encode(void *bytes, const float *values, enum ggml_type type, int64_t ne0,
                                      float *scratch, const char *where, struct soothe_error *err) {
    enum soothe_status status = check_finite(values, ne0, "the edit gives", where, err);
    if (status)
        return status;
    if (!soothe__type_writable(type))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s: rows of type %s cannot be written", where,
                            ggml_type_name(type));
    if (type == GGML_TYPE_F32) {
        memcpy(bytes, values, (size_t)ne0 * sizeof *values);
        return SOOTHE_OK;
    }
    ggml_quantize_chunk(type, values, bytes, 0, 1, ne0, NULL);
    status = decode(scratch, bytes, type, ne0, where, err);
    return status ? status : check_finite(scratch, ne0, "the edit gives, in this tensor's type,", where, err);
}
