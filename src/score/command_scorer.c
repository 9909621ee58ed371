/* SPDX-License-Identifier: Apache-2.0 */
#include "score/command_scorer.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "score/scorer.h"

/* JSON carries UTF-8 alone: other texts are not sent, and no line comes back for them. */
static bool is_sent(const char *text) {
    return soothe__utf8_valid(text, strlen(text));
}

static bool write_texts(FILE *out, const char *const *texts, size_t n) {
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        if (!is_sent(texts[i]))
            continue;
        json_t *line = json_pack("{s:s}", "text", texts[i]);
        ok           = line && json_dumpf(line, out, JSON_COMPACT) == 0 && fputc('\n', out) != EOF;
        json_decref(line);
    }
    return ok && fflush(out) == 0 && fseeko(out, 0, SEEK_SET) == 0;
}

/* Runs the command between two files: no pipe can fill up and stall both sides. */
static enum soothe_status run_command(const char *command, FILE *in, FILE *out, struct soothe_error *err) {
    const pid_t child = fork();
    if (child < 0)
        return soothe__fail(err, SOOTHE_E_IO, "cannot start \"%s\": %s", command, strerror(errno));
    if (child == 0) {
        signal(SIGPIPE, SIG_DFL); /* which the command line tool ignores, and shells expect to work */
        if (dup2(fileno(in), STDIN_FILENO) >= 0 && dup2(fileno(out), STDOUT_FILENO) >= 0)
            execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    int result = 0;
    while (waitpid(child, &result, 0) < 0)
        if (errno != EINTR)
            return soothe__fail(err, SOOTHE_E_IO, "cannot wait for \"%s\": %s", command, strerror(errno));
    if (!WIFEXITED(result) || WEXITSTATUS(result) != 0)
        return soothe__fail(err, SOOTHE_E_IO, "the score command \"%s\" failed (%s %d)", command,
                            WIFEXITED(result) ? "exit code" : "signal",
                            WIFEXITED(result) ? WEXITSTATUS(result) : WTERMSIG(result));
    return SOOTHE_OK;
}

static const json_t *either(const json_t *object, const char *name, const char *other) {
    const json_t *value = json_object_get(object, name);
    return value ? value : json_object_get(object, other);
}

/* Whether the line is what the command owes: a score in range, or null. */
static bool read_score(const char *line, size_t size, struct soothe__score *score) {
    json_t       *object = json_loadb(line, size, 0, NULL);
    const json_t *value  = either(object, "toxicity", "score");
    const char   *why    = json_string_value(either(object, "why", "reason"));
    const double  x      = json_is_number(value) ? json_number_value(value) : NAN;
    bool          good   = true;
    if (x >= 0 && x <= 1) {
        *score = (struct soothe__score){.toxicity = x};
    } else if (json_is_null(value)) {
        *score = soothe__no_score("%s", why && why[0] ? why : "the command said null");
    } else {
        *score = json_is_number(value) ? soothe__no_score("the command's score %g is not between 0 and 1", x)
                                       : soothe__no_score("the command's line is no score");
        good   = false;
    }
    json_decref(object);
    return good;
}

/* What a run of the command gave. */
struct lines {
    size_t n_sent, n, n_good;
    char   first_bad[60];
};

static void take_lines(FILE *out, const char *const *texts, size_t n, struct soothe__score *scores, struct lines *l) {
    char   *line = NULL;
    size_t  size = 0, i = 0;
    ssize_t length;
    rewind(out);
    while ((length = getline(&line, &size, out)) >= 0) {
        while (i < n && !is_sent(texts[i]))
            i++;
        l->n++;
        if (i == n)
            continue;
        if (read_score(line, (size_t)length, &scores[i++]))
            l->n_good++;
        else if (!l->first_bad[0] && line[0] == '{') /* an object may hold our text, which no log should show */
            snprintf(l->first_bad, sizeof l->first_bad, "{…}");
        else if (!l->first_bad[0])
            snprintf(l->first_bad, sizeof l->first_bad, "%.*s", (int)strcspn(line, "\n"), line);
    }
    free(line);
}

static enum soothe_status score_by_command(const char *command, const char *const *texts, size_t n,
                                           struct soothe__score *scores, struct lines *l, struct soothe_error *err) {
    FILE              *in = tmpfile(), *out = tmpfile();
    enum soothe_status status = SOOTHE_OK;
    *l                        = (struct lines){0};
    for (size_t i = 0; i < n; i++) {
        l->n_sent += is_sent(texts[i]);
        scores[i] = soothe__no_score("the text is not valid UTF-8"); /* of those that are sent, until a line comes */
    }
    if (!in || !out || !write_texts(in, texts, n))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write the texts for \"%s\": %s", command,
                              strerror(errno ? errno : EIO));
    if (!status && l->n_sent > 0)
        status = run_command(command, in, out, err);
    if (!status)
        take_lines(out, texts, n, scores, l);
    if (in)
        fclose(in);
    if (out)
        fclose(out);
    return status;
}

/* A command that says nothing usable at all is the wrong command, not one that cannot judge these texts. With another
 * number of lines than texts nobody knows whose they are. */
static enum soothe_status check_lines(const char *command, const struct lines *l, bool understood,
                                      struct soothe_error *err) {
    if (l->n > 0 && l->n_good == 0 && l->first_bad[0] && !understood)
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "no line of the score command \"%s\" is {\"toxicity\": 0 … 1 or null}: %s", command,
                            l->first_bad);
    if (l->n != l->n_sent)
        return soothe__fail(err, SOOTHE_E_FORMAT, "the score command \"%s\" wrote %zu lines for %zu texts", command,
                            l->n, l->n_sent);
    return SOOTHE_OK;
}

enum soothe_status soothe__score_by_command(const char *command, const char *const *texts, size_t n, double *values,
                                            struct soothe_error *err) {
    struct lines          l;
    struct soothe__score *scores = soothe__calloc(n + 1, sizeof *scores);
    if (!scores)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", n);
    enum soothe_status status = score_by_command(command, texts, n, scores, &l, err);
    if (!status)
        status = check_lines(command, &l, false, err);
    for (size_t i = 0; !status && i < n; i++)
        values[i] = scores[i].toxicity;
    free(scores);
    return status;
}

/* ---- the kind "command:COMMAND" --------------------------------------------------------------------------- */

static const char PREFIX[] = "command:";

static bool takes(const char *spec, const char *general_type) {
    (void)general_type;
    return strncmp(spec, PREFIX, sizeof PREFIX - 1) == 0;
}

struct command {
    char *words;
    bool  understood; /* some line of its was one of scores */
};

static void close_command(void *self) {
    struct command *c = self;
    free(c->words);
    free(c);
}

/* Known by its words alone: what a program on disk does behind them cannot be seen from here. */
static enum soothe_status open_command(void **self, char identity[65], const char *spec,
                                       const struct soothe__scorer_options *options, struct soothe_error *err) {
    (void)options;
    struct command        *c     = soothe__calloc(1, sizeof *c);
    char                  *words = soothe__strdup(spec + sizeof PREFIX - 1);
    struct soothe__sha256 *hash  = soothe__sha256_new();
    if (hash) {
        soothe__sha256_add(hash, spec, strlen(spec));
        soothe__sha256_finish(hash, identity);
    }
    if (c && words && hash) {
        c->words = words;
        *self    = c;
        return SOOTHE_OK;
    }
    free(c);
    free(words);
    *self = NULL;
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
}

static enum soothe_status score_texts(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                      struct soothe_error *err) {
    struct command    *c = self;
    struct lines       l;
    enum soothe_status status = score_by_command(c->words, texts, n, scores, &l, err);
    if (!status)
        status = check_lines(c->words, &l, c->understood, err);
    c->understood = c->understood || (!status && l.n_good > 0);
    return status;
}

extern const struct soothe__scorer_kind soothe__scorer_command;
const struct soothe__scorer_kind        soothe__scorer_command = {
           .name = "command", .takes = takes, .open = open_command, .score = score_texts, .close = close_command};
