/* SPDX-License-Identifier: Apache-2.0
 * The kind "http://…" or "https://…": an endpoint in the shape of OpenAI's /v1/moderations.
 *   POST {"input": ["…", …]}, perhaps with "model"  ->  {"results": [{"category_scores": {…}, "flagged": …}, …]}
 * A text's score is the highest of the chosen categories' scores, by default of all of them. An answer that has only
 * "flagged" gives 1 or 0: a judgement, but no degree.
 *   http://HOST:PORT/PATH#model=NAME&categories=a,b&batch=N&timeout=SECONDS&tries=N&wait_ms=N&key=VARIABLE
 * The key for the header Authorization is read from the environment, from SOOTHE_SCORER_KEY unless another variable is
 * named, and never shown; it goes over https://, or to this machine. What goes wrong with a batch
 * after its retries leaves its texts without a score, with the reason; an endpoint that cannot be reached at all from
 * the first batch on, or that refuses the key, is an error: nothing would be judged. */
#include <arpa/inet.h>
#include <curl/curl.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "score/scorer.h"

#if LIBCURL_VERSION_NUM >= 0x075500
#define SET_PROTOCOLS(curl) curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https")
#else
#define SET_PROTOCOLS(curl) curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS))
#endif

enum { BATCH = 32, TIMEOUT_S = 60, TRIES = 4, WAIT_MS = 1000, ANSWER_MAX = 16 << 20, WAIT_MAX_MS = 30000 };

struct endpoint {
    CURL              *curl;
    struct curl_slist *headers;
    char              *url, *model, *categories; /* model and categories may be NULL */
    char              *key_name;                 /* of the variable; NULL: SOOTHE_SCORER_KEY, "": send none */
    char              *key;                      /* NULL: none is sent */
    int64_t            batch, timeout_s, tries, wait_ms;
    bool               answered; /* some batch had a good answer                          */
    bool               down;     /* the last batch failed after its retries: now one try each */
};

struct answer {
    char  *data;
    size_t size, capacity;
    bool   too_long;
};

/* ---- the SPEC --------------------------------------------------------------------------------------------- */

static bool takes(const char *spec, const char *general_type) {
    (void)general_type;
    return strncasecmp(spec, "http://", 7) == 0 || strncasecmp(spec, "https://", 8) == 0;
}

/* https://user:secret@host/ and https://host/?api_key=secret. Of the path no one can tell. */
static bool may_have_credentials(const char *url) {
    const char *host = strstr(url, "//") + 2;
    return memchr(host, '@', strcspn(host, "/?#")) || memchr(host, '?', strcspn(host, "#"));
}

/* Is the host this machine? The address is taken apart by whoever will send to it. */
static bool is_loopback(const char *address) {
    CURLU         *url  = curl_url();
    char          *host = NULL;
    struct in_addr ip;
    const bool     known = url && curl_url_set(url, CURLUPART_URL, address, 0) == CURLUE_OK &&
                       curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK && host;
    const bool is = known && (strcasecmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0 ||
                              (inet_pton(AF_INET, host, &ip) == 1 && ntohl(ip.s_addr) >> 24 == 127));
    curl_free(host);
    curl_url_cleanup(url);
    return is;
}

static enum soothe_status take_option(struct endpoint *e, const char *name, const char *value,
                                      struct soothe_error *err) {
    char **text = strcmp(name, "model") == 0        ? &e->model
                  : strcmp(name, "categories") == 0 ? &e->categories
                  : strcmp(name, "key") == 0        ? &e->key_name
                                                    : NULL;
    if (text && (value[0] || text == &e->key_name)) {
        free(*text);
        *text = soothe__strdup(value);
        return *text ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening a scorer");
    }
    if (strcmp(name, "batch") == 0 && soothe__parse_int64(&e->batch, value, 1, 2048))
        return SOOTHE_OK;
    if (strcmp(name, "timeout") == 0 && soothe__parse_int64(&e->timeout_s, value, 1, 3600))
        return SOOTHE_OK;
    if (strcmp(name, "tries") == 0 && soothe__parse_int64(&e->tries, value, 1, 10))
        return SOOTHE_OK;
    if (strcmp(name, "wait_ms") == 0 && soothe__parse_int64(&e->wait_ms, value, 0, WAIT_MAX_MS))
        return SOOTHE_OK;
    return soothe__fail(
        err, SOOTHE_E_ARGUMENT,
        "behind the address there may be #model=NAME, categories=NAME,NAME, batch=1…2048, "
        "timeout=1…3600 (seconds), tries=1…10, wait_ms=0…30000 and key=VARIABLE, joined by &; not \"%s=%s\"",
        name, value);
}

static enum soothe_status take_options(struct endpoint *e, char *options, struct soothe_error *err) {
    char              *rest   = NULL;
    enum soothe_status status = SOOTHE_OK;
    for (char *word = strtok_r(options, "&", &rest); word && !status; word = strtok_r(NULL, "&", &rest)) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = '\0';
        status = take_option(e, word, value ? value : "", err);
    }
    return status;
}

/* A key that crosses the net in the clear, or goes to a host that it is not for, is lost. */
static enum soothe_status take_key(struct endpoint *e, struct soothe_error *err) {
    const char *name = e->key_name ? e->key_name : "SOOTHE_SCORER_KEY";
    const char *key  = name[0] ? getenv(name) : NULL;
    if (e->key_name && name[0] && (!key || !key[0]))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the scorer's key is to be in %s, which is not set", name);
    if (!key || !key[0])
        return SOOTHE_OK;
    if (key[strcspn(key, "\r\n")])
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s holds more than one line: no key does", name);
    if (strncasecmp(e->url, "https://", 8) != 0 && !is_loopback(e->url))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the key in %s would go unencrypted to %s: take https://, or add key= to send none", name,
                            e->url);
    e->key = soothe__strdup(key);
    return e->key ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening a scorer");
}

static void close_endpoint(void *self) {
    struct endpoint *e = self;
    if (e->curl)
        curl_easy_cleanup(e->curl);
    curl_slist_free_all(e->headers);
    free(e->url);
    free(e->model);
    free(e->categories);
    free(e->key_name);
    free(e->key);
    free(e);
}

static bool add_header(struct endpoint *e, const char *line) {
    struct curl_slist *more = curl_slist_append(e->headers, line);
    e->headers              = more ? more : e->headers;
    return more != NULL;
}

static size_t receive(char *data, size_t size, size_t n, void *user) {
    struct answer *a = user;
    n *= size;
    if (n > ANSWER_MAX - a->size) {
        a->too_long = true;
        return 0;
    }
    if (a->size + n + 1 > a->capacity) {
        const size_t capacity = 2 * (a->size + n + 1);
        char        *grown    = soothe__realloc(a->data, capacity, 1);
        if (!grown)
            return 0;
        a->data     = grown;
        a->capacity = capacity;
    }
    memcpy(a->data + a->size, data, n);
    a->size += n;
    a->data[a->size] = '\0';
    return n;
}

static bool prepare(struct endpoint *e) {
    e->curl = curl_easy_init();
    if (!e->curl || !add_header(e, "Content-Type: application/json") || !add_header(e, "Accept: application/json"))
        return false;
    if (e->key) {
        char      *line = soothe__format("Authorization: Bearer %s", e->key);
        const bool ok   = line && add_header(e, line);
        free(line);
        if (!ok)
            return false;
    }
    if (is_loopback(e->url) &&
        curl_easy_setopt(e->curl, CURLOPT_PROXY, "") != CURLE_OK) /* nor by way of another host */
        return false;
    return SET_PROTOCOLS(e->curl) == CURLE_OK && curl_easy_setopt(e->curl, CURLOPT_URL, e->url) == CURLE_OK &&
           curl_easy_setopt(e->curl, CURLOPT_USERAGENT, "soothe/" SOOTHE_VERSION) == CURLE_OK &&
           curl_easy_setopt(e->curl, CURLOPT_HTTPHEADER, e->headers) == CURLE_OK &&
           curl_easy_setopt(e->curl, CURLOPT_FOLLOWLOCATION, 0L) == CURLE_OK && /* the key stays with its host */
           curl_easy_setopt(e->curl, CURLOPT_NOSIGNAL, 1L) == CURLE_OK &&
           curl_easy_setopt(e->curl, CURLOPT_CONNECTTIMEOUT, 10L) == CURLE_OK &&
           curl_easy_setopt(e->curl, CURLOPT_TIMEOUT, (long)e->timeout_s) == CURLE_OK &&
           curl_easy_setopt(e->curl, CURLOPT_WRITEFUNCTION, receive) == CURLE_OK;
}

/* Known by its address and options alone: what stands behind them may change unseen. */
static bool identify(char identity[65], const struct endpoint *e) {
    struct soothe__sha256 *hash = soothe__sha256_new();
    char                  *text =
        soothe__format("http 1\n%s\n%s\n%s", e->url, e->model ? e->model : "", e->categories ? e->categories : "");
    if (hash && text)
        soothe__sha256_add(hash, text, strlen(text));
    if (hash)
        soothe__sha256_finish(hash, identity);
    free(text);
    return hash && text;
}

static enum soothe_status open_endpoint(void **self, char identity[65], const char *spec,
                                        const struct soothe__scorer_options *options, struct soothe_error *err) {
    (void)options;
    struct endpoint   *e      = soothe__calloc(1, sizeof *e);
    enum soothe_status status = SOOTHE_OK;
    *self                     = NULL;
    if (e) {
        e->batch     = BATCH;
        e->timeout_s = TIMEOUT_S;
        e->tries     = TRIES;
        e->wait_ms   = WAIT_MS;
        e->url       = soothe__strdup(spec);
    }
    if (!e || !e->url)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening a scorer");
    if (!status && may_have_credentials(e->url))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                              "the address of a scorer stands in reports, so it may hold no user@ and no ?query: a key "
                              "goes into SOOTHE_SCORER_KEY, options behind #");
    char *mark = status ? NULL : strchr(e->url, '#');
    if (mark) {
        *mark  = '\0';
        status = take_options(e, mark + 1, err);
    }
    if (!status)
        status = take_key(e, err);
    if (!status && (!prepare(e) || !identify(identity, e)))
        status = soothe__fail(err, SOOTHE_E_NETWORK, "cannot prepare requests to %s", e->url);
    if (status && e)
        close_endpoint(e);
    else if (!status)
        *self = e;
    return status;
}

/* ---- one answer -------------------------------------------------------------------------------------------- */

static bool is_chosen(const char *categories, const char *name) {
    if (!categories)
        return true;
    const size_t size = strlen(name);
    for (const char *p = categories; *p; p += strspn(p, ",")) {
        const size_t n = strcspn(p, ",");
        if (n == size && strncmp(p, name, n) == 0)
            return true;
        p += n;
    }
    return false;
}

static struct soothe__score read_result(const json_t *result, const char *categories) {
    json_t       *scores  = json_object_get(result, "category_scores"), *value;
    const json_t *flagged = json_object_get(result, "flagged");
    double        highest = NAN;
    const char   *name;
    json_object_foreach(scores, name, value) {
        if (!is_chosen(categories, name) || json_is_null(value))
            continue; /* null: the endpoint does not judge this category for this input */
        if (!json_is_number(value) || !(json_number_value(value) >= 0 && json_number_value(value) <= 1))
            return soothe__no_score("the endpoint's score for %.40s is not between 0 and 1", name);
        highest = fmax(highest, json_number_value(value));
    }
    if (!isnan(highest))
        return (struct soothe__score){.toxicity = highest};
    if (json_object_size(scores) > 0 && categories)
        return soothe__no_score("the endpoint has no category %.50s", categories);
    if (json_is_boolean(flagged) && !categories)
        return (struct soothe__score){.toxicity = json_is_true(flagged)};
    return soothe__no_score("the endpoint's answer has no score for this text");
}

/* What the endpoint itself says is wrong, cut; never our request, which holds the texts. */
static void say_why(char out[96], const char *key, long code, const char *body) {
    json_t     *object  = json_loads(body ? body : "", 0, NULL);
    json_t     *error   = json_object_get(object, "error");
    const char *message = json_string_value(json_is_object(error) ? json_object_get(error, "message") : error);
    if (message && key && strstr(message, key))
        message = "(its message repeats the key)";
    snprintf(
        out, 96, "%s",
        soothe__no_score("the endpoint answered %ld%s%.60s", code, message ? ": " : "", message ? message : "").why);
    json_decref(object);
}

static void read_answer(const struct answer *a, size_t n, const char *categories, struct soothe__score *scores,
                        bool *good) {
    json_t       *object  = json_loadb(a->data ? a->data : "", a->size, 0, NULL);
    const json_t *results = json_object_get(object, "results");
    *good                 = json_is_array(results) && json_array_size(results) == n;
    for (size_t i = 0; i < n; i++) {
        if (*good)
            scores[i] = read_result(json_array_get(results, i), categories);
        else if (json_is_array(results)) /* whose result is whose cannot be known */
            scores[i] = soothe__no_score("the endpoint gave %zu results for %zu texts", json_array_size(results), n);
        else
            scores[i] = soothe__no_score("the endpoint's answer is no list of results");
    }
    json_decref(object);
}

/* ---- asking ------------------------------------------------------------------------------------------------- */

static char *request_of(const struct endpoint *e, const char *const *texts, size_t n) {
    json_t *input = json_array(), *object;
    for (size_t i = 0; i < n; i++)
        json_array_append_new(input, json_string(texts[i]));
    char *body = NULL;
    if (json_array_size(input) == n && (object = json_pack("{s:O}", "input", input))) {
        if (!e->model || json_object_set_new(object, "model", json_string(e->model)) == 0)
            body = json_dumps(object, JSON_COMPACT);
        json_decref(object);
    }
    json_decref(input);
    return body;
}

/* 1 s, 2 s, 4 s, …, or what the endpoint asks for; at most 30 s. */
static void wait_before(const struct endpoint *e, int i_try) {
    int64_t    ms    = e->wait_ms << i_try;
    curl_off_t asked = 0;
    if (curl_easy_getinfo(e->curl, CURLINFO_RETRY_AFTER, &asked) == CURLE_OK && asked > 0)
        ms = asked < WAIT_MAX_MS / 1000 ? (int64_t)asked * 1000 : WAIT_MAX_MS;
    ms                         = ms < WAIT_MAX_MS ? ms : WAIT_MAX_MS;
    const struct timespec time = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* How one exchange ended: code 0 where none was had. */
struct outcome {
    long code;
    bool again, unreachable;
    char why[96];
};

static struct outcome exchange(struct endpoint *e, const char *body, struct answer *a) {
    struct outcome o = {0};
    free(a->data);
    *a = (struct answer){0};
    curl_easy_setopt(e->curl, CURLOPT_WRITEDATA, a);
    curl_easy_setopt(e->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(body));
    curl_easy_setopt(e->curl, CURLOPT_POSTFIELDS, body);
    const CURLcode result = curl_easy_perform(e->curl);
    curl_easy_getinfo(e->curl, CURLINFO_RESPONSE_CODE, &o.code);
    if (result != CURLE_OK) {
        snprintf(o.why, sizeof o.why, "no answer from the endpoint: %s",
                 a->too_long ? "too long" : curl_easy_strerror(result));
        o.again       = !a->too_long;
        o.unreachable = result == CURLE_COULDNT_CONNECT || result == CURLE_COULDNT_RESOLVE_HOST ||
                        result == CURLE_COULDNT_RESOLVE_PROXY;
        o.code = 0;
    } else if (o.code != 200) {
        say_why(o.why, e->key, o.code, a->data);
        o.again = o.code == 408 || o.code == 429 || o.code >= 500;
    }
    return o;
}

static enum soothe_status score_batch(struct endpoint *e, const char *const *texts, size_t n,
                                      struct soothe__score *scores, struct soothe_error *err) {
    struct answer a    = {0};
    char         *body = request_of(e, texts, n);
    if (!body) {
        for (size_t i = 0; i < n; i++)
            scores[i] = soothe__no_score("the text is not valid UTF-8");
        return SOOTHE_OK;
    }
    struct outcome o = exchange(e, body, &a);
    for (int i = 1; o.again && !e->down && i < e->tries; i++) {
        wait_before(e, i - 1);
        o = exchange(e, body, &a);
    }
    enum soothe_status status = SOOTHE_OK;
    bool               good   = false;
    e->down                   = o.again;
    if (o.why[0] == '\0')
        read_answer(&a, n, e->categories, scores, &good);
    else if ((o.unreachable && !e->answered) || o.code == 401 || o.code == 403 || o.code == 404)
        status = soothe__fail(err, SOOTHE_E_NETWORK, "%s: %s", e->url, o.why);
    else
        for (size_t i = 0; i < n; i++)
            scores[i] = soothe__no_score("%s", o.why);
    e->answered = e->answered || good;
    free(a.data);
    free(body);
    return status;
}

/* A text that JSON cannot carry is left out, so that it does not take its batch with it. */
static enum soothe_status score_texts(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                      struct soothe_error *err) {
    struct endpoint      *e      = self;
    const char          **some   = soothe__calloc((size_t)e->batch, sizeof *some);
    size_t               *places = soothe__calloc((size_t)e->batch, sizeof *places);
    struct soothe__score *found  = soothe__calloc((size_t)e->batch, sizeof *found);
    enum soothe_status    status = SOOTHE_OK;
    if (!some || !places || !found)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a batch of %lld texts", (long long)e->batch);
    for (size_t i = 0; i < n && !status;) {
        size_t m = 0;
        for (; i < n && m < (size_t)e->batch; i++) {
            if (soothe__utf8_valid(texts[i], strlen(texts[i]))) {
                places[m] = i;
                some[m++] = texts[i];
            } else {
                scores[i] = soothe__no_score("the text is not valid UTF-8");
            }
        }
        if (m > 0)
            status = score_batch(e, some, m, found, err);
        for (size_t j = 0; j < m && !status; j++)
            scores[places[j]] = found[j];
    }
    free(some);
    free(places);
    free(found);
    return status;
}

extern const struct soothe__scorer_kind soothe__scorer_http;
const struct soothe__scorer_kind        soothe__scorer_http = {
           .name = "http", .takes = takes, .open = open_endpoint, .score = score_texts, .close = close_endpoint};
