/* SPDX-License-Identifier: Apache-2.0
 * What the files of "soothe edit dinm" share: what was measured, and how it is told. */
#ifndef SOOTHE_EDIT_DINM_H
#define SOOTHE_EDIT_DINM_H

#include "cli/cli.h"
#include "eval/defence.h"
#include "eval/model_change.h"
#include "train/dinm.h"

struct soothe__dinm_judging {         /* how the edit is judged */
    const char  *questions, *attacks; /* files of other ones; NULL: none, the built-in ones */
    char *const *texts;               /* files of general texts, NULL-terminated; NULL: none */
    const char  *scorer;
    int32_t      limit, n_texts; /* prompts of a kind; texts */
    int32_t      n_predict, n_threads;
};

struct soothe__dinm_verdict {
    struct soothe__defence_figures before[SOOTHE__DEFENCE_KINDS], after[SOOTHE__DEFENCE_KINDS];
    struct soothe__answer_change   benign;
    struct soothe__model_change    texts; /* n_texts 0: none were given */
    double                         seconds;
};

/* Both models answer the same prompts and read the same texts. */
enum soothe_status soothe__dinm_judge(struct soothe__dinm_verdict *verdict, const struct soothe__dinm_options *options,
                                      const struct soothe__dinm_report  *report,
                                      const struct soothe__dinm_judging *judging, struct soothe_error *err);

/* The instances with all answers, as --instances reads them. */
enum soothe_status soothe__dinm_write_instances(const struct soothe__dinm_texts *texts, const char *path,
                                                struct soothe_error *err);

/* verdict NULL: none was asked for. Returns the exit code. */
int soothe__dinm_print(const struct soothe__dinm_options *options, const struct soothe__dinm_report *report,
                       const struct soothe__dinm_verdict *verdict, bool json);

#endif /* SOOTHE_EDIT_DINM_H */
