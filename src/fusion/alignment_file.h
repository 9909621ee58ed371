/* SPDX-License-Identifier: Apache-2.0
 * The alignment's file: matrices that let a calibrator serve a target for which it was not trained (docs/format.md,
 * docs/alignment.md). Its fusion has the calibrator's own keys. */
#ifndef SOOTHE_ALIGNMENT_FILE_H
#define SOOTHE_ALIGNMENT_FILE_H

#include "fusion/fusion.h"

#define SOOTHE__ALIGNMENT_TYPE "soothe-alignment" /* general.type */
#define SOOTHE__KEY_OBJECTIVE "soothe.alignment.objective"
#define SOOTHE__KEY_CALIBRATOR_NAME "soothe.alignment.calibrator_name"
#define SOOTHE__KEY_CALIBRATOR "soothe.alignment.calibrator_sha256" /* soothe__calibrator_identity */

struct soothe__alignment_spec {
    const char                  *name, *objective;
    const char                  *target_path, *calibrator_path; /* calibrator_path NULL: B or bias of no calibrator */
    const struct soothe__fusion *fusion;
    float                        strength;
    size_t                       n_facts;
    const struct soothe__fact   *facts;
};

enum soothe_status soothe__alignment_write(const char *out_path, const struct soothe__alignment_spec *spec,
                                           struct soothe_error *err);

/* Puts the alignment's matrices and strength into cal, of which n_blocks is set and fusion empty. One without A needs
 * no blocks: n_blocks becomes 0.
 * calibrator  the calibrator's file; NULL: there is none
 * errors      SOOTHE_E_MISMATCH of another calibrator or target, naming both; SOOTHE_E_ARGUMENT it has an A and no
 *             calibrator is given */
enum soothe_status soothe__alignment_apply(struct soothe_calibrator *cal, const char *path,
                                           const struct soothe__gguf *calibrator, const struct soothe__gguf *target,
                                           struct soothe_error *err);

/* Of everything that decides a calibrator's states: block count, cut of the base, and all tensors but the matrices. */
enum soothe_status soothe__calibrator_identity(char hex[65], const struct soothe__gguf *g, struct soothe_error *err);

#endif /* SOOTHE_ALIGNMENT_FILE_H */
