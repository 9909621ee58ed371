/* SPDX-License-Identifier: Apache-2.0
 * The shortlist keeps what the engine's own samplers keep, with their probabilities. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "generate/shortlist.h"
#include "test_support.h"

enum { V = 5003 };

/* Logits of a spread that runs from flat to sharp with i. */
static void make_logits(float *z, int i) {
    struct soothe__rng rng = soothe__rng_seed(7, (uint64_t)i);
    for (int k = 0; k < V; k++)
        z[k] = (float)(soothe__rng_normal(&rng) * (0.01 + 0.4 * i) - 3);
}

static llama_token_data_array all_tokens(const float *z) {
    llama_token_data_array a = {.data = soothe__calloc(V, sizeof *a.data), .size = V, .selected = -1};
    assert_non_null(a.data);
    for (int k = 0; k < V; k++)
        a.data[k] = (llama_token_data){.id = k, .logit = z[k]};
    return a;
}

static void compare(const struct soothe__shortlist *list, struct llama_sampler *engine, const float *z) {
    llama_token_data_array theirs = all_tokens(z);
    llama_sampler_apply(engine, &theirs);
    llama_sampler_free(engine);
    const size_t n = list->n < theirs.size ? list->n : theirs.size;
    /* The engine adds thousands of small probabilities up as floats, which rounds: one in a thousand may differ. */
    assert_in_range(list->n + theirs.size - 2 * n, 0, n / 1000);
    for (size_t i = 0; i < n; i++)
        assert_true(z[list->data[i].id] == z[theirs.data[i].id]); /* equal logits stand in any order */
    free(theirs.data);
}

static void test_nucleus_and_top_k_are_the_engines(void **state) {
    (void)state;
    struct soothe__shortlist list = {.n = 0};
    float                    z[V];
    for (int i = 0; i < 40; i++) {
        make_logits(z, i);
        for (int p = 1; p < 20; p += 3) {
            assert_true(soothe__shortlist_read(&list, z, V));
            assert_true(soothe__shortlist_fill(&list, z, V, 0, (float)p / 20));
            compare(&list, llama_sampler_init_top_p((float)p / 20, 1), z);
        }
        assert_true(soothe__shortlist_fill(&list, z, V, 40, 1));
        compare(&list, llama_sampler_init_top_k(40), z);
    }
    soothe__shortlist_free(&list);
}

static void test_the_normaliser_is_that_of_the_softmax(void **state) {
    (void)state;
    struct soothe__shortlist list = {.n = 0};
    float                    z[V];
    for (int i = 0; i < 40; i++) {
        make_logits(z, i);
        double largest = -INFINITY, sum = 0; /* in double, by the definition */
        for (int k = 0; k < V; k++)
            largest = fmax(largest, (double)z[k]);
        for (int k = 0; k < V; k++)
            sum += exp((double)z[k] - largest);
        assert_true(soothe__shortlist_read(&list, z, V));
        assert_true(fabs(list.sum / sum - 1) < 1e-6);
        const double expected = (double)z[17] - largest - log(sum);
        assert_true(fabs(soothe__shortlist_log_prob(&list, z[17]) - expected) < 1e-5);
        assert_true(fabs(soothe__log_sum_exp(z, V) - largest - log(sum)) < 1e-6);
    }
}

static void test_infinite_and_equal_logits(void **state) {
    (void)state;
    struct soothe__shortlist list = {.n = 0};
    float                    z[V];
    for (int k = 0; k < V; k++)
        z[k] = k % 2 ? -INFINITY : 1;
    assert_true(soothe__shortlist_read(&list, z, V));
    assert_true(soothe__shortlist_fill(&list, z, V, 0, .5f));
    assert_in_range(list.n, V / 4, V / 4 + 2);
    assert_int_equal(list.data[1].id, 2);
    z[3] = NAN;
    assert_false(soothe__shortlist_read(&list, z, V));
    z[3] = INFINITY;
    assert_false(soothe__shortlist_read(&list, z, V));
    for (int k = 0; k < V; k++)
        z[k] = -INFINITY;
    assert_false(soothe__shortlist_read(&list, z, V));
    soothe__shortlist_free(&list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nucleus_and_top_k_are_the_engines),
        cmocka_unit_test(test_the_normaliser_is_that_of_the_softmax),
        cmocka_unit_test(test_infinite_and_equal_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
