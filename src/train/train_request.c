/* SPDX-License-Identifier: Apache-2.0
 * What a training run is asked for: defaults, and what is refused before anything is read. */
#include <string.h>
#include <sys/stat.h>

#include "train/train_run.h"

enum { PER_STEP_MAX = 4096, LENGTH_MIN = 4, LENGTH_MAX = 1 << 16 }; /* their product stays an int32_t */

struct soothe__train_request soothe__train_request_default(void) {
    return (struct soothe__train_request){.heldout_share    = 0.05,
                                          .max_length       = 96,
                                          .checkpoint_every = 50,
                                          .kappa            = 0.2,
                                          .lambda           = 1.5,
                                          .clip             = 1.0,
                                          .strength         = 1.0f,
                                          .seed             = 1,
                                          .cache_bytes      = (size_t)512 << 20};
}

/* Of a whole target; the caller's numbers stay. */
static void fill_whole(struct soothe__train_request *r) {
    struct soothe__whole_request *w     = &r->whole;
    const bool                    pairs = r->objective == SOOTHE__OWN_PREFERENCE;
    r->n_pairs                          = r->n_pairs > 0 ? r->n_pairs : pairs ? 8 : w->cppl ? 4 : 0;
    r->n_texts                          = r->n_texts > 0 ? r->n_texts : pairs ? 8 : w->cppl ? 0 : 16;
    r->lr_blocks                        = r->lr_blocks > 0 ? r->lr_blocks : w->full ? 2e-5 : 5e-4;
    w->matrices                         = w->matrices ? w->matrices : SOOTHE__MATRIX_ALL;
    w->rank                             = w->rank > 0 ? w->rank : 16;
    w->alpha                            = w->alpha > 0 ? w->alpha : 2.0 * w->rank;
    w->set_max                          = w->set_max > 0 ? w->set_max : 5;
}

void soothe__train_request_fill(struct soothe__train_request *r) {
    const bool pairs = r->objective != SOOTHE__PAPER;
    r->n_steps       = r->n_steps > 0 ? r->n_steps : 300;
    if (r->whole.on) {
        fill_whole(r);
        return;
    }
    if (!r->calibrator_path && r->objective != SOOTHE__LM_STEER)
        r->own_matrix = true;
    r->n_pairs   = r->n_pairs > 0 ? r->n_pairs : pairs ? 8 : 0;
    r->n_texts   = r->n_texts > 0 ? r->n_texts : pairs ? 8 : 24;
    r->lr_blocks = r->lr_blocks > 0 ? r->lr_blocks : pairs ? 2e-4 : 3e-4;
    r->lr_fusion = r->lr_fusion > 0 ? r->lr_fusion : r->objective == SOOTHE__LM_STEER ? 1e-2 : 2e-4;
}

/* ---- files ------------------------------------------------------------------------------------------------ */

static bool same_file(const char *a, const char *b) {
    struct stat x, y;
    if (!a || !b)
        return false;
    if (strcmp(a, b) == 0)
        return strcmp(a, "-") != 0;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino && S_ISREG(x.st_mode);
}

static bool is_among(const char *path, const char *const *paths, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (same_file(path, paths[i]))
            return true;
    return false;
}

/* Written is never what is read. The calibrator may be replaced by what it becomes, at the end. */
static enum soothe_status check_written(const struct soothe__train_request *r, const char *path, const char *what,
                                        struct soothe_error *err) {
    const char *role = same_file(path, r->model_path)                               ? "the target"
                       : is_among(path, r->data_paths, r->n_data)                   ? "data"
                       : is_among(path, r->heldout_paths, r->n_heldout)             ? "held-out data"
                       : path != r->states_path && same_file(path, r->states_path)  ? "the target's states"
                       : path != r->out_path && same_file(path, r->calibrator_path) ? "the calibrator to begin from"
                                                                                    : NULL;
    return role ? soothe__fail(err, SOOTHE_E_ARGUMENT, "%s cannot be %s: it is %s", path, what, role) : SOOTHE_OK;
}

static enum soothe_status check_files(const struct soothe__train_request *r, struct soothe_error *err) {
    if (r->n_data == 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "training needs at least one data file");
    enum soothe_status status =
        check_written(r, r->out_path, r->whole.on ? "the model written" : "the calibrator written", err);
    if (!status)
        status = check_written(r, r->checkpoint_path, "the checkpoint", err);
    if (!status && r->states_path)
        status = check_written(r, r->states_path, "the file of states", err);
    if (!status && same_file(r->out_path, r->checkpoint_path))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s cannot be both the result and the checkpoint", r->out_path);
    return status;
}

/* Rather now than after hours. */
static enum soothe_status check_writable(const char *path, struct soothe_error *err) {
    struct soothe__new_file f;
    struct stat             st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
        return SOOTHE_OK; /* opening a pipe would wait for its reader */
    const enum soothe_status status = soothe__new_file_open(&f, path, err);
    soothe__new_file_abort(&f);
    return status;
}

/* ---- numbers ---------------------------------------------------------------------------------------------- */

static enum soothe_status check_whole(const struct soothe__train_request *r, struct soothe_error *err) {
    const struct soothe__whole_request *w = &r->whole;
    if (!w->on || (r->objective != SOOTHE__WEIGHTED && r->objective != SOOTHE__OWN_PREFERENCE) ||
        (w->cppl && r->objective != SOOTHE__WEIGHTED))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "the %s objective %s", soothe__objective_name(r->objective),
                            w->on ? "is not for a whole target" : "trains a whole target, not a calibrator");
    if (r->calibrator_path || r->own_matrix || r->bias || r->freeze_blocks || r->rank)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a whole target is trained without calibrator, matrices or bias");
    if (w->full && (w->lora || w->merged_path))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "tensors that learn whole cannot be written as a LoRA file");
    if (w->merged_path && !w->lora)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s: a second merged model is for a run that writes a LoRA file",
                            w->merged_path);
    if (w->n_kl < 0 || w->n_kl > PER_STEP_MAX || w->set_max > PER_STEP_MAX ||
        (int64_t)r->n_pairs * (int64_t)w->set_max > PER_STEP_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "%d sets of %u texts each side, and %d texts to stay close on: at most %d texts a step are "
                            "possible",
                            r->n_pairs, w->set_max, w->n_kl, PER_STEP_MAX);
    return SOOTHE_OK;
}

static enum soothe_status check_numbers(const struct soothe__train_request *r, struct soothe_error *err) {
    if (r->n_pairs > PER_STEP_MAX || r->n_texts > PER_STEP_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%d pairs and %d texts a step: at most %d of each are possible",
                            r->n_pairs, r->n_texts, PER_STEP_MAX);
    if (r->max_length < LENGTH_MIN || r->max_length > LENGTH_MAX)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "texts of at most %d tokens: %d to %d are possible", r->max_length,
                            LENGTH_MIN, LENGTH_MAX);
    if (r->objective == SOOTHE__LM_STEER && (r->calibrator_path || r->own_matrix || r->bias))
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "lm-steer trains a matrix of low rank on the target's own state: it takes neither a "
                            "calibrator nor another matrix nor a bias");
    if (r->whole.on || r->objective == SOOTHE__WEIGHTED || r->objective == SOOTHE__OWN_PREFERENCE)
        return check_whole(r, err);
    if (r->objective != SOOTHE__LM_STEER && r->rank)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a rank is for the objective lm-steer alone");
    if (r->objective != SOOTHE__PAPER)
        return SOOTHE_OK;
    if (!r->calibrator_path)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the paper objective trains blocks under the calibrator's own head: it needs a calibrator "
                            "with blocks");
    if (r->n_pairs > 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the paper objective learns from texts, not from pairs: leave out the pairs of a step");
    if (r->own_matrix || r->bias)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the paper objective trains blocks only: it has neither a matrix on the target's own state "
                            "nor a bias");
    if (r->freeze_blocks)
        return soothe__fail(err, SOOTHE_E_ARGUMENT,
                            "the paper objective trains blocks only: with frozen blocks there is nothing to train");
    return SOOTHE_OK;
}

enum soothe_status soothe__train_request_check(const struct soothe__train_request *r, struct soothe_error *err) {
    enum soothe_status status = check_numbers(r, err);
    if (!status)
        status = check_files(r, err);
    if (!status)
        status = check_writable(r->out_path, err);
    if (!status)
        status = check_writable(r->checkpoint_path, err);
    if (!status && r->whole.merged_path)
        status = check_written(r, r->whole.merged_path, "the merged model", err);
    if (!status && r->whole.merged_path)
        status = check_writable(r->whole.merged_path, err);
    if (!status &&
        (same_file(r->whole.merged_path, r->out_path) || same_file(r->whole.merged_path, r->checkpoint_path)))
        status = soothe__fail(err, SOOTHE_E_ARGUMENT, "%s cannot be written twice", r->whole.merged_path);
    return status;
}
