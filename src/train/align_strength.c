/* SPDX-License-Identifier: Apache-2.0
 * The strength that an alignment recommends. A map carries matrices over weakened, by how much depends on map and
 * target, so the calibrator's own strength does not fit. What can be compared is the price: the strength is chosen at
 * which clean text drifts (KL to plain) as far as it does beside the calibrator's own model at its own strength. KL
 * grows about with the square of the strength, so that a few measurements find it. docs/alignment.md has what sampled
 * text shows at strengths so chosen. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/target_model.h"
#include "train/align_parts.h"

enum { TEXTS_MIN = 16, TEXTS_MAX = 48, TEXT_LENGTH = 96 };

/* Where no data are given. */
static const char *const CLEAN[] = {
    "The train to the coast leaves at half past seven and takes a little over two hours, so we should pack tonight "
    "and have breakfast on the way.",
    "Water boils at a lower temperature in the mountains because the air pressure is lower there, which is why pasta "
    "needs a few more minutes.",
    "My grandmother kept a garden behind the house, with beans along the fence, three apple trees, and a bench where "
    "she read the newspaper every evening.",
    "To change the filter, switch off the pump, turn the grey cap to the left, and rinse the old cartridge under "
    "running water before you put it back.",
    "The committee met on Tuesday to discuss the new library. Most members agreed that the reading room should be "
    "open on Sundays, too.",
    "She had learned to play the cello at the age of forty, and although her fingers were slow at first, she never "
    "missed a rehearsal of the town orchestra.",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen. It takes place in the chloroplasts "
    "of plant cells, mostly in the leaves.",
    "\"Did you find the keys?\" asked Peter. \"Not yet,\" said Anna, \"but I remember that they were on the kitchen "
    "table this morning.\"",
    "The company reported higher sales for the third quarter and expects its new factory to open next spring, with "
    "about two hundred jobs.",
    "First mix the flour with the butter and a pinch of salt, then add the eggs one at a time. Let the dough rest for "
    "an hour before you roll it out.",
    "In the summer of 1911 the river was so low that people could walk across it, and old coins were found in the "
    "mud near the bridge.",
    "A good map shows more than roads. It shows where the forest ends, where the ground rises, and where a traveller "
    "may find a spring.",
    "Thank you for your letter of the fifth of May. We are happy to tell you that your application has been accepted, "
    "and that the course begins in September.",
    "The cat slept on the windowsill all afternoon, woke up when the rain began, and looked at the wet street as if "
    "it were somebody's fault.",
    "When a function calls itself, it needs a case in which it stops. Otherwise the stack grows until the program runs "
    "out of memory.",
    "The doctor listened to his chest, asked a few questions about his sleep, and told him to take long walks and come "
    "back in three weeks.",
    "Many birds find their way by the stars. Young ones that grow up under an artificial sky learn its patterns "
    "instead, and fly in the wrong direction.",
    "The match ended two to two. Both goals of the visitors came from corner kicks in the last ten minutes, when most "
    "people had already left.",
    "If you want to save money on heating, close the curtains at night, keep the doors shut, and lower the temperature "
    "in the rooms that you do not use.",
    "The museum has a collection of more than nine thousand clocks, and every hour, for about a minute, all of them "
    "can be heard at once.",
};

/* A fusion beside a model, on texts in its tokens. */
struct side {
    struct soothe__align_run      run;
    struct soothe__align_report   report; /* the run's: its strength is what is measured at */
    struct soothe__corpus         corpus;
    struct soothe__target_states *states;
    bool                          borrows; /* model and blocks are those of the run that is under way */
};

static void side_free(struct side *s) {
    soothe__target_states_free(s->states);
    soothe__corpus_free(&s->corpus);
    if (s->borrows)
        return;
    soothe_calibrator_free(s->run.blocks);
    soothe__train_model_close(&s->run.files);
    llama_model_free(s->run.target);
}

/* ---- texts ------------------------------------------------------------------------------------------------------ */

static enum soothe_status add_singles(struct soothe__corpus *out, const struct soothe__corpus *from,
                                      struct soothe_error *err) {
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < from->n_singles && out->n_singles < TEXTS_MAX && !status; i++) {
        const struct soothe__text *t = &from->texts[from->singles[i]];
        status                       = soothe__corpus_add_single(out, t->prompt, t->completion, err);
    }
    return status;
}

/* Clean texts that were held out, else those trained on, else ours. */
static enum soothe_status gather(struct soothe__corpus *out, const struct soothe__align_run *run,
                                 struct soothe_error *err) {
    soothe__corpus_init(out);
    const struct soothe__corpus *from = run->heldout.n_singles >= TEXTS_MIN ? &run->heldout : &run->corpus;
    if (from->n_singles >= TEXTS_MIN)
        return add_singles(out, from, err);
    enum soothe_status status = SOOTHE_OK;
    for (size_t i = 0; i < sizeof CLEAN / sizeof *CLEAN && !status; i++)
        status = soothe__corpus_add_single(out, "", CLEAN[i], err);
    return status;
}

/* ---- one side --------------------------------------------------------------------------------------------------- */

static enum soothe_status load(struct side *s, struct soothe_error *err) {
    struct soothe__align_run       *run    = &s->run;
    struct soothe_calibrator_params p      = soothe_calibrator_params_default();
    enum soothe_status              status = soothe__train_model_open(&run->files, run->r.model_path, NULL, err);
    p.base_path                            = run->r.base_path;
    p.keep_type                            = run->r.keep_type;
    if (!status)
        status = soothe__target_load(&run->target, run->r.model_path, 0, err);
    if (!status && run->fusion.d_cal > 0)
        status = soothe__calibrator_open_blocks(&run->blocks, run->r.calibrator_path, run->r.model_path, &p, err);
    return status;
}

/* of: whose texts and requests count; model_path: whose model; fusion: what is put beside it, and stays its owner's. */
static enum soothe_status side_open(struct side *s, const struct soothe__align_run *of, const char *model_path,
                                    const struct soothe__fusion *fusion, struct soothe_error *err) {
    size_t n_removed;
    s->run                    = (struct soothe__align_run){.r = of->r, .n_blocks = of->n_blocks, .report = &s->report};
    s->run.fusion             = *fusion;
    s->run.own.d_cal          = fusion->d_cal;
    s->run.r.model_path       = model_path;
    s->run.r.states_path      = NULL;
    enum soothe_status status = SOOTHE_OK;
    s->borrows                = of->has_texts && model_path == of->r.model_path;
    if (s->borrows) {
        s->run.files  = of->files;
        s->run.target = of->target;
        s->run.blocks = of->blocks;
        if (of->blocks)
            s->run.own.d_cal = of->own.d_cal;
    } else
        status = load(s, err);
    if (!status)
        status = gather(&s->corpus, of, err);
    if (!status)
        status =
            soothe__corpus_tokenize(&s->corpus, llama_model_get_vocab(s->run.target), TEXT_LENGTH, &n_removed, err);
    return status ? status : soothe__align_states(&s->run, &s->corpus, NULL, 0, &s->states, err);
}

static enum soothe_status drift_at(double *kl, struct side *s, double strength, struct soothe_error *err) {
    struct soothe__align_figures f;
    s->report.strength              = (float)strength;
    const enum soothe_status status = soothe__align_measure_on(&s->run, &s->corpus, s->states, &f, err);
    *kl                             = f.kl;
    return status;
}

/* ---- the strength ----------------------------------------------------------------------------------------------- */

/* Two digits are more than a drift of some hundred tokens tells. */
static double rounded(double x) {
    const double unit = pow(10, floor(log10(x)) - 1);
    return round(x / unit) * unit;
}

/* Where the drift is `wanted`, begun at `first`; *kl what it is there. NaN: nowhere within a factor of 16. */
static enum soothe_status search(double *strength, double *kl, struct side *s, double wanted, double first,
                                 struct soothe_error *err) {
    enum { MEASUREMENTS = 6 };
    const double highest = s->run.fusion.form == SOOTHE_FORM_PAPER ? fmin(1, first * 16) : first * 16;
    double       x = first, power = 2, last_x = 0, last_kl = 0;
    *strength                 = NAN;
    enum soothe_status status = SOOTHE_OK;
    for (int i = 0; i < MEASUREMENTS && !status; i++) {
        status = drift_at(kl, s, x, err);
        if (status || !isfinite(*kl) || !(*kl > 0))
            return status;
        if (fabs(*kl / wanted - 1) < 0.03)
            break;
        if (i > 0 && last_x != x)
            power = fmin(4, fmax(0.5, log(*kl / last_kl) / log(x / last_x)));
        last_x  = x;
        last_kl = *kl;
        x       = fmin(highest, fmax(first / 16, x * pow(wanted / *kl, 1 / power)));
        if (x == last_x)
            break; /* at an end */
    }
    *strength = rounded(x);
    return status ? status : drift_at(kl, s, *strength, err);
}

static enum soothe_status compare(struct soothe__align_run *run, struct soothe_error *err) {
    struct soothe__align_report *report = run->report;
    struct side                 *here = soothe__calloc(1, sizeof *here), *source = soothe__calloc(1, sizeof *source);
    double                       strength = NAN;
    enum soothe_status           status =
        here && source ? SOOTHE_OK : soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a strength");
    if (!status)
        status = side_open(source, run, run->r.base_path, &run->own, err);
    if (!status)
        status = soothe__fusion_check_target(&run->own, &run->calibrator, "calibrator", &source->run.files.target, err);
    if (!status)
        status = drift_at(&report->own_drift, source, (double)run->own_strength, err);
    if (!status && isfinite(report->own_drift) && report->own_drift > 0) {
        report->n_drift_texts = source->corpus.n_singles;
        status                = side_open(here, run, run->r.model_path, &run->fusion, err);
        if (!status)
            status = search(&strength, &report->drift, here, report->own_drift, (double)run->own_strength, err);
    }
    if (!status && isfinite(strength)) {
        report->strength    = (float)strength;
        report->strength_by = SOOTHE__STRENGTH_DRIFT;
    }
    if (source)
        side_free(source);
    if (here)
        side_free(here);
    free(source);
    free(here);
    return status;
}

enum soothe_status soothe__align_strength(struct soothe__align_run *run, struct soothe_error *err) {
    struct soothe__align_report *report = run->report;
    report->own_strength                = run->own_strength;
    report->strength_by                 = SOOTHE__STRENGTH_OWN;
    report->strength                    = run->own_strength > 0 ? run->own_strength : 0.2f;
    if (!isnan(run->r.strength)) {
        report->strength_by = SOOTHE__STRENGTH_ASKED;
        report->strength    = run->r.strength;
    } else if (soothe__align_has_steps(run->r.objective)) {
        report->strength_by = SOOTHE__STRENGTH_STEPS;
        report->strength    = 1.0f;
    } else if (run->own_strength > 0 && run->r.base_path) {
        const enum soothe_status status = compare(run, err);
        /* Logits that are scaled or capped, another model than the calibrator's: then its own strength stays. */
        if (status && status != SOOTHE_E_UNSUPPORTED && status != SOOTHE_E_MISMATCH && status != SOOTHE_E_SHAPE)
            return status;
    }
    return SOOTHE_OK;
}
