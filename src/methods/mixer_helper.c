/* SPDX-License-Identifier: Apache-2.0
 * Helpers of the mixer: what a file holds, made ready to run beside the target. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/target_model.h"
#include "methods/mixer.h"

/* ---- equal vocabularies ---------------------------------------------------------------------------------- */

enum soothe_status soothe__same_vocabulary(const struct llama_model *a, const char *a_name, const struct llama_model *b,
                                           const char *b_name, struct soothe_error *err) {
    const struct llama_vocab *va = llama_model_get_vocab(a), *vb = llama_model_get_vocab(b);
    const int32_t             n_a = llama_vocab_n_tokens(va), n_b = llama_vocab_n_tokens(vb);
    const int32_t             n = n_a < n_b ? n_a : n_b;
    for (int32_t i = 0; i < n; i++) {
        const char *ta = llama_vocab_get_text(va, i), *tb = llama_vocab_get_text(vb, i);
        if (strcmp(ta, tb))
            return soothe__fail(err, SOOTHE_E_MISMATCH,
                                "logits of %.300s and %.300s cannot be mixed: token %d is \"%.40s\" in the one and "
                                "\"%.40s\" in the other",
                                a_name, b_name, i, ta, tb);
        if (llama_vocab_is_eog(va, i) != llama_vocab_is_eog(vb, i))
            return soothe__fail(err, SOOTHE_E_MISMATCH,
                                "logits of %.300s and %.300s cannot be mixed: token %d, \"%.40s\", ends a text in one "
                                "of them only",
                                a_name, b_name, i, ta);
    }
    if (n_a == n_b)
        return SOOTHE_OK;
    return soothe__fail(err, SOOTHE_E_MISMATCH,
                        "logits of %.300s and %.300s cannot be mixed: token %d, \"%.40s\", is in one of them only",
                        a_name, b_name, n, llama_vocab_get_text(n_a > n_b ? va : vb, n));
}

enum soothe_status soothe__mixer_base(struct soothe__method_target *base, struct llama_model **owned,
                                      const struct soothe__method_target *target, const char *path,
                                      struct soothe_error *err) {
    *owned = NULL;
    *base  = *target;
    if (!path)
        return SOOTHE_OK;
    enum soothe_status status = soothe__target_load(owned, path, 0, err);
    if (!status)
        status = soothe__same_vocabulary(target->model, target->path, *owned, path, err);
    if (!status)
        *base = (struct soothe__method_target){*owned, path};
    return status;
}

/* ---- files ------------------------------------------------------------------------------------------------- */

static enum soothe_status open_calibrator(struct soothe__helper *h, const char *path, float gain,
                                          const struct soothe__method_target *base, struct soothe_error *err) {
    const enum soothe_status status = soothe_calibrator_open(&h->calibrator, path, base->path, NULL, err);
    if (status)
        return status;
    h->model    = base->model;
    h->strength = gain * h->calibrator->default_strength;
    return SOOTHE_OK;
}

static enum soothe_status open_lora(struct soothe__helper *h, const char *path, float gain,
                                    const struct soothe__method_target *base, struct soothe_error *err) {
    h->model    = base->model;
    h->strength = gain;
    h->lora     = llama_adapter_lora_init(base->model, path);
    return h->lora ? SOOTHE_OK
                   : soothe__fail(err, SOOTHE_E_MISMATCH, "the engine cannot put the LoRA %s on %s", path, base->path);
}

static enum soothe_status open_model(struct soothe__helper *h, const char *path,
                                     const struct soothe__method_target *target, struct soothe_error *err) {
    const enum soothe_status status = soothe__target_load(&h->owned, path, 0, err);
    if (status)
        return status;
    h->model = h->owned;
    return soothe__same_vocabulary(target->model, target->path, h->owned, path, err);
}

static enum soothe_status open_text(struct soothe__helper *h, const char *path,
                                    const struct soothe__method_target *base, struct soothe_error *err) {
    enum { BYTES_MAX = 4096 };
    size_t                   size;
    const enum soothe_status status = soothe__read_file(&h->text, &size, path, err);
    if (status)
        return status;
    if (size == 0 || size > BYTES_MAX || strlen(h->text) != size || !soothe__utf8_valid(h->text, size))
        return soothe__fail(err, SOOTHE_E_FORMAT,
                            "%s is neither a GGUF nor a text of 1 to %d bytes of UTF-8 to be read before every "
                            "sequence",
                            path, BYTES_MAX);
    h->model       = base->model;
    h->prefixes[0] = h->text;
    h->n_prefixes  = 1;
    return SOOTHE_OK;
}

static enum soothe_status is_gguf(bool *yes, const char *path, struct soothe_error *err) {
    char  magic[4] = {0};
    FILE *stream   = fopen(path, "rb");
    if (!stream)
        return soothe__fail(err, SOOTHE_E_IO, "cannot open %s", path);
    *yes = fread(magic, 1, sizeof magic, stream) == sizeof magic && !memcmp(magic, "GGUF", 4);
    fclose(stream);
    return SOOTHE_OK;
}

enum soothe_status soothe__helper_open(struct soothe__helper *h, const char *path, float gain,
                                       const struct soothe__method_target *base,
                                       const struct soothe__method_target *target, struct soothe_error *err) {
    struct soothe__gguf g;
    bool                gguf  = false;
    *h                        = (struct soothe__helper){.model = NULL};
    enum soothe_status status = is_gguf(&gguf, path, err);
    if (status || !gguf)
        return status ? status : open_text(h, path, base, err);
    status = soothe__gguf_open(&g, path, err);
    if (status)
        return status;
    const char *type    = soothe__gguf_find_string(&g, "general.type");
    const bool  is_cal  = type && !strcmp(type, "soothe-calibrator");
    const bool  is_lora = type && !strcmp(type, "adapter");
    soothe__gguf_close(&g);
    return is_cal    ? open_calibrator(h, path, gain, base, err)
           : is_lora ? open_lora(h, path, gain, base, err)
                     : open_model(h, path, target, err);
}

enum soothe_status soothe__helper_shipped(struct soothe__helper *h, float gain,
                                          const struct soothe__method_target *base, struct soothe_error *err) {
    char               *path;
    struct soothe_error why;
    *h                        = (struct soothe__helper){.model = NULL};
    enum soothe_status status = soothe__default_calibrator(&path, err);
    if (status)
        return status;
    status = open_calibrator(h, path, gain, base, &why);
    free(path);
    if (status == SOOTHE_E_MISMATCH || status == SOOTHE_E_SHAPE)
        return soothe__fail(err, status,
                            "the shipped calibrator does not fit %s, so that no helper can be made of it: name helpers "
                            "by file, or take helpers=prefix. In full: %.500s",
                            base->path, why.message);
    return status ? soothe__fail(err, status, "%s", why.message) : SOOTHE_OK;
}

void soothe__helper_close(struct soothe__helper *h) {
    soothe_calibrator_free(h->calibrator);
    if (h->lora)
        llama_adapter_lora_free(h->lora);
    llama_model_free(h->owned);
    free(h->text);
    *h = (struct soothe__helper){.model = NULL};
}
