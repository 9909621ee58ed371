/* SPDX-License-Identifier: Apache-2.0
 * What the commands that let a model speak share (run, demo): prompts, and two texts side by side. */
#ifndef SOOTHE_SPEAK_H
#define SOOTHE_SPEAK_H

#include "base/base.h"
#include "generate/generate.h"
#include "methods/methods.h"

/* ---- prompts: prompt_list.c ------------------------------------------------------------------------ */

struct soothe__prompt_text {
    char                 *text; /* UTF-8 without zero bytes, not empty */
    struct soothe__prompt prompt;
    llama_token          *tokens; /* of prompt, owned; NULL before soothe__prompt_list_tokenize */
};

struct soothe__prompt_list {
    struct soothe__prompt_text *items;
    size_t                      n, capacity;
    struct soothe__prompt      *prompts; /* the n prompts as soothe__generate takes them */
};

/* Adds one text; where says where it came from, for messages.
 * errors  SOOTHE_E_ARGUMENT empty, invalid UTF-8, a zero byte */
enum soothe_status soothe__prompt_list_add(struct soothe__prompt_list *list, const char *text, size_t size,
                                           const char *where, struct soothe_error *err);
/* Adds a file's whole text, without the line break at its end ("-": standard input). */
enum soothe_status soothe__prompt_list_read(struct soothe__prompt_list *list, const char *path,
                                            struct soothe_error *err);
/* Adds the lines of JSON of a file ("-": standard input): {"prompt": "…"} or, as RealToxicityPrompts has them,
 * {"prompt": {"text": "…"}}. Blank lines are skipped.  errors  also SOOTHE_E_FORMAT, with the line's number */
enum soothe_status soothe__prompt_list_read_jsonl(struct soothe__prompt_list *list, const char *path,
                                                  struct soothe_error *err);
/* The same from memory. */
enum soothe_status soothe__prompt_list_parse_jsonl(struct soothe__prompt_list *list, const char *text, size_t size,
                                                   const char *name, struct soothe_error *err);
/* Fills prompts. chat: each text is one turn, in the words of the model's chat template; system may be NULL. */
enum soothe_status soothe__prompt_list_tokenize(struct soothe__prompt_list *list, const struct llama_model *model,
                                                bool chat, const char *system, struct soothe_error *err);
void               soothe__prompt_list_free(struct soothe__prompt_list *list); /* also of a zeroed one */

/* ---- two texts side by side: columns.c --------------------------------------------------------------- */

/* Columns of the terminal that out is; else of $COLUMNS; else 100. */
int soothe__terminal_width(FILE *out);

/* Prints two UTF-8 texts beside one another, "left | right", each wrapped at spaces to its half of width columns
 * (at least 8 each). Line breaks stay, blank lines go, other control characters become spaces. */
void soothe__print_columns(FILE *out, const char *left, const char *right, int width);
/* One text over the whole width, its lines after the first indented. */
void soothe__print_wrapped(FILE *out, const char *text, int width, int indent);
/* The line between them. */
void soothe__print_rule(FILE *out, int width);

/* ---- options that are numbers: number_options.c -------------------------------------------------------- */

/* --blocks: "4", "8-15" or "20-". end is not counted; 0: all from first on. NULL changes nothing. */
bool soothe__read_blocks(int32_t *first, int32_t *end, const char *text, const char *command);
/* text NULL: not given, *out stays. Otherwise the whole text must be a number from lo to hi, or it is called a
 * misuse of the command on stderr and false is returned. */
bool soothe__read_int(int32_t *out, const char *text, const char *command, const char *option, int32_t lo, int32_t hi);
bool soothe__read_float(float *out, const char *text, const char *command, const char *option, double lo, double hi);
/* NULL or -1: drawn from the system. */
bool soothe__read_seed(uint32_t *seed, const char *text, const char *command);

/* ---- which model: prompt_list.c has the texts, model_choice.c the file --------------------------------- */

/* The file of a model by name, address or path (soothe__pull_model); NULL: the default of the manifest.
 * "MODEL+DIFF…": the model with diffs (src/edit/diff.h) laid over it; "+DIFF": over the default one. */
enum soothe_status soothe__choose_model(char **path, const char *name, struct soothe_error *err);

/* How to call a chosen model that has no file of its own, diffs being laid over it: as the user did. NULL: it has one. */
const char *soothe__laid_name(const char *name, const char *path);

/* ---- rewritten prompts: tell_events.c -------------------------------------------------------------------- */

/* What the methods changed of the prompts last continued, on stderr, crude words masked. */
void soothe__tell_events(const struct soothe__applied *a);

/* ---- Ctrl-C: interrupt.c ------------------------------------------------------------------------------- */

/* From now on the first Ctrl-C sets the flag that is returned, the second ends the program. */
volatile sig_atomic_t *soothe__interrupt_flag(void);

#endif /* SOOTHE_SPEAK_H */
