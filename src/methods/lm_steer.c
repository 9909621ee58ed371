/* SPDX-License-Identifier: Apache-2.0
 * LM-Steer: z = E (h + s e P1 P2^T h), which is the fusion of a calibrator without blocks whose B is e P2 P1^T
 * (docs/methods/lm-steer.md; trained by src/train/low_rank.c). */
#include "methods/lm_steer.h"

static enum soothe_status shipped(char **path, struct soothe_error *err) {
    return soothe__shipped_file(path, "default.lm-steer.gguf", "LM-Steer",
                                "train one by soothe calibrator train --objective lm-steer, and name it by "
                                "--method lm-steer:file=FILE",
                                err);
}

struct soothe__calibrator_source soothe__lm_steer_source(const char *file, const char *alignment, const char *option) {
    return (struct soothe__calibrator_source){
        .calibrator = file, .alignment = alignment, .shipped = shipped, .option = option};
}

static enum soothe_status open_steer(struct soothe__link *l, const struct soothe__method_target *target,
                                     struct llama_context_params *context, struct soothe_error *err) {
    (void)context;
    const struct soothe__calibrator_source source =
        soothe__lm_steer_source(soothe__link_value(l, "file")->text, soothe__link_value(l, "alignment")->text,
                                "--method lm-steer:file=FILE, or take --method none");
    return soothe__link_open_calibrator(l, &source, target->path, err);
}

static const struct soothe__parameter PARAMETERS[] = {
    {"strength", SOOTHE__NUMBER, NULL, -1000, 1000, NULL, "0: plain; what the file recommends if not given"},
    {"file", SOOTHE__FILE, NULL, 0, 0, NULL, "what training wrote; the shipped one where it fits if not given"},
    {"alignment", SOOTHE__FILE, NULL, 0, 0, NULL, "matrices that soothe align carried over to this target"},
    {.name = NULL}};

const struct soothe__method soothe__method_lm_steer = {
    .name       = "lm-steer",
    .summary    = "a matrix of low rank on the final state, learnt from clean and toxic text",
    .stage      = "state",
    .cost       = "one d x d product",
    .source     = "Han et al., Word Embeddings Are Steers for Language Models, ACL 2024",
    .parameters = PARAMETERS,
    .open       = open_steer,
    .attach     = soothe__link_attach_calibrator,
    .release    = soothe__link_release_calibrator};
