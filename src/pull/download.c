/* SPDX-License-Identifier: Apache-2.0
 * One file from the net, continued where the last attempt ended. */
#define _XOPEN_SOURCE 700
#include <curl/curl.h>
#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "pull/steps.h"

enum { MAX_ATTEMPTS = 4 };

struct transfer {
    const struct task *task;
    FILE              *out;
    int64_t            resumed_at; /* bytes that were there before this attempt */
    int64_t            limit;      /* more than this is refused; 0: none        */
    int64_t            written;    /* by this attempt                           */
    double             started;
    int                write_error;
    bool               too_long;
};

bool task_stopped(const struct task *task) {
    return task->stop && *task->stop;
}

enum soothe_status task_interrupted(const struct task *task, struct soothe_error *err) {
    return soothe__fail(err, SOOTHE_E_INTERRUPTED, "stopped while pulling %s; the next call goes on from there",
                        task->name);
}

static size_t on_data(char *data, size_t size, size_t n, void *user) {
    struct transfer *t     = user;
    const size_t     bytes = size * n;
    if (t->limit && t->resumed_at + t->written + (int64_t)bytes > t->limit) {
        t->too_long = true;
        return 0; /* anything but bytes ends the transfer */
    }
    errno = 0;
    if (fwrite(data, 1, bytes, t->out) != bytes) {
        t->write_error = errno ? errno : EIO;
        return 0;
    }
    t->written += (int64_t)bytes;
    return bytes;
}

static int on_progress(void *user, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up_now) {
    struct transfer   *t    = user;
    const struct task *task = t->task;
    (void)up_total;
    (void)up_now;
    if (task_stopped(task))
        return 1;
    (void)now;
    if (task->progress && t->written > 0) {
        const double seconds = soothe__seconds() - t->started;
        const double done    = (double)(task->before + t->resumed_at + t->written);
        const double all     = task->total ? (double)task->total : (double)(t->resumed_at + total);
        char         detail[120];
        snprintf(detail, sizeof detail, "%.1f of %.1f MB, %.1f MB/s", done / 1e6, all / 1e6,
                 (double)t->written / 1e6 / (seconds > 0.01 ? seconds : 0.01));
        if (all > 0)
            soothe__progress_update(task->progress, done / all, detail);
    }
    return 0;
}

static CURLcode attempt(struct transfer *t, const char *url, long *http, char reason[CURL_ERROR_SIZE]) {
    CURL *curl = curl_easy_init();
    if (!curl)
        return CURLE_OUT_OF_MEMORY;
    curl_easy_setopt(curl, CURLOPT_URL, url);
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, 10L);
    curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 20L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L); /* silent for half a minute: given up */
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, 30L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "soothe/" SOOTHE_VERSION);
    curl_easy_setopt(curl, CURLOPT_RESUME_FROM_LARGE, (curl_off_t)t->resumed_at);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
    reason[0]           = '\0';
    const CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, http);
    curl_easy_cleanup(curl);
    if (!reason[0])
        snprintf(reason, CURL_ERROR_SIZE, "%s", curl_easy_strerror(code));
    return code;
}

/* Worth another try: the line or the server failed, not the request. */
static bool is_transient(CURLcode code, long http) {
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
        return true;
    case CURLE_HTTP_RETURNED_ERROR:
        return http == 408 || http == 429 || http >= 500;
    default:
        return false;
    }
}

static void pause_before_retry(const struct task *task, int i_attempt) {
    const double until = soothe__seconds() + task->retry_seconds * (double)(1 << i_attempt);
    while (soothe__seconds() < until && !task_stopped(task))
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
}

static enum soothe_status describe(const struct transfer *t, CURLcode code, long http, const char *url,
                                   const char *path, const char *reason, struct soothe_error *err) {
    if (t->write_error)
        return soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s; what is loaded is kept", path,
                            strerror(t->write_error));
    if (t->too_long)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is longer than the %lld bytes it should have", url,
                            (long long)t->limit);
    if (code == CURLE_ABORTED_BY_CALLBACK)
        return task_interrupted(t->task, err);
    if (code == CURLE_HTTP_RETURNED_ERROR && (http == 404 || http == 410))
        return soothe__fail(err, SOOTHE_E_NETWORK, "there is no %s (the server answers %ld)", url, http);
    if (code == CURLE_HTTP_RETURNED_ERROR)
        return soothe__fail(err, SOOTHE_E_NETWORK, "the server answers %ld for %s", http, url);
    return soothe__fail(err, SOOTHE_E_NETWORK, "cannot load %s: %s", url, reason);
}

enum soothe_status download(const char *url, const char *path, int64_t size, const struct task *task,
                            struct soothe_error *err) {
    for (int i_attempt = 0;;) {
        int64_t there = soothe__file_size(path);
        if (size && there == size)
            return SOOTHE_OK;
        if (size && there > size)
            there = 0;
        struct transfer t = {.task = task, .resumed_at = there, .limit = size, .started = soothe__seconds()};
        char            reason[CURL_ERROR_SIZE];
        long            http = 0;
        t.out                = fopen(path, there ? "ab" : "wb");
        if (!t.out)
            return soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
        CURLcode code = attempt(&t, url, &http, reason);
        if (fclose(t.out) != 0 && !t.write_error) {
            t.write_error = errno;
            if (!code)
                code = CURLE_WRITE_ERROR;
        }
        if (!code && size && t.resumed_at + t.written < size)
            code = CURLE_PARTIAL_FILE; /* a server that lies about the length */
        if (!code)
            return SOOTHE_OK;

        /* The server cannot continue, or what is there is not of this file: from the start. */
        if (there && (t.too_long || code == CURLE_RANGE_ERROR || code == CURLE_BAD_DOWNLOAD_RESUME || http == 416)) {
            if (unlink(path) != 0)
                return soothe__fail(err, SOOTHE_E_IO, "cannot remove %s: %s", path, strerror(errno));
            continue;
        }
        if (t.written > 0)
            i_attempt = 0; /* it moves: patience begins anew */
        const bool local = t.write_error || t.too_long;
        if (local || !is_transient(code, http) || ++i_attempt >= MAX_ATTEMPTS || task_stopped(task)) {
            if (t.too_long || soothe__file_size(path) == 0)
                unlink(path);
            return describe(&t, task_stopped(task) && !local ? CURLE_ABORTED_BY_CALLBACK : code, http, url, path,
                            reason, err);
        }
        pause_before_retry(task, i_attempt - 1);
    }
}
