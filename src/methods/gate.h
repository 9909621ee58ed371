/* SPDX-License-Identifier: Apache-2.0
 * What of the gate stands by itself: its curve, and how long an alarm is remembered. */
#ifndef SOOTHE_GATE_H
#define SOOTHE_GATE_H

#include "fusion/stage.h"

/* A risk's dose: 0 up to low, 1 from high on, 3 t^2 - 2 t^3 with t = (risk - low) / (high - low) between them. */
float soothe__gate_dose(double risk, double low, double high);

/* The alarms of one sequence, by position: what a cut or a copy leaves of a text it leaves of them. */
struct soothe__alarm {
    llama_pos pos;
    float     level;
};
struct soothe__alarms {
    struct soothe__alarm *items; /* in the order of their positions */
    size_t                n, capacity;
};
bool soothe__alarms_reserve(struct soothe__alarms *a, size_t n_more);
/* Notes a risk and returns the level there: the risk, or what is left of the last alarm before pos, which halves every
 * `hold` positions; whichever is more. Needs room for one. */
float soothe__alarms_note(struct soothe__alarms *a, llama_pos pos, float risk, float hold);
/* As llama_memory_seq_rm and _cp; p0, p1 -1: from the beginning, to the end. */
void soothe__alarms_rm(struct soothe__alarms *a, llama_pos p0, llama_pos p1);
bool soothe__alarms_cp(const struct soothe__alarms *from, struct soothe__alarms *to, llama_pos p0, llama_pos p1);

#endif /* SOOTHE_GATE_H */
