/* SPDX-License-Identifier: Apache-2.0
 * Files of our own kinds: what they say that they are, and how they were made. */
#include <string.h>

#include "engine/engine.h"

#define KEY_VERSION "soothe.format_version"
#define KEY_TOOL "soothe.tool.version"

enum soothe_status soothe__gguf_check_kind(const struct soothe__gguf *g, const struct soothe__gguf_kind *kind,
                                           struct soothe_error *err) {
    const char *type    = soothe__gguf_find_string(g, "general.type");
    uint32_t    version = 0;
    if (!type || strcmp(type, kind->type) != 0)
        return soothe__fail(err, SOOTHE_E_FORMAT, "%s %s (general.type is %s); make one with: %s", g->path,
                            kind->is_other, type ? type : "absent", kind->maker);
    if (!soothe__gguf_find_u32(g, KEY_VERSION, &version) || version != kind->version)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has %s format %u; this soothe reads format %u", g->path,
                            kind->noun, version, kind->version);
    return SOOTHE_OK;
}

void soothe__gguf_set_kind(struct gguf_context *meta, const struct soothe__gguf_kind *kind, const char *name) {
    gguf_set_val_str(meta, "general.type", kind->type);
    gguf_set_val_str(meta, "general.architecture", kind->type);
    gguf_set_val_str(meta, "general.name", name);
    gguf_set_val_u32(meta, KEY_VERSION, kind->version);
    gguf_set_val_str(meta, KEY_TOOL, SOOTHE_VERSION);
}

void soothe__gguf_set_facts(struct gguf_context *meta, const struct soothe__fact *facts, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (facts[i].text)
            gguf_set_val_str(meta, facts[i].key, facts[i].text);
        else
            gguf_set_val_f64(meta, facts[i].key, facts[i].number);
}
