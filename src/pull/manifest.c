/* SPDX-License-Identifier: Apache-2.0
 * The manifest of models: JSON in, checked tables out. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "pull/pull.h"

static const char built_in[] = {
#include "pull/manifest_text.inc"
};

/* The string under key, or NULL with a sentence; what says where we are ("model 2"). */
static const char *get_string(const json_t *object, const char *key, const char *what, const char *name,
                              struct soothe_error *err) {
    const char *s = json_string_value(json_object_get(object, key));
    if (!s || !*s) {
        soothe__fail(err, SOOTHE_E_FORMAT, "%s: %s has no text under \"%s\"", name, what, key);
        return NULL;
    }
    return s;
}

static const char *string_or(const json_t *object, const char *key, const char *otherwise) {
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : otherwise;
}

static bool is_sha256(const char *s) {
    return strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

/* A name that cannot leave its folder: letters, digits, ".", "_", "-", "+", no dot in front. */
static bool is_plain_name(const char *s) {
    static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-+";
    return *s && *s != '.' && *s != '-' && strlen(s) <= 200 && !s[strspn(s, allowed)];
}

static enum soothe_status read_part(struct soothe__model_part *part, const json_t *object, const char *what,
                                    const char *name, struct soothe_error *err) {
    part->source = get_string(object, "source", what, name, err);
    if (!part->source)
        return SOOTHE_E_FORMAT;
    part->member = json_string_value(json_object_get(object, "member"));
    part->sha256 = json_string_value(json_object_get(object, "sha256"));
    part->size   = json_integer_value(json_object_get(object, "size"));
    if (part->sha256 && !is_sha256(part->sha256))
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "%s: %s has a part whose sha256 is not 64 lower-case digits: \"%.80s\"", name, what,
                            part->sha256);
    if (part->size < 0)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s: %s has a part of negative size", name, what);
    return SOOTHE_OK;
}

static enum soothe_status read_parts(struct soothe__model *model, const json_t *list, const char *what,
                                     const char *name, struct soothe_error *err) {
    const size_t n = json_array_size(list); /* 0 also if it is no array */
    if (!n)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s: %s has no list of \"parts\"", name, what);
    model->parts = soothe__calloc(n, sizeof *model->parts);
    if (!model->parts)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", name);
    model->n_parts = n;
    for (size_t i = 0; i < n; i++)
        if (read_part(&model->parts[i], json_array_get(list, i), what, name, err))
            return SOOTHE_E_FORMAT;
    return SOOTHE_OK;
}

static enum soothe_status read_model(struct soothe__model *model, const json_t *object, size_t number, const char *name,
                                     struct soothe_error *err) {
    char          what[300];
    const json_t *license = json_object_get(object, "license");
    snprintf(what, sizeof what, "model %zu (%.200s)", number + 1, string_or(object, "name", "without a name"));
    if (!(model->name = get_string(object, "name", what, name, err)) ||
        !(model->file = get_string(object, "file", what, name, err)) ||
        !(model->sha256 = get_string(object, "sha256", what, name, err)) ||
        !(model->license = get_string(license, "name", what, name, err)))
        return SOOTHE_E_FORMAT;
    model->title           = string_or(object, "title", model->name);
    model->architecture    = string_or(object, "architecture", "");
    model->vocabulary      = string_or(object, "vocabulary", "");
    model->license_text    = string_or(license, "text", "");
    model->license_note    = string_or(license, "note", "");
    model->redistributable = json_is_true(json_object_get(license, "redistributable"));
    model->size            = json_integer_value(json_object_get(object, "size"));
    if (!is_plain_name(model->name) || !is_plain_name(model->file))
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "%s: %s needs a plain \"name\" and \"file\" (letters, digits, . _ - +)", name, what);
    if (!is_sha256(model->sha256))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s: the sha256 of %s is not 64 lower-case digits: \"%.80s\"", name,
                            what, model->sha256);
    if (model->size <= 0)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s: %s has no \"size\" in bytes", name, what);
    return read_parts(model, json_object_get(object, "parts"), what, name, err);
}

static enum soothe_status read_models(struct soothe__manifest *m, const char *name, struct soothe_error *err) {
    const json_t *list = json_object_get(m->json, "models");
    const size_t  n    = json_array_size(list);
    if (json_integer_value(json_object_get(m->json, "version")) != 1)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is no manifest of version 1", name);
    if (!json_is_array(list))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no list of \"models\"", name);
    m->default_name = string_or(m->json, "default", "");
    m->models       = soothe__calloc(n, sizeof *m->models);
    if (!m->models)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", name);
    for (size_t i = 0; i < n; i++) {
        struct soothe__model *model     = &m->models[i];
        m->n_models                     = i + 1; /* so that a half-read model is freed */
        const enum soothe_status status = read_model(model, json_array_get(list, i), i, name, err);
        if (status)
            return status;
        for (size_t k = 0; k < i; k++)
            if (!strcmp(m->models[k].name, model->name) || !strcmp(m->models[k].file, model->file))
                return soothe__fail(err, SOOTHE_E_FORMAT, "%s: two models have the name %s or the file %s", name,
                                    model->name, model->file);
    }
    return SOOTHE_OK;
}

enum soothe_status soothe__manifest_parse(struct soothe__manifest **manifest, const char *json, size_t size,
                                          const char *name, struct soothe_error *err) {
    struct soothe__manifest *m = soothe__calloc(1, sizeof *m);
    json_error_t             error;
    enum soothe_status       status;
    *manifest = NULL;
    if (!m)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", name);
    m->json = json_loadb(json, size, JSON_REJECT_DUPLICATES, &error);
    if (!m->json)
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s, line %d: %s", name, error.line, error.text);
    else
        status = read_models(m, name, err);
    if (status)
        soothe__manifest_free(m);
    else
        *manifest = m;
    return status;
}

enum soothe_status soothe__manifest_open(struct soothe__manifest **manifest, const char *path,
                                         struct soothe_error *err) {
    char  *data;
    size_t size;
    if (!path)
        return soothe__manifest_parse(manifest, built_in, sizeof built_in, "the built-in manifest", err);
    *manifest                 = NULL;
    enum soothe_status status = soothe__read_file(&data, &size, path, err);
    if (!status)
        status = soothe__manifest_parse(manifest, data, size, path, err);
    free(data);
    return status;
}

void soothe__manifest_free(struct soothe__manifest *manifest) {
    if (!manifest)
        return;
    for (size_t i = 0; i < manifest->n_models; i++)
        free(manifest->models[i].parts);
    free(manifest->models);
    json_decref(manifest->json);
    free(manifest);
}

const struct soothe__model *soothe__manifest_find(const struct soothe__manifest *manifest, const char *name) {
    for (size_t i = 0; i < manifest->n_models; i++)
        if (strcmp(manifest->models[i].name, name) == 0)
            return &manifest->models[i];
    return NULL;
}
