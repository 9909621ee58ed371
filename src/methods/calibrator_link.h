/* SPDX-License-Identifier: Apache-2.0
 * What methods share that are a calibrator's file at work: fusion, and LM-Steer as a matrix of low rank. */
#ifndef SOOTHE_CALIBRATOR_LINK_H
#define SOOTHE_CALIBRATOR_LINK_H

#include "methods/methods.h"

/* calibrator, base, alignment  files; NULL: none. Neither calibrator nor alignment: the shipped calibrator
 * shipped  where that is: soothe__default_calibrator, or alike; option: what names another, for messages */
struct soothe__calibrator_source {
    const char *calibrator, *base, *alignment;
    enum soothe_status (*shipped)(char **path, struct soothe_error *err);
    const char *option;
};
/* errors  those of soothe_calibrator_open; where the shipped one does not fit the way on is told */
enum soothe_status soothe__calibrator_source_open(struct soothe_calibrator              **cal,
                                                  const struct soothe__calibrator_source *source,
                                                  const char *target_path, struct soothe_error *err);
/* Opens the calibrator; state, strength and source of the link are then its own. */
enum soothe_status soothe__link_open_calibrator(struct soothe__link *l, const struct soothe__calibrator_source *source,
                                                const char *target_path, struct soothe_error *err);
enum soothe_status soothe__link_attach_calibrator(struct soothe__link *l, struct soothe_session *session,
                                                  struct soothe_error *err);
void               soothe__link_release_calibrator(void *state);

#endif /* SOOTHE_CALIBRATOR_LINK_H */
