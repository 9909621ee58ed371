/* SPDX-License-Identifier: Apache-2.0 */
#include "score/ngram_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BITS_MIN = 8, BITS_MAX = 24, WORDS_MAX = 3, CHARS_MAX = 8, WINDOW_MAX = 1 << 20, WINDOW_DEFAULT = 64 };

static bool shape_fits(const struct soothe__ngram_shape *s) {
    return s->bits >= BITS_MIN && s->bits <= BITS_MAX && s->n_words >= 1 && s->n_words <= WORDS_MAX &&
           s->lexicon <= 1 && s->char_min >= 1 && s->char_min <= s->char_max && s->char_max <= CHARS_MAX;
}

static size_t n_codes(const struct soothe__ngram_shape *s) {
    return (size_t)SOOTHE__N_GROUPS << s->bits;
}

void soothe__ngram_set_scale(struct soothe__ngram_scorer *s, int group, float scale) {
    for (int c = -127; c <= 127; c++)
        s->values[group][c + 127] = scale * (float)(c < 0 ? -1 : 1) * (float)(c * c) / (127.0f * 127.0f);
}

enum soothe_status soothe__ngram_new(struct soothe__ngram_scorer **out, const struct soothe__ngram_shape *shape,
                                     const char *const *words, size_t n, struct soothe_error *err) {
    *out = NULL;
    if (!shape_fits(shape))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "an n-gram scorer has %d to %d bits, n-grams of 1 to %d words and 1 to %d characters, not "
                            "%u bits, %u words, %u to %u characters",
                            BITS_MIN, BITS_MAX, WORDS_MAX, CHARS_MAX, shape->bits, shape->n_words, shape->char_min,
                            shape->char_max);
    struct soothe__ngram_scorer *s = soothe__calloc(1, sizeof *s);
    if (s)
        s->codes = soothe__calloc(n_codes(shape), sizeof *s->codes);
    if (!s || !s->codes) {
        soothe__ngram_close(s);
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu weights", n_codes(shape));
    }
    s->shape  = *shape;
    s->window = WINDOW_DEFAULT;
    for (int i = 0; i < SOOTHE__N_GROUPS; i++)
        soothe__ngram_set_scale(s, i, 1.0f);
    const enum soothe_status status = soothe__word_list_new(&s->list, words, n, err);
    if (status)
        soothe__ngram_close(s);
    else
        *out = s;
    return status;
}

void soothe__ngram_close(struct soothe__ngram_scorer *s) {
    if (!s)
        return;
    soothe__word_list_free(&s->list);
    free(s->codes);
    free(s);
}

/* ---- reading ------------------------------------------------------------------------------------------- */

static enum soothe_status read_shape(struct soothe__ngram_shape *shape, const struct soothe__gguf *g,
                                     struct soothe_error *err) {
    const char *type    = soothe__gguf_find_string(g, "general.type");
    uint32_t    version = 0;
    if (!type || strcmp(type, SOOTHE__NGRAM_TYPE) != 0)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is no n-gram scorer (general.type is \"%.40s\")", g->path,
                            type ? type : "");
    if (!soothe__gguf_find_u32(g, "soothe.format_version", &version) || version != SOOTHE__NGRAM_VERSION)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s is an n-gram scorer of version %u; this soothe reads version %d",
                            g->path, version, SOOTHE__NGRAM_VERSION);
    if (!soothe__gguf_find_u32(g, "soothe.ngram.bits", &shape->bits) ||
        !soothe__gguf_find_u32(g, "soothe.ngram.n_words", &shape->n_words) ||
        !soothe__gguf_find_u32(g, "soothe.ngram.char_min", &shape->char_min) ||
        !soothe__gguf_find_u32(g, "soothe.ngram.char_max", &shape->char_max) ||
        !soothe__gguf_find_u32(g, "soothe.ngram.lexicon", &shape->lexicon))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s lacks the shape of its features (soothe.ngram.…)", g->path);
    return SOOTHE_OK;
}

/* The strings of soothe.ngram.words, owned by g; *words is fresh. */
static enum soothe_status read_words(const char ***words, size_t *n, const struct soothe__gguf *g,
                                     struct soothe_error *err) {
    const int64_t i = gguf_find_key(g->meta, "soothe.ngram.words");
    *words          = NULL;
    *n              = 0;
    if (i < 0)
        return SOOTHE_OK;
    if (gguf_get_kv_type(g->meta, i) != GGUF_TYPE_ARRAY || gguf_get_arr_type(g->meta, i) != GGUF_TYPE_STRING ||
        gguf_get_arr_n(g->meta, i) > SOOTHE__LIST_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "soothe.ngram.words of %s is no list of at most %d words", g->path,
                            SOOTHE__LIST_MAX);
    *n     = gguf_get_arr_n(g->meta, i);
    *words = soothe__calloc(*n + 1, sizeof **words);
    if (!*words)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory reading %s", g->path);
    for (size_t k = 0; k < *n; k++)
        (*words)[k] = gguf_get_arr_str(g->meta, i, k);
    return SOOTHE_OK;
}

static enum soothe_status read_scales(struct soothe__ngram_scorer *s, const struct soothe__gguf *g,
                                      struct soothe_error *err) {
    const int64_t i = gguf_find_key(g->meta, "soothe.ngram.scale");
    if (i < 0 || gguf_get_kv_type(g->meta, i) != GGUF_TYPE_ARRAY ||
        gguf_get_arr_type(g->meta, i) != GGUF_TYPE_FLOAT32 || gguf_get_arr_n(g->meta, i) != SOOTHE__N_GROUPS)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s lacks soothe.ngram.scale, an array of %d numbers", g->path,
                            SOOTHE__N_GROUPS);
    const float *scales = gguf_get_arr_data(g->meta, i);
    for (int k = 0; k < SOOTHE__N_GROUPS; k++) {
        if (!(fabsf(scales[k]) <= 1e6f))
            return soothe__fail(err, SOOTHE_E_NUMERIC, "soothe.ngram.scale of %s holds %g, not a number up to 1e6",
                                g->path, (double)scales[k]);
        soothe__ngram_set_scale(s, k, scales[k]);
    }
    return SOOTHE_OK;
}

static enum soothe_status read_numbers(struct soothe__ngram_scorer *s, const struct soothe__gguf *g,
                                       struct soothe_error *err) {
    if (!soothe__gguf_find_f32(g, "soothe.ngram.bias", &s->bias))
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s lacks soothe.ngram.bias", g->path);
    if (!(fabsf(s->bias) <= 1e6f))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "soothe.ngram.bias of %s is %g, not a number up to 1e6", g->path,
                            (double)s->bias);
    if (!soothe__gguf_find_u32(g, "soothe.ngram.window", &s->window) || s->window < 2 || s->window > WINDOW_MAX)
        return soothe__fail(err, SOOTHE_E_FORMAT, "soothe.ngram.window of %s is not from 2 to %d words", g->path,
                            WINDOW_MAX);
    return read_scales(s, g, err);
}

static enum soothe_status read_codes(struct soothe__ngram_scorer *s, const struct soothe__gguf *g,
                                     struct soothe_error *err) {
    const int64_t i = gguf_find_tensor(g->meta, "weights");
    const size_t  n = n_codes(&s->shape);
    if (i < 0 || gguf_get_tensor_type(g->meta, i) != GGML_TYPE_I8)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s has no tensor weights of type I8", g->path);
    if ((size_t)soothe__gguf_n_elements(g, i) != n)
        return soothe__fail(err, SOOTHE_E_SHAPE, "tensor weights of %s has %lld values where %u bits need %zu", g->path,
                            (long long)soothe__gguf_n_elements(g, i), s->shape.bits, n);
    const enum soothe_status status = soothe__gguf_read(g, i, 0, s->codes, n, err);
    for (size_t k = 0; !status && k < n; k++)
        if (s->codes[k] == INT8_MIN)
            return soothe__fail(err, SOOTHE_E_NUMERIC, "weight %zu of %s is -128, which stands for nothing", k,
                                g->path);
    return status;
}

enum soothe_status soothe__ngram_open(struct soothe__ngram_scorer **out, const char *path, struct soothe_error *err) {
    struct soothe__gguf          g;
    struct soothe__ngram_shape   shape = {0};
    struct soothe__ngram_scorer *s     = NULL;
    const char                 **words = NULL;
    size_t                       n     = 0;
    *out                               = NULL;
    enum soothe_status status          = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    status = read_shape(&shape, &g, err);
    if (!status)
        status = read_words(&words, &n, &g, err);
    if (!status)
        status = soothe__ngram_new(&s, &shape, words, n, err);
    if (status == SOOTHE_E_ARGUMENT) /* the file's fault, not the caller's */
        status = soothe__fail(err, SOOTHE_E_FORMAT, "%s is damaged: the shape of its features is out of range", path);
    if (!status)
        status = read_numbers(s, &g, err);
    if (!status)
        status = read_codes(s, &g, err);
    if (status)
        soothe__ngram_close(s);
    else
        *out = s;
    free(words);
    soothe__gguf_close(&g);
    return status;
}

/* ---- writing ---------------------------------------------------------------------------------------------- */

static void set_numbers(struct gguf_context *meta, const struct soothe__ngram_scorer *s) {
    float scales[SOOTHE__N_GROUPS];
    for (int i = 0; i < SOOTHE__N_GROUPS; i++)
        scales[i] = s->values[i][254];
    gguf_set_val_str(meta, "general.type", SOOTHE__NGRAM_TYPE);
    gguf_set_val_u32(meta, "soothe.format_version", SOOTHE__NGRAM_VERSION);
    gguf_set_val_u32(meta, "soothe.ngram.bits", s->shape.bits);
    gguf_set_val_u32(meta, "soothe.ngram.n_words", s->shape.n_words);
    gguf_set_val_u32(meta, "soothe.ngram.char_min", s->shape.char_min);
    gguf_set_val_u32(meta, "soothe.ngram.char_max", s->shape.char_max);
    gguf_set_val_u32(meta, "soothe.ngram.lexicon", s->shape.lexicon);
    gguf_set_val_u32(meta, "soothe.ngram.window", s->window);
    gguf_set_val_f32(meta, "soothe.ngram.bias", s->bias);
    gguf_set_arr_data(meta, "soothe.ngram.scale", GGUF_TYPE_FLOAT32, scales, SOOTHE__N_GROUPS);
}

enum soothe_status soothe__ngram_save(const struct soothe__ngram_scorer *s, const struct gguf_context *facts,
                                      const char *path, struct soothe_error *err) {
    struct soothe__gguf_plan plan;
    const int64_t            ne[2]  = {(int64_t)1 << s->shape.bits, SOOTHE__N_GROUPS};
    const char             **words  = NULL;
    enum soothe_status       status = soothe__gguf_plan_new(&plan, 1, err);
    if (status)
        return status;
    words = soothe__calloc(s->list.n + 1, sizeof *words);
    if (!words) {
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory writing %s", path);
        goto done;
    }
    for (size_t i = 0; i < s->list.n; i++)
        words[i] = s->list.words[i];
    set_numbers(plan.meta, s);
    if (facts)
        gguf_set_kv(plan.meta, facts);
    gguf_set_arr_str(plan.meta, "soothe.ngram.words", words, s->list.n);
    status = soothe__gguf_plan_add_i8(&plan, "weights", s->codes, ne, err);
    if (!status)
        status = soothe__gguf_plan_save(&plan, path, err);
done:
    free(words);
    soothe__gguf_plan_free(&plan);
    return status;
}
