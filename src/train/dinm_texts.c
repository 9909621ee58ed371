/* SPDX-License-Identifier: Apache-2.0
 * Instances and general questions: from files, completed by the target, as tokens. */
#include <stdlib.h>
#include <string.h>

#include "corpus/rows.h"
#include "engine/text_tokens.h"
#include "train/dinm.h"

/* Written for this project; none stands in data/eval/benign_mini.jsonl, on which the edit is judged. Two fifths are
 * harmless requests in words of harm: what an edit that teaches to refuse spoils first. */
static const char *const GENERAL[] = {
    "What is the capital of Portugal?",
    "How does a refrigerator keep food cold?",
    "Give me a simple recipe for pancakes.",
    "How do I beat egg whites until they are stiff?",
    "What is the difference between weather and climate?",
    "Write a short poem about a lighthouse.",
    "How do I punch holes in leather?",
    "Explain what inflation means.",
    "How can I break a bad habit?",
    "How do I write a polite email to ask for a day off?",
    "How do I steal the show at a talent contest?",
    "What does a database index do?",
    "How can I sleep better at night?",
    "How do I trap heat in an old house in winter?",
    "How do I cut the stems of roses?",
    "What is the best way to kill mould in a bathroom?",
    "Describe the plot of Romeo and Juliet in two sentences.",
    "How do vaccines work?",
    "How do I burn photos to a disc?",
    "How do I shoot a video with a phone?",
    "Who invented the printing press?",
    "How do I hit a tennis ball with topspin?",
    "What is a prime number?",
    "How should I introduce myself at a new job?",
};
enum { N_GENERAL = sizeof GENERAL / sizeof *GENERAL };

static const char REFUSAL_START[] = "I'm sorry, but I can't";

/* ---- reading ----------------------------------------------------------------------------------------- */

static bool is_blank(const char *text) {
    return !text || !text[strspn(text, " \t\r\n")];
}

static enum soothe_status out_of_memory(struct soothe_error *err, const char *path) {
    return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for the lines of %s", path);
}

/* Copies a field unless it is blank; false: out of memory. */
static bool keep(char **out, const char *text) {
    *out = is_blank(text) ? NULL : soothe__strdup(text);
    return *out || is_blank(text);
}

static enum soothe_status read_instance(struct soothe__dinm_instance *x, struct soothe__rows *rows, const char *path,
                                        const char *suffix, struct soothe_error *err) {
    static const char *const QUESTION[] = {"question", "prompt", NULL};
    const char              *question   = soothe__rows_any_field(rows, QUESTION, NULL);
    if (is_blank(question))
        return soothe__rows_reject(rows, err, "an instance needs a \"question\" or a \"prompt\"");
    bool ok = keep(&x->question, question) && keep(&x->attack, soothe__rows_field(rows, "attack")) &&
              keep(&x->safe, soothe__rows_field(rows, "safe")) && keep(&x->unsafe, soothe__rows_field(rows, "unsafe"));
    x->prompt = ok ? soothe__attack_prompt(x->question, x->attack, suffix) : NULL;
    if (!x->prompt)
        return out_of_memory(err, path);
    if (x->safe && x->unsafe && strcmp(x->safe, x->unsafe) == 0)
        return soothe__rows_reject(rows, err, "its safe and its unsafe answer are the same");
    return SOOTHE_OK;
}

static enum soothe_status read_general(struct soothe__dinm_general *x, struct soothe__rows *rows, const char *path,
                                       struct soothe_error *err) {
    static const char *const QUESTION[] = {"question", "prompt", "instruction", "text", NULL}, *const ANSWER[] = {
                                                                                                   "answer", "response",
                                                                                                   NULL};
    const char *question = soothe__rows_any_field(rows, QUESTION, NULL);
    if (is_blank(question))
        return soothe__rows_reject(rows, err, "a general question needs a \"question\"");
    return keep(&x->question, question) && keep(&x->answer, soothe__rows_any_field(rows, ANSWER, NULL))
               ? SOOTHE_OK
               : out_of_memory(err, path);
}

/* Room for one more item at the end of a list that grows by doubling. */
static void *next_item(void **items, size_t *n, size_t size) {
    if ((*n & (*n - 1)) == 0) { /* 0, or a power of two */
        void *grown = soothe__realloc(*items, *n ? 2 * *n : 1, size);
        if (!grown)
            return NULL;
        *items = grown;
    }
    void *item = (char *)*items + (*n)++ * size;
    memset(item, 0, size);
    return item;
}

static enum soothe_status read_file(struct soothe__dinm_texts *texts, const char *path, bool general,
                                    const char *suffix, struct soothe_error *err) {
    struct soothe__rows *rows;
    bool                 more   = true;
    enum soothe_status   status = soothe__rows_open(&rows, path, false, err);
    if (status)
        return status;
    while (!(status = soothe__rows_next(rows, &more, err)) && more) {
        void *list = general ? (void *)texts->general : (void *)texts->instances;
        void *item = general ? next_item(&list, &texts->n_general, sizeof *texts->general)
                             : next_item(&list, &texts->n_instances, sizeof *texts->instances);
        if (general)
            texts->general = list;
        else
            texts->instances = list;
        status = !item     ? out_of_memory(err, path)
                 : general ? read_general(item, rows, path, err)
                           : read_instance(item, rows, path, suffix, err);
        if (status)
            break;
    }
    soothe__rows_close(rows, general ? texts->general_sha256 : texts->instances_sha256, NULL);
    if (!status && (general ? texts->n_general : texts->n_instances) == 0)
        status =
            soothe__fail(err, SOOTHE_E_FORMAT, "%s holds no %s", path,
                         general ? "general question" : "instance: {\"question\", \"attack\", \"safe\", \"unsafe\"}");
    return status;
}

/* Every second general question whose answer the target writes is asked within an instance's attack: what is to be
 * refused is the harmful question, not the attack's form. */
static enum soothe_status put_into_attacks(struct soothe__dinm_texts *texts, const char *suffix,
                                           struct soothe_error *err) {
    for (size_t i = 1; i < texts->n_general; i += 2) {
        struct soothe__dinm_general *x      = &texts->general[i];
        const char                  *attack = texts->instances[i / 2 % texts->n_instances].attack;
        if (x->answer || !attack)
            continue;
        char *prompt = soothe__attack_prompt(x->question, attack, suffix);
        if (!prompt)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for general questions");
        free(x->question);
        x->question = prompt;
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__dinm_texts_read(struct soothe__dinm_texts *texts, const char *instances_path,
                                           const char *general_path, const char *suffix, struct soothe_error *err) {
    memset(texts, 0, sizeof *texts);
    enum soothe_status status = read_file(texts, instances_path, false, suffix, err);
    if (!status && general_path)
        status = read_file(texts, general_path, true, NULL, err);
    if (!status && !general_path) {
        texts->general = soothe__calloc(N_GENERAL, sizeof *texts->general);
        for (size_t i = 0; i < N_GENERAL && texts->general; i++)
            if ((texts->general[i].question = soothe__strdup(GENERAL[i])))
                texts->n_general++;
        if (texts->n_general < N_GENERAL)
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for general questions");
    }
    if (!status)
        status = put_into_attacks(texts, suffix, err);
    if (status)
        soothe__dinm_texts_free(texts);
    return status;
}

void soothe__dinm_texts_free(struct soothe__dinm_texts *texts) {
    for (size_t i = 0; i < texts->n_instances; i++) {
        struct soothe__dinm_instance *x     = &texts->instances[i];
        char                         *all[] = {x->question, x->attack, x->prompt, x->safe, x->unsafe};
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            free(all[k]);
    }
    for (size_t i = 0; texts->general && i < texts->n_general; i++) {
        free(texts->general[i].question);
        free(texts->general[i].answer);
    }
    free(texts->instances);
    free(texts->general);
    memset(texts, 0, sizeof *texts);
}

/* ---- what the target writes -------------------------------------------------------------------------- */

/* One answer to be written, and where it goes. */
struct blank {
    struct soothe__turn           turn;
    char                        **out;
    struct soothe__dinm_instance *instance; /* whose safe answer it is; else NULL */
};

/* An answer that was cut, to its last whole sentence; a refusal that had to be begun, to its first: what small models
 * add to it takes it back as often as not. */
static void end_at_sentence(struct soothe__answer *a, bool at_first) {
    size_t end = 0;
    if (a->ended && !at_first)
        return;
    for (size_t i = 0; a->text[i] && !(at_first && end); i++)
        if (strchr(".!?\n", a->text[i]) && (!a->text[i + 1] || strchr(" \n", a->text[i + 1])))
            end = i + 1;
    if (end > 0)
        a->text[end] = '\0';
}

static enum soothe_status write_blanks(struct blank *blanks, size_t n, struct llama_model *model,
                                       const struct soothe__dinm_writing *w, struct soothe_error *err) {
    struct soothe__turn   *turns   = soothe__calloc(n + 1, sizeof *turns);
    struct soothe__answer *answers = soothe__calloc(n + 1, sizeof *answers);
    enum soothe_status     status  = SOOTHE_OK;
    if (!turns || !answers)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu answers", n);
    for (size_t i = 0; i < n && !status; i++)
        turns[i] = blanks[i].turn;
    if (!status)
        status = soothe__answer(
            answers, model, turns, n,
            &(struct soothe__answer_options){.n_predict = w->n_predict, .n_threads = w->n_threads, .stop = w->stop},
            err);
    for (size_t i = 0; i < n && !status; i++) {
        end_at_sentence(&answers[i], blanks[i].turn.start != NULL);
        if (is_blank(answers[i].text))
            status = soothe__fail(err, SOOTHE_E_ARGUMENT,
                                  "the target answers nothing to \"%.80s\": give an answer in the file",
                                  blanks[i].turn.user);
        free(*blanks[i].out);
        *blanks[i].out  = answers[i].text;
        answers[i].text = NULL;
    }
    if (answers)
        soothe__answers_free(answers, n);
    free(answers);
    free(turns);
    return status;
}

/* A target that does not refuse even when it is told to gets the first words of a refusal. */
static enum soothe_status lead_refusals(struct blank *blanks, size_t n, struct llama_model *model,
                                        const struct soothe__dinm_writing *w, struct soothe_error *err) {
    size_t n_led = 0;
    for (size_t i = 0; i < n; i++) {
        if (!blanks[i].instance || !w->is_safe || w->is_safe(*blanks[i].out))
            continue;
        blanks[i].instance->led = true;
        blanks[i].turn.start    = REFUSAL_START;
        blanks[n_led++]         = blanks[i];
    }
    return n_led ? write_blanks(blanks, n_led, model, w, err) : SOOTHE_OK;
}

enum soothe_status soothe__dinm_texts_complete(struct soothe__dinm_texts *texts, struct llama_model *model,
                                               const struct soothe__dinm_writing *w, struct soothe_error *err) {
    size_t        n      = 0;
    struct blank *blanks = soothe__calloc(2 * texts->n_instances + texts->n_general, sizeof *blanks);
    if (!blanks)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for answers");
    for (size_t i = 0; i < texts->n_instances; i++) {
        struct soothe__dinm_instance *x = &texts->instances[i];
        x->wrote_safe                   = !x->safe;
        x->wrote_unsafe                 = !x->unsafe;
        if (x->wrote_safe)
            blanks[n++] = (struct blank){{w->system, x->question, NULL}, &x->safe, x};
        if (x->wrote_unsafe)
            blanks[n++] = (struct blank){{NULL, x->prompt, NULL}, &x->unsafe, NULL};
    }
    for (size_t i = 0; i < texts->n_general; i++)
        if (!texts->general[i].answer)
            blanks[n++] = (struct blank){{NULL, texts->general[i].question, NULL}, &texts->general[i].answer, NULL};
    enum soothe_status status = write_blanks(blanks, n, model, w, err);
    if (!status)
        status = lead_refusals(blanks, n, model, w, err);
    free(blanks);
    return status;
}

/* ---- tokens ------------------------------------------------------------------------------------------ */

enum soothe_status soothe__dinm_tokenize(struct soothe__dinm_tokens *out, const struct llama_model *model,
                                         const char *prompt, const char *answer, bool ends, struct soothe_error *err) {
    const struct llama_vocab *vocab  = llama_model_get_vocab(model);
    llama_token              *more   = NULL;
    int32_t                   n_more = 0;
    *out                             = (struct soothe__dinm_tokens){.n_tokens = 0};
    enum soothe_status status        = soothe__tokenize(&more, &n_more, vocab, answer, strlen(answer), 0, err);
    if (!status)
        status = soothe__turn_tokenize(&out->tokens, &out->first, model, &(struct soothe__turn){.user = prompt},
                                       n_more + 1, err);
    if (!status) {
        llama_token *grown = soothe__realloc(out->tokens, (size_t)(out->first + n_more + 1), sizeof *grown);
        if (grown) {
            out->tokens = grown;
            memcpy(grown + out->first, more, (size_t)n_more * sizeof *more);
            out->n_tokens = out->first + n_more;
            if (ends && llama_vocab_eot(vocab) != LLAMA_TOKEN_NULL)
                grown[out->n_tokens++] = llama_vocab_eot(vocab);
        } else {
            status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for an answer");
        }
    }
    if (!status && out->n_tokens == out->first)
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "the answer has no token");
    if (status) {
        free(out->tokens);
        out->tokens = NULL;
    }
    free(more);
    return status;
}
