/* Router and the permutation of tokens to experts and back. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/config.h"

enum { MAX_E = 24 };

typedef struct Routing {
    RouterShape s;
    size_t n;
    float *logits, *bias, *dweights, *dscores;
    const float *scores; /* of the forward, for backward */
    const int32_t *idx;
    double *logits_d, *dweights_d, *dscores_d;
} Routing;

static void reference_scores(const double *logits, RouterShape s, double *scores)
{
    double sum = 0.0;
    for (int e = 0; e < s.E; e++) {
        scores[e] = s.score == SCORE_SIGMOID ? 1.0 / (1.0 + exp(-logits[e])) : exp(logits[e]);
        sum += scores[e];
    }
    for (int e = 0; e < s.E && s.score == SCORE_SOFTMAX; e++) {
        scores[e] /= sum;
    }
}

/* The naive rule: how many others go before e, in order of value and then index. */
static int rank_of(const double *c, int n, int e)
{
    int rank = 0;
    for (int i = 0; i < n; i++) {
        rank += c[i] > c[e] || (c[i] == c[e] && i < e);
    }
    return rank;
}

static void reference_groups(double *c, RouterShape s)
{
    int size = s.E / s.n_group;
    double group[MAX_E];
    for (int g = 0; g < s.n_group; g++) {
        double sum = 0.0;
        for (int e = 0; e < size; e++) {
            if (rank_of(c + g * size, size, e) < (s.topk == TOPK_GROUP_MAX ? 1 : 2)) {
                sum += c[g * size + e];
            }
        }
        group[g] = sum;
    }
    for (int e = 0; e < s.E; e++) {
        if (rank_of(group, s.n_group, e / size) >= s.topk_group) {
            c[e] = s.mask_zero ? 0.0 : -INFINITY;
        }
    }
}

static void reference_choice(const double *scores, const float *bias, RouterShape s, int32_t *idx)
{
    double c[MAX_E];
    for (int e = 0; e < s.E; e++) {
        c[e] = scores[e] + (bias ? (double)bias[e] : 0.0);
    }
    if (s.topk != TOPK_GREEDY) {
        reference_groups(c, s);
    }
    for (int e = 0, k = 0; e < s.E; e++) {
        if (rank_of(c, s.E, e) < s.K) {
            idx[k++] = e;
        }
    }
}

static void reference_weights(const double *scores, const int32_t *idx, RouterShape s, double *weights)
{
    double sum = 1e-20;
    bool normal = s.norm_topk && (s.K > 1 || s.scale_after_norm);
    for (int k = 0; k < s.K; k++) {
        sum += scores[idx[k]];
    }
    for (int k = 0; k < s.K; k++) {
        weights[k] = scores[idx[k]] / (normal ? sum : 1.0) * (normal && !s.scale_after_norm ? 1.0 : (double)s.scale);
    }
}

static double router_loss(const void *context)
{
    const Routing *r = context;
    double scores[MAX_E], weights[MAX_E], loss = 0.0;
    for (size_t n = 0; n < r->n; n++) {
        reference_scores(r->logits_d + n * (size_t)r->s.E, r->s, scores);
        reference_weights(scores, r->idx + n * (size_t)r->s.K, r->s, weights);
        for (int k = 0; k < r->s.K; k++) {
            loss += weights[k] * r->dweights_d[n * (size_t)r->s.K + (size_t)k];
        }
        for (int e = 0; e < r->s.E; e++) {
            loss += scores[e] * r->dscores_d[n * (size_t)r->s.E + (size_t)e];
        }
    }
    return loss;
}

static void run_router_fwd(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Routing *r = t->in;
    ops->router_fwd(b, r->s, lab_mat(t, out, 0), (int32_t *)lab_at(t, out, 2), lab_mat(t, out, 1),
                    mat_f32(r->logits, r->n, (size_t)r->s.E), r->bias);
}

static void run_router_bwd(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Routing *r = t->in;
    size_t E = (size_t)r->s.E, K = (size_t)r->s.K;
    Mat dscores = mat_f32(r->dscores, r->n, E);
    ops->router_bwd(b, r->s, lab_mat(t, out, 0), mat_f32(r->dweights, r->n, K), &dscores,
                    mat_f32((float *)r->scores, r->n, E), r->idx);
}

static void check_router_fwd(const Routing *r, const LabTrial *t, float *out)
{
    size_t E = (size_t)r->s.E, K = (size_t)r->s.K;
    double *scores = malloc(r->n * E * sizeof(double)), *weights = malloc(r->n * K * sizeof(double));
    for (size_t n = 0; n < r->n; n++) {
        int32_t idx[MAX_E];
        reference_scores(r->logits_d + n * E, r->s, scores + n * E);
        reference_choice(scores + n * E, r->bias, r->s, idx);
        reference_weights(scores + n * E, idx, r->s, weights + n * K);
        assert_memory_equal(idx, (int32_t *)lab_at(t, out, 2) + n * K, K * sizeof(int32_t));
    }
    lab_near("scores", lab_mat(t, out, 0), scores, TOL_ELEMENT);
    lab_near("weights", lab_mat(t, out, 1), weights, TOL_ELEMENT);
    free(scores), free(weights);
}

static void check_router(RouterShape s, size_t n, bool with_bias)
{
    size_t E = (size_t)s.E, K = (size_t)s.K;
    Routing r = {.s = s,
                 .n = n,
                 .logits = lab_random(n * E, 1),
                 .bias = with_bias ? lab_random(E, 2) : NULL,
                 .dweights = lab_random(n * K, 3),
                 .dscores = lab_random(n * E, 4)};
    r.logits_d = lab_doubles(r.logits, n * E), r.dweights_d = lab_doubles(r.dweights, n * K);
    r.dscores_d = lab_doubles(r.dscores, n * E);
    LabTrial t = {.run = run_router_fwd, .in = &r}, g = {.run = run_router_bwd, .in = &r};
    lab_out(&t, n, E, 0), lab_out(&t, n, K, 2), lab_out(&t, n, K, 0), lab_out(&g, n, E, 3);
    float *out = lab_run(&t);
    check_router_fwd(&r, &t, out);
    r.scores = lab_at(&t, out, 0), r.idx = (const int32_t *)lab_at(&t, out, 2);
    double *want = malloc(n * E * sizeof(double));
    lab_differences(router_loss, &r, r.logits_d, n * E, want);
    float *grad = lab_run(&g);
    if (E > 1) {
        lab_near("dlogits", lab_mat(&g, grad, 0), want, TOL_GRADIENT);
    }
    free(out), free(grad), free(want), free(r.logits), free(r.bias), free(r.dweights), free(r.dscores);
    free(r.logits_d), free(r.dweights_d), free(r.dscores_d);
}

static void router(void **state)
{
    (void)state;
    RouterShape v2 = {
        .E = 8, .K = 2, .topk = TOPK_GREEDY, .score = SCORE_SOFTMAX, .n_group = 1, .topk_group = 1, .scale = 1};
    check_router(v2, 13, false);
    check_router((RouterShape){.E = 1, .K = 1, .scale = 2, .n_group = 1, .topk_group = 1}, 3, false);
    v2.norm_topk = true, v2.scale = 7.0f; /* V2: the factor is not applied to normalised weights */
    check_router(v2, 5, false);
    v2.K = 1; /* nor is V2's single weight normalised: it is multiplied */
    check_router(v2, 5, false);
    RouterShape full = {.E = 24, .K = 5, .topk = TOPK_GROUP_MAX, .n_group = 6, .topk_group = 2, .scale = 16};
    check_router(full, 17, false);
    RouterShape v3 = {.E = 24,
                      .K = 4,
                      .topk = TOPK_NOAUX,
                      .score = SCORE_SIGMOID,
                      .n_group = 4,
                      .topk_group = 2,
                      .norm_topk = true,
                      .scale_after_norm = true,
                      .scale = 2.5f};
    check_router(v3, 19, true);
    v3.mask_zero = true;
    check_router(v3, 19, true);
    v3.K = 1, v3.n_group = 1, v3.topk_group = 1; /* V3 normalises even a single expert */
    check_router(v3, 2, true);
}

/* All logits equal: the lowest indices. NaN logits: still K different experts, no crash. */
static void ties_and_nans(void **state)
{
    (void)state;
    RouterShape s = {.E = 20, .K = 3, .n_group = 4, .topk_group = 2, .topk = TOPK_GROUP_MAX, .scale = 1};
    float logits[40] = {0}, scores[40], weights[6];
    int32_t idx[6];
    logits[25] = NAN;
    lab_ops()->router_fwd(lab_backend(), s, mat_f32(scores, 2, 20), idx, mat_f32(weights, 2, 3), mat_f32(logits, 2, 20),
                          NULL);
    assert_true(idx[0] == 0 && idx[1] == 1 && idx[2] == 2);
    assert_true(idx[3] >= 0 && idx[3] < idx[4] && idx[4] < idx[5] && idx[5] < 20);
}

/* Given choices are weighed as if they had been chosen; a row that begins with -1 is chosen. */
static void given(void **state)
{
    (void)state;
    for (int normal = 0; normal < 2; normal++) {
        RouterShape s = {.E = 5, .K = 2, .n_group = 1, .topk_group = 1, .scale = 1.5f, .norm_topk = normal};
        float logits[10], scores[10], weights[4], own[4];
        int32_t idx[4] = {0, 3, -1, 0}, chosen[4];
        for (int i = 0; i < 10; i++) logits[i] = (float)((i * 7) % 10) / 4;
        Mat x = mat_f32(logits, 2, 5), y = mat_f32(scores, 2, 5);
        lab_ops()->router_fwd(lab_backend(), s, y, chosen, mat_f32(own, 2, 2), x, NULL);
        assert_false(chosen[0] == 0 && chosen[1] == 3);
        s.given = true;
        lab_ops()->router_fwd(lab_backend(), s, y, idx, mat_f32(weights, 2, 2), x, NULL);
        assert_true(idx[0] == 0 && idx[1] == 3 && idx[2] == chosen[2] && idx[3] == chosen[3]);
        assert_true(weights[2] == own[2] && weights[3] == own[3]);
        double sum = normal ? (double)scores[0] + (double)scores[3] : 1, f = normal ? 1 : 1.5;
        assert_float_equal(weights[0], (double)scores[0] / sum * f, 1e-6);
        assert_float_equal(weights[1], (double)scores[3] / sum * f, 1e-6);
    }
}

/* n tokens, K slots each, spread over n * K rows of x by a stride that permutes. */
typedef struct Slots {
    size_t n, K, C;
    int32_t *slot;
    float *x, *weights, *shared, *dy;
    bool no_shared;
} Slots;

static void run_combine(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Slots *s = t->in;
    Mat x = mat_f32(s->x, s->n * s->K, s->C), w = mat_f32(s->weights, s->n, s->K);
    ops->combine_fwd(b, lab_mat(t, out, 0), x, s->slot, w, s->no_shared ? (Mat){0} : mat_f32(s->shared, s->n, s->C));
    ops->combine_bwd(b, lab_mat(t, out, 1), lab_mat(t, out, 2), mat_f32(s->dy, s->n, s->C), x, s->slot, w);
}

static void run_scatter(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Slots *s = t->in;
    ops->scatter_add_rows(b, lab_mat(t, out, 0), mat_f32(s->x, s->n * s->K, s->C), s->slot, (int)s->K);
    ops->gather_rows(b, lab_mat(t, out, 1), mat_f32(s->x, s->n * s->K, s->C), s->slot);
}

static Slots slots_make(size_t n, size_t K, size_t C, bool no_shared)
{
    Slots s = {n,
               K,
               C,
               malloc(n * K * sizeof(int32_t)),
               lab_random(n * K * C, 1),
               lab_random(n * K, 2),
               lab_random(n * C, 3),
               lab_random(n * C, 4),
               no_shared};
    size_t step = n * K > 7 ? 7 : 1; /* 7 divides none of the sizes used: a permutation */
    for (size_t i = 0; i < n * K; i++) {
        s.slot[i] = (int32_t)(i * step % (n * K));
    }
    return s;
}

static void slots_free(Slots *s)
{
    free(s->slot), free(s->x), free(s->weights), free(s->shared), free(s->dy);
}

static void check_combine(size_t n, size_t K, size_t C, bool no_shared)
{
    Slots s = slots_make(n, K, C, no_shared);
    float *was = lab_random(n * C + n * K * C + n * K, 5);
    LabTrial t = {.run = run_combine, .in = &s, .initial = was};
    lab_out(&t, n, C, 1), lab_out(&t, n * K, C, 2), lab_out(&t, n, K, 1);
    float *out = lab_run(&t);
    double *dweights = calloc(n * K, sizeof(double));
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < C; j++) {
            float sum = 0.0f, d = s.dy[i * C + j];
            for (size_t k = 0; k < K; k++) {
                size_t at = (size_t)s.slot[i * K + k];
                sum = fmaf(s.weights[i * K + k], s.x[at * C + j], sum);
                dweights[i * K + k] += (double)d * (double)s.x[at * C + j];
                assert_true(mat_row(lab_mat(&t, out, 1), at)[j] == s.weights[i * K + k] * d);
            }
            sum = no_shared ? sum : sum + s.shared[i * C + j];
            assert_true(mat_row(lab_mat(&t, out, 0), i)[j] == was[i * C + j] + sum);
        }
    }
    lab_near("dweights", lab_mat(&t, out, 2), dweights, TOL_ROW_SUM);
    free(out), free(was), free(dweights);
    slots_free(&s);
}

static void check_scatter(size_t n, size_t K, size_t C)
{
    Slots s = slots_make(n, K, C, true);
    float *was = lab_random(n * C + n * K * C, 5);
    LabTrial t = {.run = run_scatter, .in = &s, .initial = was};
    lab_out(&t, n, C, 1), lab_out(&t, n * K, C, 2);
    float *out = lab_run(&t);
    for (size_t i = 0; i < n * C; i++) {
        float sum = 0.0f;
        for (size_t k = 0; k < K; k++) {
            sum += s.x[(size_t)s.slot[i / C * K + k] * C + i % C];
        }
        assert_true(mat_row(lab_mat(&t, out, 0), i / C)[i % C] == was[i] + sum);
    }
    for (size_t i = 0; i < n * K; i++) {
        assert_memory_equal(mat_row(lab_mat(&t, out, 1), i), s.x + (size_t)s.slot[i] * C, C * sizeof(float));
    }
    free(out), free(was);
    slots_free(&s);
}

static void permutation(void **state)
{
    (void)state;
    check_combine(1, 1, 1, true);
    check_combine(11, 2, 33, false);
    check_combine(160, 3, 64, true);
    check_scatter(1, 1, 1);
    check_scatter(11, 2, 33);
    check_scatter(160, 3, 64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(router),
        cmocka_unit_test(ties_and_nans),
        cmocka_unit_test(given),
        cmocka_unit_test(permutation),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
