/* SPDX-License-Identifier: Apache-2.0
 * Statuses, their names, and the sentence that goes with a failure. */
#include "base/base.h"

const char *soothe_status_name(enum soothe_status status) {
    switch (status) {
    case SOOTHE_OK:
        return "SOOTHE_OK";
    case SOOTHE_E_ARGUMENT:
        return "SOOTHE_E_ARGUMENT";
    case SOOTHE_E_IO:
        return "SOOTHE_E_IO";
    case SOOTHE_E_FORMAT:
        return "SOOTHE_E_FORMAT";
    case SOOTHE_E_SHAPE:
        return "SOOTHE_E_SHAPE";
    case SOOTHE_E_MISMATCH:
        return "SOOTHE_E_MISMATCH";
    case SOOTHE_E_UNSUPPORTED:
        return "SOOTHE_E_UNSUPPORTED";
    case SOOTHE_E_MEMORY:
        return "SOOTHE_E_MEMORY";
    case SOOTHE_E_ENGINE:
        return "SOOTHE_E_ENGINE";
    case SOOTHE_E_NETWORK:
        return "SOOTHE_E_NETWORK";
    case SOOTHE_E_INTERRUPTED:
        return "SOOTHE_E_INTERRUPTED";
    case SOOTHE_E_NUMERIC:
        return "SOOTHE_E_NUMERIC";
    }
    return "SOOTHE_E_?"; /* a number that is no status, from a newer or a broken caller */
}

enum soothe_status soothe__fail(struct soothe_error *err, enum soothe_status status, const char *format, ...) {
    if (err) {
        /* The arguments may point into err->message (a sentence wrapped in another one). */
        char    message[sizeof err->message];
        va_list args;
        va_start(args, format);
        if (vsnprintf(message, sizeof message, format, args) < 0)
            message[0] = '\0';
        va_end(args);
        err->status = status;
        snprintf(err->message, sizeof err->message, "%s", message);
    }
    return status;
}
