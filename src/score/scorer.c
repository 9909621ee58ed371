/* SPDX-License-Identifier: Apache-2.0
 * The table of scorers: which kind a SPEC names, and what every kind owes its caller. */
#include "score/scorer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine.h"

extern const struct soothe__scorer_kind soothe__scorer_lexicon, soothe__scorer_command;
extern const struct soothe__scorer_kind soothe__scorer_probe, soothe__scorer_polar;
extern const struct soothe__scorer_kind soothe__scorer_http, soothe__scorer_classifier, soothe__scorer_cppl;
extern const struct soothe__scorer_kind soothe__scorer_ngram, soothe__scorer_word_table;

/* In the order of asking; a new kind is one line here. */
static const struct soothe__scorer_kind *const KINDS[] = {
    &soothe__scorer_word_table, &soothe__scorer_ngram, &soothe__scorer_lexicon, &soothe__scorer_command,
    &soothe__scorer_cppl,       &soothe__scorer_probe, &soothe__scorer_polar,   &soothe__scorer_http,
    &soothe__scorer_classifier, /* any GGUF file that is none of ours:
                                   the last of those that take one */
};
enum { N_KINDS = sizeof KINDS / sizeof *KINDS };

struct soothe__scorer {
    const struct soothe__scorer_kind *kind;
    void                             *self;
    char                             *spec;
    char                              identity[65];
};

struct soothe__score soothe__no_score(const char *format, ...) {
    struct soothe__score s = {.toxicity = NAN};
    va_list              list;
    va_start(list, format);
    const int n = vsnprintf(s.why, sizeof s.why, format, list);
    va_end(list);
    size_t size = n < 0 ? 0 : strlen(s.why);
    while (size > 0 && !soothe__utf8_valid(s.why, size))
        s.why[--size] = '\0';
    if (size == 0)
        snprintf(s.why, sizeof s.why, "no reason was given");
    return s;
}

/* The general.type of the GGUF file that spec names, perhaps with "#…" behind it; NULL if it names none. */
static enum soothe_status type_of_file(char **type, const char *spec, struct soothe_error *err) {
    struct soothe__gguf g;
    *type            = NULL;
    const char *mark = strstr(spec, ".gguf#");
    char       *path = mark ? soothe__format("%.*s.gguf", (int)(mark - spec), spec) : soothe__strdup(spec);
    if (!path)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
    const size_t       n      = strlen(path);
    const bool         named  = n >= 5 && strcmp(path + n - 5, ".gguf") == 0 && !strchr(path, ':');
    enum soothe_status status = named ? soothe__gguf_open(&g, path, err) : SOOTHE_OK;
    free(path);
    if (status || !named)
        return status;
    const char *found = soothe__gguf_find_string(&g, "general.type");
    *type             = soothe__strdup(found ? found : "model");
    soothe__gguf_close(&g);
    return *type ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
}

enum soothe_status soothe__scorer_find(const struct soothe__scorer_kind **kind, const char *spec,
                                       struct soothe_error *err) {
    char              *type;
    enum soothe_status status = type_of_file(&type, spec, err);
    *kind                     = NULL;
    for (size_t i = 0; !status && i < N_KINDS && !*kind; i++)
        if (KINDS[i]->takes(spec, type))
            *kind = KINDS[i];
    if (!status && !*kind && type)
        status =
            soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s is a GGUF file of type \"%s\", which is no scorer", spec, type);
    else if (!status && !*kind)
        status =
            soothe__fail(err, SOOTHE_E_ARGUMENT,
                         "there is no scorer \"%s\": say default, lexicon, cppl, a scorer's FILE.gguf, command:COMMAND "
                         "or the address of an endpoint (http://…)",
                         spec);
    free(type);
    return status;
}

enum soothe_status soothe__scorer_open(struct soothe__scorer **out, const char *spec,
                                       const struct soothe__scorer_options *options, struct soothe_error *err) {
    static const struct soothe__scorer_options DEFAULTS = {.model_path = NULL};
    *out                                                = NULL;
    struct soothe__scorer *s                            = soothe__calloc(1, sizeof *s);
    char                  *copy                         = soothe__strdup(spec);
    if (!s || !copy) {
        free(s);
        free(copy);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory opening scorer %s", spec);
    }
    s->spec                   = copy;
    enum soothe_status status = soothe__scorer_find(&s->kind, spec, err);
    if (!status)
        status = s->kind->open(&s->self, s->identity, spec, options ? options : &DEFAULTS, err);
    if (status)
        soothe__scorer_close(s);
    else
        *out = s;
    return status;
}

void soothe__scorer_close(struct soothe__scorer *s) {
    if (!s)
        return;
    if (s->self)
        s->kind->close(s->self);
    free(s->spec);
    free(s);
}

enum soothe_status soothe__scorer_score(struct soothe__scorer *s, const char *const *texts, size_t n,
                                        struct soothe__score *scores, struct soothe_error *err) {
    for (size_t i = 0; i < n; i++)
        scores[i] = soothe__no_score("the scorer left the text out");
    enum soothe_status status = s->kind->score(s->self, texts, n, scores, err);
    for (size_t i = 0; !status && i < n; i++)
        if (!isnan(scores[i].toxicity) && !(scores[i].toxicity >= 0 && scores[i].toxicity <= 1))
            scores[i] = soothe__no_score("the score %g is outside 0 to 1", scores[i].toxicity);
    return status;
}

const char *soothe__scorer_spec(const struct soothe__scorer *s) {
    return s->spec;
}
const char *soothe__scorer_kind(const struct soothe__scorer *s) {
    return s->kind->name;
}
const char *soothe__scorer_identity(const struct soothe__scorer *s) {
    return s->identity;
}
void *soothe__scorer_self(struct soothe__scorer *s) {
    return s->self;
}
