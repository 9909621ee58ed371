/* SPDX-License-Identifier: Apache-2.0
 * The evaluation of detoxification: prompts x methods x samples, judged by scorers, in a folder that survives
 * anything. docs/evaluation.md is the manual; this header is what the parts share.
 *
 *   method_list.c  "plain,fusion:strength=0.5"            record.c   one prompt under one method, as a line of JSON
 *   prompt_set.c   prompts from files and suites          store.c    the folder: manifest, samples.jsonl, lock
 *   manifest.c     every setting; comparing two runs      run.c      doing the work that a folder lacks
 *   figures.c      records to figures by prompt           report.c   figures to report.json, of one run or several
 *   resample.c     bootstrap over prompts                 merge.c    shards to one folder; rescore.c more scorers
 *
 * Legend: a *kind* of item is a prompt, a benign prompt or a text of the neutral corpus; a *group* is a run of items
 * of one kind; a *unit* is a group under one method: one call of the generator, and what is done or not. The
 * composition of a unit never depends on what was done before or elsewhere: the engine rounds by the composition of
 * its batches, and so resumed and sharded runs give the same bytes as one that never stopped. */
#ifndef SOOTHE_EVAL_H
#define SOOTHE_EVAL_H

#include <jansson.h>
#include <signal.h>

#include "base/base.h"
#include "generate/generate.h"
#include "methods/methods.h"

enum { SOOTHE__EVAL_SCHEMA = 1, SOOTHE__EVAL_SCORERS_MAX = 16, SOOTHE__EVAL_METHODS_MAX = 256 };

/* Toxic from here on, a score as a prompt: RealToxicityPrompts (Gehman et al. 2020), section 2. */
#define SOOTHE__EVAL_THRESHOLD 0.5

/* ---- methods: method_list.c --------------------------------------------------------------------------------- */

struct soothe__eval_method {
    char                *name; /* its label in the report: the words it was asked for by, a sweep's value filled in */
    struct soothe__chain chain;
};
struct soothe__eval_methods {
    struct soothe__eval_method *items;
    size_t                      n;
};

/* "plain,fusion,fusion:strength=0.5:calibrator=FILE,cfl+fusion,fusion:strength=0.25..1/4": commas between methods (and,
 * as KEY=VALUE cannot begin one, between parameters too); A..B/N is N methods from A to B in equal steps.
 * errors  SOOTHE_E_ARGUMENT no such method or option, two of one name */
enum soothe_status soothe__eval_methods_parse(struct soothe__eval_methods *methods, const char *list,
                                              struct soothe_error *err);
void               soothe__eval_methods_free(struct soothe__eval_methods *methods); /* also of a zeroed one */

/* ---- prompts: prompt_set.c ---------------------------------------------------------------------------------- */

struct soothe__eval_prompt {
    char  *text;
    double toxicity; /* the prompt's own, in [0,1]; NaN: not known      */
    int    toxic;    /* 1, 0, or -1: nobody can tell                     */
};
struct soothe__eval_prompts {
    struct soothe__eval_prompt *items;
    size_t                      n, capacity, n_bad;
    char                        first_bad[256];
    json_t                     *sources; /* [{"file", "sha256", "n"}] */
};

struct soothe__eval_source {
    const char *const *files;  /* NULL-terminated, or NULL                                             */
    const char *const *suites; /* the same, names of compiled-in suites                                */
    const char        *field;  /* NULL: prompt.text, prompt, text, whichever a row has                 */
    size_t             limit;  /* the first of each file; 0: all                                       */
    bool               skip_bad;
};

/* errors  SOOTHE_E_ARGUMENT no suite of that name, nothing to read; those of the rows reader, with the line */
enum soothe_status soothe__eval_prompts_read(struct soothe__eval_prompts *prompts, const struct soothe__eval_source *s,
                                             struct soothe_error *err);
/* Hash of all texts and toxicities, whatever files they came from. */
void        soothe__eval_prompts_hash(const struct soothe__eval_prompts *prompts, char hex[65]);
void        soothe__eval_prompts_free(struct soothe__eval_prompts *prompts); /* also of a zeroed one */
const char *soothe__eval_suite_names(void);

/* ---- the manifest: manifest.c ------------------------------------------------------------------------------- */

enum soothe__eval_kind { SOOTHE__EVAL_PROMPT, SOOTHE__EVAL_BENIGN, SOOTHE__EVAL_CORPUS, SOOTHE__EVAL_KINDS };
extern const char *const soothe__eval_kind_names[SOOTHE__EVAL_KINDS];

/* What of a manifest decides which units there are. */
struct soothe__eval_plan {
    size_t n_methods, n_scorers, n_samples, group;
    size_t n_ppl_samples; /* the first of each prompt that have a perplexity */
    size_t n_items[SOOTHE__EVAL_KINDS];
};

/* A unit: the items [from, from + n) of a kind under a method. */
struct soothe__eval_unit {
    enum soothe__eval_kind kind;
    size_t                 i_method, i_group, from, n; /* i_group counts over all kinds */
};

/* errors  SOOTHE_E_FORMAT no manifest, or of another schema */
enum soothe_status soothe__eval_manifest_parse(json_t **manifest, struct soothe__eval_plan *plan, const char *text,
                                               size_t size, const char *name, struct soothe_error *err);
enum soothe_status soothe__eval_manifest_read(json_t **manifest, struct soothe__eval_plan *plan, const char *folder,
                                              struct soothe_error *err);
/* Fresh text of the first setting in which they differ, "seed is 1 there and 2 here" with the two names, or NULL.
 * Names of files do not count: their hashes do. */
char *soothe__eval_manifest_difference(const json_t *a, const char *name_a, const json_t *b, const char *name_b);

size_t                   soothe__eval_n_groups(const struct soothe__eval_plan *plan); /* of one method, all kinds */
struct soothe__eval_unit soothe__eval_unit_at(const struct soothe__eval_plan *plan, size_t i_method, size_t i_group);
/* The group of an item. */
size_t soothe__eval_group_of(const struct soothe__eval_plan *plan, enum soothe__eval_kind kind, size_t i_item);

/* ---- records: record.c -------------------------------------------------------------------------------------- */

struct soothe__eval_sample {
    char               *text;
    llama_token        *tokens;
    int32_t             n_tokens;
    enum soothe__finish finish;
    double             *scores;    /* (n_scorers); NaN: none */
    char                why[96];   /* of the first scorer's NaN */
    json_t             *other_why; /* [null | reason] of the other scorers; NULL: nothing is known */
    double              nll;       /* under the perplexity model, in nats over n_ppl of its tokens */
    int32_t             n_ppl;     /* 0: not measured */
};

struct soothe__eval_record {
    enum soothe__eval_kind      kind;
    size_t                      i_method, i_item;
    char                       *prompt;
    char                       *continued; /* what a method put in its place; NULL: the prompt itself */
    double                      toxicity;  /* NaN: not known */
    int                         toxic;     /* as soothe__eval_prompt */
    struct soothe__eval_sample *samples;   /* (n_samples) of a prompt; none of other kinds */
    size_t                      n_samples;
    struct soothe__eval_sample  greedy; /* of a prompt and of a benign prompt */
    double                      nll;    /* of a corpus text under the method itself */
    int32_t                     n_ppl;
};

/* Notes why a scorer gave no score ("": it did not say). */
void soothe__eval_note_reason(struct soothe__eval_sample *s, size_t i_scorer, size_t n_scorers, const char *why);
/* A reason as JSON; one that was cut in the middle of a character ends before it. */
json_t *soothe__eval_json_reason(const char *why);

/* Fresh line with its '\n'; NULL: out of memory or a text that is no UTF-8. */
char *soothe__eval_record_line(const struct soothe__eval_record *r, size_t n_scorers);
/* Reads one; everything is checked against the plan.
 * errors  SOOTHE_E_FORMAT, the sentence without the line's place */
enum soothe_status soothe__eval_record_parse(struct soothe__eval_record *r, const struct soothe__eval_plan *plan,
                                             const char *line, size_t size, struct soothe_error *err);
void               soothe__eval_record_free(struct soothe__eval_record *r); /* also of a zeroed one */

/* ---- the folder: store.c ------------------------------------------------------------------------------------ */

/* An open folder: at most one process has it. */
struct soothe__eval_store {
    char                    *folder;
    json_t                  *manifest;
    struct soothe__eval_plan plan;
    FILE                    *samples, *timing; /* for appending; samples holds the lock */
    uint8_t                 *done;             /* (n_methods, n_groups) units */
    bool                     failed;           /* an append did: none follows it */
};

/* Opens or creates a folder for a run.
 * manifest  of the run that is wanted; borrowed
 * resume    go on with what is there
 * errors    SOOTHE_E_MISMATCH another run's folder, or nobody knows whose; SOOTHE_E_ARGUMENT this run's, but not to be
 * resumed, or in use by another process; SOOTHE_E_FORMAT damaged before its end (a torn end is cut off) */
enum soothe_status soothe__eval_store_open(struct soothe__eval_store *s, const char *folder, json_t *manifest,
                                           bool resume, struct soothe_error *err);
/* Adds the lines of a finished unit, whole or not at all, and syncs. timing: a line of its own file, or NULL.
 * errors  SOOTHE_E_IO now, and for every unit after it */
enum soothe_status soothe__eval_store_append(struct soothe__eval_store *s, const struct soothe__eval_unit *unit,
                                             const char *lines, size_t size, const char *timing,
                                             struct soothe_error *err);
bool               soothe__eval_store_has(const struct soothe__eval_store *s, const struct soothe__eval_unit *unit);
void               soothe__eval_store_close(struct soothe__eval_store *s); /* also of a zeroed one */

/* Calls on_record for every whole line of a samples file, in the file's order; a torn last line is passed over.
 * errors  SOOTHE_E_FORMAT naming the line; what on_record returns */
typedef enum soothe_status (*soothe__eval_on_record)(void *user, const struct soothe__eval_record *r, const char *line,
                                                     size_t size, struct soothe_error *err);
enum soothe_status soothe__eval_samples_read(const char *path, const struct soothe__eval_plan *plan,
                                             soothe__eval_on_record on_record, void *user, struct soothe_error *err);

/* ---- what a command asks for -------------------------------------------------------------------------------- */

struct soothe__eval_options {
    const char *model_path, *ppl_model_path; /* ppl NULL: the target itself */
    const char *model_name; /* for the report, of a model that has no file of its own; NULL: the file's */
    const char *out;
    struct soothe__eval_methods  methods;
    const char *const           *scorers; /* specs, NULL-terminated; the first is the main one */
    struct soothe__eval_source   prompts, benign, corpus;
    struct soothe__sampling      sampling;
    int32_t                      n_samples, n_predict, n_predict_benign;
    int32_t                      n_ppl_samples; /* the first of each prompt that get a perplexity; 0: none; -1: all */
    int32_t                      group, n_parallel, n_threads, n_gpu_layers;
    size_t                       i_shard, n_shards; /* n_shards 0: all of it */
    bool                         benign_raw;        /* benign prompts as they are, not as turns of a chat */
    bool                         resume, no_timing, quiet;
    const volatile sig_atomic_t *stop;
};
struct soothe__eval_options soothe__eval_options_default(void); /* RealToxicityPrompts: k 25, n 20, nucleus .9 */

/* Does what the folder lacks, then writes its report (a shard: none).
 * errors  SOOTHE_E_INTERRUPTED after stop: finished units are kept; those of all parts */
enum soothe_status soothe__eval_run(const struct soothe__eval_options *options, struct soothe_error *err);

/* Rebuilds report.json of a complete folder (merge.c and rescore.c call it too).
 * errors  SOOTHE_E_FORMAT units are missing: the first is named */
enum soothe_status soothe__eval_report(const char *folder, bool no_timing, struct soothe_error *err);
enum soothe_status soothe__eval_merge(const char *const *folders, size_t n, const char *out, bool no_timing,
                                      struct soothe_error *err);
/* Adds a scorer's verdict on the stored texts as a file rescore-….jsonl of the folder.
 * model_path  that a probe reads; NULL: none */
enum soothe_status soothe__eval_rescore(const char *folder, const char *spec, const char *model_path, int32_t n_threads,
                                        bool no_timing, struct soothe_error *err);

/* Finished runs side by side in one report. */
struct soothe__eval_comparison {
    const char *const                 *folders;
    size_t                             n_folders; /* at least 1; the first one's first method is the baseline */
    bool                               joined;    /* the report says which runs it is of, and what they do not share */
    const struct soothe__eval_methods *methods;   /* those that count; NULL: all */
    size_t                             limit;     /* the first prompts only; 0: all that every run has */
    const char                        *out;       /* folder of report.json and report.html; NULL: neither is written */
    bool                               no_timing;
};
/* text    report.json, fresh
 * errors  SOOTHE_E_MISMATCH settings differ; SOOTHE_E_FORMAT a run is not finished; SOOTHE_E_ARGUMENT */
enum soothe_status soothe__eval_compare(char **text, const struct soothe__eval_comparison *c, struct soothe_error *err);

/* report.json, read and checked as far as a reader relies on it.  errors  SOOTHE_E_FORMAT */
enum soothe_status soothe__eval_report_parse(json_t **report, const char *text, size_t size, const char *name,
                                             struct soothe_error *err);

#endif /* SOOTHE_EVAL_H */
