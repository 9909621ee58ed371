/* SPDX-License-Identifier: Apache-2.0
 * The prompts of a command: from an option, a file, standard input, or lines of JSON. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "cli/speak.h"
#include "engine/text_tokens.h"

static const char *name_of(const char *path) {
    return strcmp(path, "-") ? path : "standard input";
}

enum soothe_status soothe__prompt_list_add(struct soothe__prompt_list *list, const char *text, size_t size,
                                           const char *where, struct soothe_error *err) {
    if (size == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the prompt of %s is empty: there is nothing to go on from", where);
    if (!soothe__utf8_valid(text, size))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the prompt of %s is not valid UTF-8; convert it first, for example by iconv", where);
    if (memchr(text, '\0', size))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the prompt of %s holds a zero byte: it is no text", where);
    if (list->n == list->capacity) {
        const size_t                more  = list->capacity ? 2 * list->capacity : 16;
        struct soothe__prompt_text *items = soothe__realloc(list->items, more, sizeof *items);
        if (!items)
            return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", more);
        list->items    = items;
        list->capacity = more;
    }
    char *copy = soothe__calloc(size + 1, 1);
    if (!copy)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a prompt of %zu bytes", size);
    memcpy(copy, text, size);
    list->items[list->n++] = (struct soothe__prompt_text){.text = copy};
    return SOOTHE_OK;
}

enum soothe_status soothe__prompt_list_read(struct soothe__prompt_list *list, const char *path,
                                            struct soothe_error *err) {
    char              *text;
    size_t             size;
    enum soothe_status status = soothe__read_file(&text, &size, path, err);
    if (status)
        return status;
    if (size > 0 && text[size - 1] == '\n')
        size--;
    if (size > 0 && text[size - 1] == '\r')
        size--;
    status = soothe__prompt_list_add(list, text, size, name_of(path), err);
    free(text);
    return status;
}

static enum soothe_status add_line(struct soothe__prompt_list *list, const char *line, size_t size, const char *where,
                                   struct soothe_error *err) {
    json_error_t  why;
    json_t       *object = json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &why);
    const json_t *prompt = object ? json_object_get(object, "prompt") : NULL;
    if (json_is_object(prompt))
        prompt = json_object_get(prompt, "text");
    enum soothe_status status;
    if (!object)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s is no JSON: %s", where, why.text);
    else if (!json_is_string(prompt))
        status = soothe__fail(err, SOOTHE_E_FORMAT,
                              "%s is not of the form {\"prompt\": \"...\"}: there is no text under \"prompt\"", where);
    else
        status = soothe__prompt_list_add(list, json_string_value(prompt), json_string_length(prompt), where, err);
    json_decref(object);
    return status;
}

enum soothe_status soothe__prompt_list_parse_jsonl(struct soothe__prompt_list *list, const char *text, size_t size,
                                                   const char *name, struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    char               where[512];
    size_t             n_line = 1;
    for (size_t at = 0; at < size && status == SOOTHE_OK; n_line++) {
        const char  *end = memchr(text + at, '\n', size - at);
        const size_t n   = end ? (size_t)(end - (text + at)) : size - at;
        bool         any = false;
        for (size_t i = 0; i < n && !any; i++)
            any = !strchr(" \t\r", text[at + i]);
        snprintf(where, sizeof where, "line %zu of %s", n_line, name);
        if (any)
            status = add_line(list, text + at, n, where, err);
        at += n + 1;
    }
    if (status == SOOTHE_OK && list->n == 0)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s holds no prompts", name);
    return status;
}

enum soothe_status soothe__prompt_list_read_jsonl(struct soothe__prompt_list *list, const char *path,
                                                  struct soothe_error *err) {
    char              *text;
    size_t             size;
    enum soothe_status status = soothe__read_file(&text, &size, path, err);
    if (status)
        return status;
    status = soothe__prompt_list_parse_jsonl(list, text, size, name_of(path), err);
    free(text);
    return status;
}

static enum soothe_status tokenize_one(struct soothe__prompt_text *item, const struct llama_model *model, bool chat,
                                       const char *system, struct soothe_error *err) {
    const struct llama_vocab *vocab  = llama_model_get_vocab(model);
    char                     *turn   = NULL;
    enum soothe_status        status = chat ? soothe__chat_prompt(&turn, model, system, item->text, err) : SOOTHE_OK;
    if (status == SOOTHE_OK) {
        const char *text = chat ? turn : item->text;
        status           = soothe__tokenize(&item->tokens, &item->prompt.n_tokens, vocab, text, strlen(text),
                                            SOOTHE__TOKENIZE_START | SOOTHE__TOKENIZE_SPECIAL, err);
    }
    free(turn);
    item->prompt.tokens = item->tokens;
    item->prompt.turn   = chat ? item->text : NULL;
    item->prompt.system = system;
    return status;
}

enum soothe_status soothe__prompt_list_tokenize(struct soothe__prompt_list *list, const struct llama_model *model,
                                                bool chat, const char *system, struct soothe_error *err) {
    list->prompts = soothe__calloc(list->n + 1, sizeof *list->prompts);
    if (!list->prompts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu prompts", list->n);
    for (size_t i = 0; i < list->n; i++) {
        const enum soothe_status status = tokenize_one(&list->items[i], model, chat, system, err);
        if (status)
            return status;
        list->items[i].prompt.stream = i;
        list->prompts[i]             = list->items[i].prompt;
    }
    return SOOTHE_OK;
}

void soothe__prompt_list_free(struct soothe__prompt_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free(list->items[i].text);
        free(list->items[i].tokens);
    }
    free(list->items);
    free(list->prompts);
    *list = (struct soothe__prompt_list){.n = 0};
}
