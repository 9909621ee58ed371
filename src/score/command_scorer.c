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

static bool write_texts(FILE *out, const char *const *texts, size_t n) {
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
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

static bool read_score(const char *line, double *score) {
    json_t       *object = json_loads(line, 0, NULL);
    const json_t *value  = json_object_get(object, "score");
    const bool    ok     = json_is_null(value) || json_is_number(value);
    *score               = json_is_number(value) ? json_number_value(value) : NAN;
    json_decref(object);
    return ok && !(*score < 0.0) && !(*score > 1.0);
}

static enum soothe_status read_scores(FILE *out, const char *command, size_t n, double *scores,
                                      struct soothe_error *err) {
    char              *line = NULL;
    size_t             size = 0, i = 0;
    enum soothe_status status = SOOTHE_OK;
    rewind(out);
    while (!status && getline(&line, &size, out) >= 0) {
        if (i < n && !read_score(line, &scores[i]))
            status = soothe__fail(err, SOOTHE_E_FORMAT,
                                  "line %zu of the score command \"%s\" is not {\"score\": 0 … 1 or null}: %.60s",
                                  i + 1, command, line);
        i++;
    }
    free(line);
    if (!status && i != n)
        status =
            soothe__fail(err, SOOTHE_E_FORMAT, "the score command \"%s\" wrote %zu lines for %zu texts", command, i, n);
    return status;
}

enum soothe_status soothe__score_by_command(const char *command, const char *const *texts, size_t n, double *scores,
                                            struct soothe_error *err) {
    FILE              *in = tmpfile(), *out = tmpfile();
    enum soothe_status status = SOOTHE_OK;
    if (!in || !out || !write_texts(in, texts, n))
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write the texts for \"%s\": %s", command,
                              strerror(errno ? errno : EIO));
    if (!status)
        status = run_command(command, in, out, err);
    if (!status)
        status = read_scores(out, command, n, scores, err);
    if (in)
        fclose(in);
    if (out)
        fclose(out);
    return status;
}

/* ---- the kind "command:COMMAND" --------------------------------------------------------------------------- */

static const char PREFIX[] = "command:";

static bool takes(const char *spec, const char *general_type) {
    (void)general_type;
    return strncmp(spec, PREFIX, sizeof PREFIX - 1) == 0;
}

/* Known by its words alone: what a program on disk does behind them cannot be seen from here. */
static enum soothe_status open_command(void **self, char identity[65], const char *spec,
                                       const struct soothe__scorer_options *options, struct soothe_error *err) {
    (void)options;
    *self                       = soothe__strdup(spec + sizeof PREFIX - 1);
    struct soothe__sha256 *hash = soothe__sha256_new();
    if (*self && hash)
        soothe__sha256_add(hash, spec, strlen(spec));
    if (hash)
        soothe__sha256_finish(hash, identity);
    if (*self && hash)
        return SOOTHE_OK;
    free(*self);
    *self = NULL;
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
}

static enum soothe_status score_texts(void *self, const char *const *texts, size_t n, struct soothe__score *scores,
                                      struct soothe_error *err) {
    double *values = soothe__calloc(n + 1, sizeof *values);
    if (!values)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", n);
    const enum soothe_status status = soothe__score_by_command(self, texts, n, values, err);
    for (size_t i = 0; !status && i < n; i++)
        scores[i] = isnan(values[i]) ? soothe__no_score("the command said null")
                                     : (struct soothe__score){.toxicity = values[i]};
    free(values);
    return status;
}

extern const struct soothe__scorer_kind soothe__scorer_command;
const struct soothe__scorer_kind        soothe__scorer_command = {
           .name = "command", .takes = takes, .open = open_command, .score = score_texts, .close = free};
