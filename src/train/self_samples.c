/* SPDX-License-Identifier: Apache-2.0
 * Sampling the target, in portions that are kept as they are done. */
#include "train/self_samples.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"
#include "engine/text_tokens.h"
#include "generate/generate.h"
#include "score/score.h"
#include "score/scorer.h"
#include "corpus/corpus.h"

enum {
    PORTION   = 96,     /* prompts sampled together */
    CELLS_MAX = 1 << 14 /* of the cache, whatever the prompts' length: 380 MB with SmolLM2-135M */
};

struct soothe__self_options soothe__self_options_default(void) {
    return (struct soothe__self_options){
        .n_samples = 8, .n_predict = 20, .n_parallel = 48, .temp = 1.0f, .top_p = 0.9f, .seed = 1};
}

/* ---- prompts --------------------------------------------------------------------------------------------- */

struct prompts {
    char **texts;
    size_t n, capacity;
    size_t n_empty;    /* the first so many: "", of which texts begin from nothing */
    char   sha256[65]; /* of the file; "" without */
};

static void prompts_free(struct prompts *p) {
    for (size_t i = 0; i < p->n; i++)
        free(p->texts[i]);
    free(p->texts);
}

/* The prompt of a line, or NULL: a text, or RealToxicityPrompts' object with the text in it. */
static char *prompt_of(const char *line, size_t size) {
    json_t       *object = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *value  = json_object_get(object, "prompt");
    if (json_is_object(value))
        value = json_object_get(value, "text");
    const char *text = json_string_value(value);
    char       *copy = text && text[strspn(text, " \t\r\n")] ? soothe__strdup(text) : NULL;
    json_decref(object);
    return copy;
}

static bool add_prompt(struct prompts *p, char *text) {
    if (p->n == p->capacity) {
        const size_t more  = p->capacity ? 2 * p->capacity : 256;
        char       **grown = soothe__realloc(p->texts, more, sizeof *grown);
        if (!grown) {
            free(text);
            return false;
        }
        p->texts    = grown;
        p->capacity = more;
    }
    p->texts[p->n++] = text;
    return true;
}

static enum soothe_status add_empty_prompts(struct prompts *p, const struct soothe__self_options *o,
                                            struct soothe_error *err) {
    p->n_empty = (o->n_unprompted + (size_t)o->n_samples - 1) / (size_t)o->n_samples;
    while (p->n < p->n_empty) {
        char *text = soothe__strdup("");
        if (!text || !add_prompt(p, text))
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu texts", o->n_unprompted);
    }
    return SOOTHE_OK;
}

static enum soothe_status read_prompts(struct prompts *p, const struct soothe__self_options *o,
                                       struct soothe_error *err) {
    struct soothe__lines *lines;
    enum soothe_status    status = add_empty_prompts(p, o, err);
    if (status || !o->prompts_path)
        return status;
    status = soothe__lines_open(&lines, o->prompts_path, err);
    if (status)
        return status;
    for (;;) {
        char  *line;
        size_t size;
        bool   too_long;
        status = soothe__lines_next(lines, &line, &size, &too_long, err);
        if (status || !line)
            break;
        char *text = too_long ? NULL : prompt_of(line, size);
        if (!text || (o->n_prompts_max && p->n - p->n_empty == o->n_prompts_max)) {
            free(text);
            continue;
        }
        if (!add_prompt(p, text)) {
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the prompts of %s", o->prompts_path);
            break;
        }
    }
    soothe__lines_close(lines, p->sha256);
    if (!status && p->n == p->n_empty)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s holds no line {\"prompt\": \"…\"}", o->prompts_path);
    return status;
}

/* ---- sampling one portion ----------------------------------------------------------------------------------- */

struct portion {
    char **completions; /* (n prompts x n_samples), in order */
    size_t n_samples;
    bool   failed; /* out of memory */
};

static void on_done(void *user, const struct soothe__continuation *c) {
    struct portion *p = user;
    if (c->finish == SOOTHE__FINISH_INTERRUPTED)
        return;
    char *copy                                                       = soothe__strdup(c->text);
    p->failed                                                        = p->failed || !copy;
    p->completions[c->i_prompt * p->n_samples + (size_t)c->i_sample] = copy;
}

static bool stopped(const struct soothe__self_options *o) {
    return o->stop && *o->stop;
}

struct sampler {
    const struct soothe__self_options *o;
    const struct prompts              *prompts;
    struct soothe__prompt             *tokens; /* one per prompt */
    struct soothe__scorer             *scorer; /* NULL: score_command, or the lexicon */
    struct llama_model                *model;
    struct soothe_session             *session;
    int64_t                            n_tokens;
    double                             seconds;
};

static enum soothe_status score(const struct sampler *s, char **texts, size_t n, double *scores,
                                struct soothe_error *err) {
    const struct soothe__self_options *o = s->o;
    if (s->scorer) {
        struct soothe__score *all = soothe__calloc(n, sizeof *all);
        if (!all)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu scores", n);
        const enum soothe_status status = soothe__scorer_score(s->scorer, (const char *const *)texts, n, all, err);
        for (size_t i = 0; i < n && !status; i++)
            scores[i] = all[i].toxicity;
        free(all);
        return status;
    }
    if (o->score_command)
        return soothe__score_by_command(o->score_command, (const char *const *)texts, n, scores, err);
    for (size_t i = 0; i < n; i++)
        scores[i] = soothe__lexicon_score(texts[i], strlen(texts[i]));
    return SOOTHE_OK;
}

static enum soothe_status write_samples(FILE *out, const char *path, char *const *prompts, size_t n_samples,
                                        char **texts, const double *scores, size_t n, struct soothe_error *err) {
    for (size_t i = 0; i < n; i++) {
        json_t *value = isnan(scores[i]) ? json_null() : json_real(scores[i]);
        json_t *line =
            json_pack("{s:s, s:s, s:o}", "prompt", prompts[i / n_samples], "completion", texts[i], "score", value);
        const bool ok =
            line && json_dumpf(line, out, JSON_COMPACT | JSON_REAL_PRECISION(6)) == 0 && fputc('\n', out) != EOF;
        json_decref(line);
        if (!ok)
            return soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno ? errno : EIO));
    }
    return fflush(out) == 0 ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(errno));
}

static enum soothe_status sample_portion(struct sampler *s, size_t from, size_t n_prompts, FILE *out, const char *path,
                                         struct soothe_error *err) {
    const size_t                    n = n_prompts * (size_t)s->o->n_samples;
    struct portion                  p = {.n_samples = (size_t)s->o->n_samples};
    struct soothe__generate_options g = soothe__generate_options_default();
    struct soothe__generate_stats   stats;
    double                         *scores = soothe__calloc(n, sizeof *scores);
    p.completions                          = soothe__calloc(n, sizeof *p.completions);
    enum soothe_status status              = SOOTHE_E_MEMORY;
    g.sampling.temp                        = s->o->temp;
    g.sampling.top_p                       = s->o->top_p;
    g.sampling.top_k                       = 0;
    g.sampling.min_p                       = 0;
    g.sampling.seed                        = s->o->seed;
    g.n_samples                            = s->o->n_samples;
    g.n_predict                            = s->o->n_predict;
    g.stop                                 = s->o->stop;
    g.on_done                              = on_done;
    g.user                                 = &p;
    if (scores && p.completions) {
        status = soothe__generate(s->session, s->tokens + from, n_prompts, &g, &stats, err);
        s->n_tokens += stats.n_tokens;
        s->seconds += stats.token_seconds + stats.prompt_seconds;
    }
    if (p.failed || status == SOOTHE_E_MEMORY)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu samples", n);
    if (!status)
        status = score(s, p.completions, n, scores, err);
    if (status && stopped(s->o)) /* Ctrl-C ends the score command, too */
        status = SOOTHE_E_INTERRUPTED;
    if (!status)
        status = write_samples(out, path, s->prompts->texts + from, p.n_samples, p.completions, scores, n, err);
    for (size_t i = 0; p.completions && i < n; i++)
        free(p.completions[i]);
    free(p.completions);
    free(scores);
    return status;
}

/* ---- going on ------------------------------------------------------------------------------------------------- */

static const char HEADER_START[] = "{\"soothe_samples\":";

/* The first line of a samples file: what decides the rest. */
static char *header_of(const struct sampler *s) {
    const struct soothe__self_options *o               = s->o;
    char                               fingerprint[65] = "";
    struct soothe__gguf                g;
    if (soothe__gguf_open(&g, o->model_path, NULL) == SOOTHE_OK) {
        soothe__model_fingerprint(fingerprint, &g, NULL);
        soothe__gguf_close(&g);
    }
    json_t *header = json_pack("{s:{s:s, s:s, s:i, s:i, s:f, s:f, s:I, s:s}}", "soothe_samples", "model", fingerprint,
                               "prompts", s->prompts->sha256, "samples", o->n_samples, "tokens", o->n_predict, "temp",
                               (double)o->temp, "top_p", (double)o->top_p, "seed", (json_int_t)o->seed, "scorer",
                               s->scorer          ? soothe__scorer_identity(s->scorer)
                               : o->score_command ? o->score_command
                                                  : "lexicon");
    if (s->prompts->n_empty)
        json_object_set_new(json_object_get(header, "soothe_samples"), "unprompted",
                            json_integer((json_int_t)s->prompts->n_empty));
    char *text = header ? json_dumps(header, JSON_COMPACT | JSON_REAL_PRECISION(6)) : NULL;
    json_decref(header);
    return text;
}

/* Opens PART for appending after its last whole prompt; *n_done prompts are in it. A file of another run is begun
 * anew. */
static enum soothe_status open_part(FILE **out, size_t *n_done, const char *path, const char *header, size_t n_samples,
                                    struct soothe_error *err) {
    FILE   *f    = fopen(path, "r+");
    char   *line = NULL;
    size_t  size = 0, n_lines = 0;
    off_t   end = 0; /* of the last whole prompt */
    ssize_t n;
    *n_done = 0;
    if (f && (n = getline(&line, &size, f)) > 1 && (size_t)n - 1 == strlen(header) &&
        memcmp(line, header, (size_t)n - 1) == 0) {
        end = ftello(f);
        while ((n = getline(&line, &size, f)) > 0 && line[n - 1] == '\n')
            if (++n_lines % n_samples == 0)
                end = ftello(f);
        *n_done = n_lines / n_samples;
    }
    free(line);
    if (!f)
        f = fopen(path, "w+");
    if (f && end == 0 &&
        (ftruncate(fileno(f), 0) != 0 || fseeko(f, 0, SEEK_SET) != 0 || fprintf(f, "%s\n", header) < 0))
        end = -1;
    if (!f || end < 0 || (end > 0 && (ftruncate(fileno(f), end) != 0 || fseeko(f, end, SEEK_SET) != 0))) {
        const int why = errno;
        if (f)
            fclose(f);
        return soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", path, strerror(why ? why : EIO));
    }
    *out = f;
    return SOOTHE_OK;
}

static enum soothe_status run_portions(struct sampler *s, FILE *out, size_t n_done, const char *path,
                                       struct soothe_error *err) {
    struct soothe__progress progress = soothe__progress_start();
    enum soothe_status      status   = SOOTHE_OK;
    const size_t            n        = s->prompts->n;
    for (size_t from = n_done; from < n && !status; from += PORTION) {
        const size_t left = n - from, here = left < PORTION ? left : PORTION;
        char         detail[120];
        status            = sample_portion(s, from, here, out, path, err);
        const double pace = (soothe__seconds() - progress.started) / (double)(from + here - n_done);
        const int    rest = (int)(pace * (double)(n - from - here));
        snprintf(detail, sizeof detail, "%zu/%zu prompts  %.0f tokens/s  %d:%02d left", from + here, n,
                 s->seconds > 0 ? (double)s->n_tokens / s->seconds : 0.0, rest / 60, rest % 60);
        if (!status)
            soothe__progress_update(&progress, (double)(from + here) / (double)n, detail);
    }
    soothe__progress_finish(&progress);
    return status;
}

/* ---- what is there already --------------------------------------------------------------------------------------- */

/* Does a file of samples need no more? *given: it is the user's own, without our first line. */
static enum soothe_status look_at(const char *path, const char *header, size_t n_wanted, bool *complete, bool *given,
                                  struct soothe_error *err) {
    struct soothe__lines *lines;
    enum soothe_status    status = soothe__lines_open(&lines, path, err);
    size_t                n      = 0, size;
    char                 *line;
    bool                  too_long;
    *complete = *given = false;
    while (!status && !(status = soothe__lines_next(lines, &line, &size, &too_long, err)) && line) {
        if (n == 0 && strcmp(line, header) != 0) {
            *given = strncmp(line, HEADER_START, strlen(HEADER_START)) != 0;
            if (!*given)
                status =
                    soothe__fail(err, SOOTHE_E_MISMATCH,
                                 "%s holds samples of another target, other prompts, options or scorer: delete it, "
                                 "or name another file",
                                 path);
            break;
        }
        n++;
    }
    soothe__lines_close(lines, NULL);
    *complete = n > n_wanted; /* with the first line */
    return status;
}

/* ---- making ---------------------------------------------------------------------------------------------------- */

/* What a text from nothing begins with: BOS where the model wants it; else the end of a document, behind which the next
 * one begins in training, where the vocabulary has one apart from chats' tokens (<|im_start|> makes a text a chat). */
static llama_token document_start(const struct llama_vocab *vocab) {
    static const char NAME[] = "<|endoftext|>";
    llama_token      *tokens = NULL;
    int32_t           n      = 0;
    llama_token       start  = soothe__start_token(vocab);
    const bool        one    = !llama_vocab_get_add_bos(vocab) &&
                     !soothe__tokenize(&tokens, &n, vocab, NAME, sizeof NAME - 1,
                                       SOOTHE__TOKENIZE_START | SOOTHE__TOKENIZE_SPECIAL, NULL) &&
                     n == 1;
    if (one)
        start = tokens[0];
    free(tokens);
    return start;
}

static enum soothe_status tokenize_prompts(struct sampler *s, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    s->tokens                 = soothe__calloc(s->prompts->n, sizeof *s->tokens);
    if (!s->tokens)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", s->prompts->n);
    for (size_t i = 0; i < s->prompts->n && !status; i++) {
        llama_token *tokens = NULL;
        const char  *text   = s->prompts->texts[i];
        if (i < s->prompts->n_empty && (tokens = soothe__calloc(1, sizeof *tokens))) {
            tokens[0]             = document_start(llama_model_get_vocab(s->model));
            s->tokens[i].n_tokens = 1;
        } else if (i < s->prompts->n_empty) {
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", s->prompts->n);
        } else {
            status = soothe__tokenize(&tokens, &s->tokens[i].n_tokens, llama_model_get_vocab(s->model), text,
                                      strlen(text), SOOTHE__TOKENIZE_START, err);
        }
        s->tokens[i].tokens = tokens;
        s->tokens[i].stream = i;
        const int32_t room  = llama_model_n_ctx_train(s->model) - s->o->n_predict;
        if (!status && s->tokens[i].n_tokens > room)
            status =
                soothe__fail(err, SOOTHE_E_ARGUMENT,
                             "prompt %zu of %s has %d tokens; with %d more it does not fit the model's context of %d",
                             i + 1 - s->prompts->n_empty, s->o->prompts_path ? s->o->prompts_path : "none",
                             s->tokens[i].n_tokens, s->o->n_predict, llama_model_n_ctx_train(s->model));
    }
    return status;
}

/* Sequences at once for which the cache has room. */
static int32_t parallel(const struct sampler *s) {
    int32_t longest = 0;
    for (size_t i = 0; i < s->prompts->n; i++)
        longest = s->tokens[i].n_tokens > longest ? s->tokens[i].n_tokens : longest;
    const int32_t room = CELLS_MAX / (longest + s->o->n_predict);
    return room < 1 ? 1 : room < s->o->n_parallel ? room : s->o->n_parallel;
}

static enum soothe_status open_session(struct sampler *s, struct soothe_error *err) {
    struct soothe_session_params    p = soothe_session_params_default();
    struct soothe__generate_options g = soothe__generate_options_default();
    g.n_samples                       = s->o->n_samples;
    g.n_predict                       = s->o->n_predict;
    if (s->o->n_threads > 0)
        p.context.n_threads = p.context.n_threads_batch = s->o->n_threads;
    p.context.n_ctx = 0;
    soothe__generate_context(&p.context, s->model, s->tokens, s->prompts->n, &g, parallel(s));
    return soothe_session_new(&s->session, s->model, NULL, &p, err);
}

static void sampler_close(struct sampler *s) {
    soothe__scorer_close(s->scorer);
    soothe_session_free(s->session);
    llama_model_free(s->model);
    for (size_t i = 0; s->tokens && i < s->prompts->n; i++) {
        void *tokens;
        memcpy(&tokens, &s->tokens[i].tokens, sizeof tokens); /* borrowed as const, but ours */
        free(tokens);
    }
    free(s->tokens);
}

static enum soothe_status sample_into(struct sampler *s, const char *part, const char *header,
                                      struct soothe_error *err) {
    FILE              *out    = NULL;
    size_t             n_done = 0;
    enum soothe_status status = open_part(&out, &n_done, part, header, (size_t)s->o->n_samples, err);
    if (!status)
        status = run_portions(s, out, n_done, part, err);
    if (status == SOOTHE_E_INTERRUPTED)
        soothe__fail(err, status, "stopped while sampling; what was done is in %s: the same command goes on", part);
    if (out && fclose(out) != 0 && !status)
        status = soothe__fail(err, SOOTHE_E_IO, "cannot write %s: %s", part, strerror(errno));
    if (!status && rename(part, s->o->samples_path) != 0)
        status =
            soothe__fail(err, SOOTHE_E_IO, "cannot rename %s to %s: %s", part, s->o->samples_path, strerror(errno));
    return status;
}

static enum soothe_status load(struct sampler *s, struct soothe_error *err) {
    s->model = llama_model_load_from_file(s->o->model_path, llama_model_default_params());
    if (!s->model)
        return soothe__fail(err, SOOTHE_E_ENGINE, "the engine cannot load the model %s", s->o->model_path);
    enum soothe_status status = tokenize_prompts(s, err);
    return status ? status : open_session(s, err);
}

/* *todo: is there something to sample? Then PART is where it begins. */
static enum soothe_status find_work(struct sampler *s, const char *part, const char *header, bool *todo,
                                    struct soothe_error *err) {
    const char *samples  = s->o->samples_path;
    bool        complete = false, given = false;
    *todo = true;
    if (!soothe__file_exists(samples))
        return SOOTHE_OK;
    enum soothe_status status =
        look_at(samples, header, s->prompts->n * (size_t)s->o->n_samples, &complete, &given, err);
    *todo = !complete && !given;
    if (!status && *todo && rename(samples, part) != 0) /* more prompts than last time */
        status = soothe__fail(err, SOOTHE_E_IO, "cannot rename %s to %s: %s", samples, part, strerror(errno));
    return status;
}

enum soothe_status soothe__self_samples(const struct soothe__self_options *o, struct soothe_error *err) {
    struct prompts     prompts = {0};
    struct sampler     s       = {.o = o, .prompts = &prompts};
    char              *part = soothe__format("%s.part", o->samples_path), *header = NULL;
    bool               todo   = false;
    enum soothe_status status = part ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status && o->scorer)
        status = soothe__scorer_open(
            &s.scorer, o->scorer,
            &(struct soothe__scorer_options){.model_path = o->model_path, .n_threads = o->n_threads}, err);
    if (!status)
        status = read_prompts(&prompts, o, err);
    if (!status && !(header = header_of(&s)))
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory");
    if (!status)
        status = find_work(&s, part, header, &todo, err);
    if (!status && todo)
        status = load(&s, err);
    if (!status && todo)
        status = sample_into(&s, part, header, err);
    sampler_close(&s);
    prompts_free(&prompts);
    free(header);
    free(part);
    return status;
}
