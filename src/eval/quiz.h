/* SPDX-License-Identifier: Apache-2.0
 * Multiple-choice questions, from files and built-in suites: what a model is asked and which answer is right.
 *
 * A question is put in one or several *forms*, as EleutherAI's lm-evaluation-harness puts it:
 *   plain   the context as it stands, a choice behind it                                         (hellaswag)
 *   letter  a line about the subject, question, lettered choices, "Answer:"; " A", " B", … follow (mmlu)
 *   cloze   a line about the subject, "Question: …", "Answer:"; each choice's own text follows    (mmlu_continuation)
 */
#ifndef SOOTHE_QUIZ_H
#define SOOTHE_QUIZ_H

#include "base/base.h"

enum { SOOTHE__QUIZ_CHOICES_MAX = 26 };

enum soothe__quiz_form { SOOTHE__QUIZ_PLAIN, SOOTHE__QUIZ_LETTER, SOOTHE__QUIZ_CLOZE, SOOTHE__QUIZ_FORMS };
extern const char *const soothe__quiz_form_names[SOOTHE__QUIZ_FORMS];

struct soothe__question {
    char  *prompt;
    char **choices; /* (n) what may follow the prompt, the space before it included */
    size_t n, right;
};

/* The questions of one source in one form. */
struct soothe__quiz {
    char                    *name; /* the file's without its endings, or the suite's */
    enum soothe__quiz_form   form;
    struct soothe__question *items;
    size_t                   n, capacity;
    char                     sha256[65]; /* of the source, unpacked */
};

struct soothe__quizzes {
    struct soothe__quiz *items;
    size_t               n;
    size_t               n_bad; /* rows left out */
    char                 first_bad[256];
};

struct soothe__quiz_source {
    const char *const *files;                       /* JSON lines, plain or compressed; NULL-terminated, or NULL */
    const char *const *suites;                      /* the same, names of built-in sets                          */
    const char        *question, *choices, *answer; /* names of fields; NULL: those that known sets have         */
    bool               forms[SOOTHE__QUIZ_FORMS];   /* none: plain for contexts with endings, else letter and cloze */
    size_t             limit;                       /* the first rows of each source; 0: all                     */
    bool               skip_bad;
};

/* Rows that are understood:
 *   {"ctx_a", "ctx_b", "activity_label", "endings", "label"}  HellaSwag's own; brackets cleaned as the harness does
 *   {"ctx", "endings", "label"}                               HellaSwag's, its texts as they are
 *   {"question", "choices", "answer", "subject"?}             MMLU's
 *   {"prompt", "answer"}                                      a question with lines "A. …", "B. …" at its end
 * The answer is a place from 0, a letter from A, or the text of a choice.
 * errors  SOOTHE_E_FORMAT a bad row (its line and what is wrong), a source without questions; SOOTHE_E_ARGUMENT no such
 *         suite; SOOTHE_E_IO */
enum soothe_status soothe__quizzes_read(struct soothe__quizzes *quizzes, const struct soothe__quiz_source *source,
                                        struct soothe_error *err);
void               soothe__quizzes_free(struct soothe__quizzes *quizzes); /* also of a zeroed one */
const char        *soothe__quiz_suite_names(void);

#endif /* SOOTHE_QUIZ_H */
