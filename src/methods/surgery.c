/* SPDX-License-Identifier: Apache-2.0
 * Model Surgery: which rows of the gates, and what is added to them. */
#include "methods/surgery.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tensor_rows.h"
#include "methods/gates.h"

#define PUBLISHED_SHARE 0.0465 /* 16 384 of Llama-2-7B's 352 256 rows */

struct row { /* of a gate */
    float   cosine, norm;
    int32_t i_gate, i_row;
};

struct work {
    const struct soothe__surgery_options *o;
    const struct soothe__probe           *probe;
    struct soothe__gguf                   model;
    struct soothe__gates                  gates;
    int64_t                               d;
    float                                *direction; /* (d): the probe's, or a random one of its length */
    float                                *vectors;   /* (gates, d): the direction in each gate's coordinates */
    double                               *lengths;   /* (gates) of those */
    struct row                           *rows;      /* all; the chosen ones first */
    int64_t                               n_rows, n_chosen;
};

struct soothe__surgery_options soothe__surgery_options_default(void) {
    return (struct soothe__surgery_options){.strength    = 0.7,
                                            .share       = PUBLISHED_SHARE,
                                            .coordinates = SOOTHE__SURGERY_PLAIN,
                                            .control     = SOOTHE__SURGERY_REAL};
}

static const char *const COORDINATES[] = {"plain", "gain"};

const char *soothe__surgery_coordinates_name(enum soothe__surgery_coordinates coordinates) {
    return COORDINATES[coordinates];
}

bool soothe__surgery_coordinates_parse(enum soothe__surgery_coordinates *coordinates, const char *name) {
    for (int i = 0; i < 2; i++)
        if (!strcmp(name, COORDINATES[i])) {
            *coordinates = (enum soothe__surgery_coordinates)i;
            return true;
        }
    return false;
}

void soothe__surgery_report_free(struct soothe__surgery_report *report) {
    free(report->chosen_in);
    memset(report, 0, sizeof *report);
}

static void release(struct work *w) {
    soothe__gates_free(&w->gates);
    soothe__gguf_close(&w->model);
    free(w->direction);
    free(w->vectors);
    free(w->lengths);
    free(w->rows);
}

/* ---- the direction in each gate's coordinates ------------------------------------------------------------------- */

static double length_of(const float *v, int64_t d) {
    double sum = 0;
    for (int64_t i = 0; i < d; i++)
        sum += (double)v[i] * (double)v[i];
    return sqrt(sum);
}

static enum soothe_status take_direction(struct work *w, struct soothe_error *err) {
    struct soothe__rng rng    = soothe__rng_seed(w->o->seed, 41);
    const double       length = length_of(w->probe->weight, w->d);
    w->direction              = soothe__calloc((size_t)w->d, sizeof *w->direction);
    if (!w->direction)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a direction");
    if (!(length > 0) || !isfinite(length))
        return soothe__fail(err, SOOTHE_E_NUMERIC, "the probe's weights are zero or not finite: it has no direction");
    memcpy(w->direction, w->probe->weight, (size_t)w->d * sizeof *w->direction);
    if (w->o->control != SOOTHE__SURGERY_RANDOM_DIRECTION)
        return SOOTHE_OK;
    for (int64_t i = 0; i < w->d; i++)
        w->direction[i] = (float)soothe__rng_normal(&rng);
    const double drawn = length_of(w->direction, w->d);
    for (int64_t i = 0; i < w->d; i++)
        w->direction[i] = (float)(w->direction[i] * length / drawn);
    return SOOTHE_OK;
}

/* v gain_probe / gain_l. A gain near zero would blow a coordinate up that the gate does not see anyway: there the
 * quotient is damped, g_p g_l / (g_l^2 + (1 % of rms g_l)^2). */
static void into_coordinates(float *out, const float *v, const float *gain_probe, const float *gain, int64_t d) {
    const double rms    = length_of(gain, d) / sqrt((double)d);
    const double damped = 1e-4 * rms * rms;
    for (int64_t i = 0; i < d; i++) {
        const double g = (double)gain[i], p = gain_probe ? (double)gain_probe[i] : 1.0;
        out[i] = (float)((double)v[i] * p * g / (g * g + damped));
    }
}

static enum soothe_status make_vectors(struct work *w, struct soothe_error *err) {
    float             *gain_probe = NULL, *gain = NULL;
    enum soothe_status status = SOOTHE_OK;
    w->vectors                = soothe__calloc(w->gates.n, (size_t)w->d * sizeof *w->vectors);
    w->lengths                = soothe__calloc(w->gates.n, sizeof *w->lengths);
    if (!w->vectors || !w->lengths)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu vectors", w->gates.n);
    const bool gains = w->o->coordinates == SOOTHE__SURGERY_GAIN;
    if (gains && w->probe->layer == SOOTHE__LAYER_FINAL)
        status = soothe__gguf_get_f32(&w->model, "output_norm.weight", w->d, &gain_probe, err);
    for (size_t i = 0; i < w->gates.n && !status; i++) {
        float *v = w->vectors + i * (size_t)w->d;
        memcpy(v, w->direction, (size_t)w->d * sizeof *v);
        if (gains) {
            char name[GGML_MAX_NAME];
            snprintf(name, sizeof name, "blk.%u.ffn_norm.weight", w->gates.items[i].block);
            free(gain);
            status = soothe__gguf_get_f32(&w->model, name, w->d, &gain, err);
            if (!status)
                into_coordinates(v, w->direction, gain_probe, gain, w->d);
        }
        w->lengths[i] = length_of(v, w->d);
    }
    free(gain_probe);
    free(gain);
    return status;
}

/* ---- the rows ---------------------------------------------------------------------------------------------------- */

static enum soothe_status measure_gate(struct work *w, size_t i_gate, float *values, void *bytes,
                                       struct soothe_error *err) {
    const struct soothe__gate *g      = &w->gates.items[i_gate];
    const float               *v      = w->vectors + i_gate * (size_t)w->d;
    const enum ggml_type       type   = gguf_get_tensor_type(w->model.meta, g->i_tensor);
    const size_t               size   = ggml_row_size(type, w->d);
    const char                *name   = gguf_get_tensor_name(w->model.meta, g->i_tensor);
    enum soothe_status         status = SOOTHE_OK;
    if (!soothe__type_writable(type))
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "tensor %s of %s has type %s, whose rows cannot be written",
                            name, w->model.path, ggml_type_name(type));
    for (int64_t r = 0; r < g->n_rows && !status; r++) {
        double dot = 0, square = 0;
        status = soothe__gguf_read(&w->model, g->i_tensor, (size_t)(g->first_row + r) * size, bytes, size, err);
        if (!status)
            status = soothe__row_decode(values, bytes, type, w->d, name, err);
        for (int64_t i = 0; i < w->d && !status; i++) {
            dot += (double)values[i] * (double)v[i];
            square += (double)values[i] * (double)values[i];
        }
        const double norm    = sqrt(square);
        const double product = norm * w->lengths[i_gate];
        w->rows[w->n_rows++] = (struct row){.cosine = (float)(product > 0 ? dot / product : 0),
                                            .norm   = (float)norm,
                                            .i_gate = (int32_t)i_gate,
                                            .i_row  = (int32_t)(g->first_row + r)};
    }
    return status;
}

static int compare_place(const struct row *x, const struct row *y) {
    const int by_gate = (x->i_gate > y->i_gate) - (x->i_gate < y->i_gate);
    return by_gate ? by_gate : (x->i_row > y->i_row) - (x->i_row < y->i_row);
}

static int by_cosine(const void *a, const void *b) {
    const struct row *x = a, *y = b;
    const int         c = (x->cosine > y->cosine) - (x->cosine < y->cosine);
    return c ? c : compare_place(x, y);
}

static int by_place(const void *a, const void *b) {
    return compare_place(a, b);
}

static void choose_rows(struct work *w, struct soothe__surgery_report *report) {
    const int64_t wanted = w->o->n_rows > 0 ? w->o->n_rows : llround(w->o->share * (double)w->n_rows);
    w->n_chosen          = wanted < 1 ? 1 : wanted > w->n_rows ? w->n_rows : wanted;
    if (w->o->control == SOOTHE__SURGERY_RANDOM_ROWS) {
        struct soothe__rng rng = soothe__rng_seed(w->o->seed, 43);
        for (int64_t i = 0; i < w->n_chosen; i++) { /* Fisher and Yates, as far as it is needed */
            const int64_t    j    = i + soothe__rng_below(&rng, (uint32_t)(w->n_rows - i));
            const struct row kept = w->rows[i];
            w->rows[i]            = w->rows[j];
            w->rows[j]            = kept;
        }
        qsort(w->rows, (size_t)w->n_chosen, sizeof *w->rows, by_cosine);
    } else
        qsort(w->rows, (size_t)w->n_rows, sizeof *w->rows, by_cosine);
    report->cos_first = (double)w->rows[0].cosine;
    report->cos_last  = (double)w->rows[w->n_chosen - 1].cosine;
    qsort(w->rows, (size_t)w->n_chosen, sizeof *w->rows, by_place);
}

static bool may_change(const struct work *w, size_t i_gate) {
    const int64_t block = w->gates.items[i_gate].block;
    return block >= w->o->first_block && (w->o->end_block == 0 || block < w->o->end_block);
}

static enum soothe_status measure_rows(struct work *w, struct soothe_error *err) {
    int64_t n = 0;
    for (size_t i = 0; i < w->gates.n; i++)
        n += may_change(w, i) ? w->gates.items[i].n_rows : 0;
    if (n == 0 || w->o->end_block > (int64_t)w->gates.n_blocks)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "%s has blocks 0 to %u, not %d", w->model.path,
                            w->gates.n_blocks - 1, n ? w->o->end_block - 1 : w->o->first_block);
    if (n > INT32_MAX)
        return soothe__fail(err, SOOTHE_E_UNSUPPORTED, "%s has too many rows of gates", w->model.path);
    float *values             = soothe__calloc((size_t)w->d, sizeof *values);
    void  *bytes              = soothe__calloc((size_t)w->d, sizeof *values); /* no type is wider than F32 */
    w->rows                   = soothe__calloc((size_t)n, sizeof *w->rows);
    enum soothe_status status = SOOTHE_OK;
    if (!values || !bytes || !w->rows)
        status = soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %lld rows", (long long)n);
    for (size_t i = 0; i < w->gates.n && !status; i++)
        if (may_change(w, i))
            status = measure_gate(w, i, values, bytes, err);
    free(values);
    free(bytes);
    return status;
}

/* ---- the diff ---------------------------------------------------------------------------------------------------- */

/* a, by which all gates' vectors are multiplied: on average over the chosen rows a |v_l| is strength * |g|. */
static double common_factor(const struct work *w, struct soothe__surgery_report *report) {
    double norms = 0, lengths = 0;
    for (int64_t i = 0; i < w->n_chosen; i++) {
        norms += (double)w->rows[i].norm;
        lengths += w->lengths[w->rows[i].i_gate];
    }
    report->mean_norm = norms / (double)w->n_chosen;
    return lengths > 0 ? w->o->strength * norms / lengths : 0;
}

/* Vectors of length 1 and the length as the factor: F16 holds those well. */
static enum soothe_status add_gate(struct work *w, struct soothe__diff *diff, const struct row *rows, size_t n,
                                   double factor, struct soothe_error *err) {
    const size_t i_gate = (size_t)rows[0].i_gate;
    float       *v      = w->vectors + i_gate * (size_t)w->d;
    int32_t     *ids    = soothe__calloc(n, sizeof *ids);
    if (!ids)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for %zu rows", n);
    for (size_t k = 0; k < n; k++)
        ids[k] = rows[k].i_row;
    for (int64_t i = 0; i < w->d; i++)
        v[i] = (float)((double)v[i] / w->lengths[i_gate]);
    const enum soothe_status status =
        soothe__diff_add(diff, gguf_get_tensor_name(w->model.meta, w->gates.items[i_gate].i_tensor), ids, n, v, w->d,
                         (float)(factor * w->lengths[i_gate]), err);
    free(ids);
    return status;
}

static int64_t tensor_of(const struct work *w, int64_t i_row) {
    return w->gates.items[w->rows[i_row].i_gate].i_tensor;
}

static enum soothe_status make_diff(struct work *w, struct soothe__diff *diff, struct soothe__surgery_report *report,
                                    struct soothe_error *err) {
    const double       factor = common_factor(w, report);
    enum soothe_status status = SOOTHE_OK;
    report->n_rows            = w->n_rows;
    report->n_chosen          = w->n_chosen;
    report->n_blocks          = w->gates.n_blocks;
    report->chosen_in         = soothe__calloc(w->gates.n_blocks, sizeof *report->chosen_in);
    if (!report->chosen_in)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a report");
    for (int64_t i = 0; i < w->n_chosen && !status;) {
        int64_t end = i;
        while (end < w->n_chosen && tensor_of(w, end) == tensor_of(w, i)) /* fused experts are several gates of one */
            end++;
        report->chosen_in[w->gates.items[w->rows[i].i_gate].block] += end - i;
        status = add_gate(w, diff, w->rows + i, (size_t)(end - i), factor, err);
        i      = end;
    }
    return status ? status : soothe__diff_finish(diff, w->model.path, err);
}

static enum soothe_status check_options(const struct soothe__surgery_options *o, struct soothe_error *err) {
    if (!isfinite(o->strength) || fabs(o->strength) > 1000)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "strength %g is no finite number up to 1000", o->strength);
    if (!(o->share > 0) || !(o->share <= 1) || o->n_rows < 0)
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "a share of %g of the rows, or %lld rows, cannot be chosen",
                            o->share, (long long)o->n_rows);
    if (o->first_block < 0 || (o->end_block != 0 && o->end_block <= o->first_block))
        return soothe__fail(err, SOOTHE_E_ARGUMENT, "blocks %d to %d are none", o->first_block, o->end_block - 1);
    return SOOTHE_OK;
}

static enum soothe_status find_rows(struct work *w, const char *model_path, struct soothe_error *err) {
    enum soothe_status status = soothe__gguf_open(&w->model, model_path, err);
    if (!status)
        status = soothe__gates_find(&w->gates, &w->model, err);
    if (!status && w->gates.d != w->probe->d)
        status = soothe__fail(err, SOOTHE_E_SHAPE, "the probe has %d weights, the gates of %s read %lld values",
                              w->probe->d, model_path, (long long)w->gates.d);
    w->d = w->gates.d;
    if (!status)
        status = take_direction(w, err);
    if (!status)
        status = make_vectors(w, err);
    if (!status)
        status = measure_rows(w, err);
    return status;
}

static enum soothe_status new_diff(struct soothe__diff **diff, const struct work *w, const struct soothe__fact *facts,
                                   size_t n_facts, struct soothe_error *err) {
    static const char *const controls[] = {"none", "random direction", "random rows"};
    enum { N_FACTS = 10 };
    char                 layer[16];
    struct soothe__fact *all = soothe__calloc(n_facts + N_FACTS, sizeof *all);
    if (!all)
        return soothe__fail(err, SOOTHE_E_MEMORY, "out of memory for a diff");
    soothe__layer_name(layer, w->probe->layer);
    const struct soothe__fact own[] = {
        {"strength", NULL, w->o->strength},
        {"rows", NULL, (double)w->n_chosen},
        {"rows_of", NULL, (double)w->n_rows},
        {"first_block", NULL, (double)w->o->first_block},
        {"last_block", NULL, (double)(w->o->end_block ? w->o->end_block : (int64_t)w->gates.n_blocks) - 1},
        {"coordinates", COORDINATES[w->o->coordinates], 0},
        {"control", controls[w->o->control], 0},
        {"seed", NULL, (double)w->o->seed},
        {"probe_layer", layer, 0},
        {"probe_pool", soothe__pool_name(w->probe->pool), 0}};
    memcpy(all, own, sizeof own);
    if (n_facts)
        memcpy(all + N_FACTS, facts, n_facts * sizeof *facts);
    const enum soothe_status status =
        soothe__diff_new(diff, SOOTHE__DIFF_ADD, "surgery", all, n_facts + N_FACTS, w->model.path, err);
    free(all);
    return status;
}

enum soothe_status soothe__surgery(struct soothe__diff **diff, struct soothe__surgery_report *report,
                                   const char *model_path, const struct soothe__probe *probe,
                                   const struct soothe__surgery_options *options, const struct soothe__fact *facts,
                                   size_t n_facts, struct soothe_error *err) {
    struct work w = {.o = options, .probe = probe};
    *diff         = NULL;
    memset(report, 0, sizeof *report);
    enum soothe_status status = check_options(options, err);
    if (!status)
        status = find_rows(&w, model_path, err);
    if (!status) {
        choose_rows(&w, report);
        status = new_diff(diff, &w, facts, n_facts, err);
    }
    if (!status)
        status = make_diff(&w, *diff, report, err);
    if (status) {
        soothe__diff_free(*diff);
        *diff = NULL;
        soothe__surgery_report_free(report);
    }
    release(&w);
    return status;
}
