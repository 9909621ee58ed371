/* SPDX-License-Identifier: Apache-2.0
 * --objective acft: useful texts are learnt while the model is pulled to the nearest distribution of its own whose
 * texts end clean, as a success head (methods/nado.h) estimates it. One round; scripts/acft_rounds.sh runs several. */
#ifndef SOOTHE_ACFT_H
#define SOOTHE_ACFT_H

#include "cli/own_corpus.h"
#include "methods/nado.h"

struct soothe__acft {
    char                      *nado, *power, *bellman, *epochs; /* popt's */
    char                      *kl_path, *head_path;
    const char               **data; /* the user's files, then kl_path */
    struct soothe__nado       *head;
    bool                       trained; /* the report is this run's */
    struct soothe__nado_report report;
    char                       head_sha256[65];
    size_t                     n_kl_texts;
    float                      strength;
    struct soothe__fact        facts[8];
};

/* Rows of popt's table for a variable `acft`. */
#define SOOTHE__ACFT_OPTIONS(acft)                                                                                     \
    {"nado", '\0', POPT_ARG_STRING, &(acft).nado, 0, "acft: a success head (one is trained on the samples)", "FILE"},  \
        {"power", '\0', POPT_ARG_STRING, &(acft).power, 0, "acft: of the estimate in the soft labels (1)", "X"},       \
        {"bellman", '\0', POPT_ARG_STRING, &(acft).bellman, 0, "acft: weight of the head's Bellman term (0.5)", "X"},  \
    {                                                                                                                  \
        "epochs", '\0', POPT_ARG_STRING, &(acft).epochs, 0, "acft: the head's passes over the samples (8)", "N"        \
    }

const char *soothe__acft_given(const struct soothe__acft *acft);
/* -1, or the exit code of a misuse. */
int soothe__acft_check(const struct soothe__acft *acft, const struct soothe__own_corpus *own, const char *command);
/* Samples, head and soft labels of a request whose data are useful texts. */
enum soothe_status soothe__acft_make(struct soothe__acft *acft, struct soothe__own_corpus *own,
                                     struct soothe__train_request *r, struct soothe_error *err);
json_t            *soothe__acft_json(const struct soothe__acft *acft, const struct soothe__own_corpus *own);
void               soothe__acft_print(const struct soothe__acft *acft);
void               soothe__acft_free(struct soothe__acft *acft);

#endif /* SOOTHE_ACFT_H */
