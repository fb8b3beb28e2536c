/* Head: log-softmax, entropy, KL and their gradient; the sampler agrees with them bit for bit. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct Head {
    size_t n, V;
    float inv_temperature;
    float *logits, *ref, *dlp, *dentropy, *dkl;
    int32_t *targets;
    const float *logp, *logq, *entropy, *kl; /* of the forward, for backward */
    double *logits_d, *ref_d;
    bool forward; /* kl is KL(q || p) */
} Head;

static double reference_log_softmax(const double *x, size_t V, double scale, double *logp)
{
    double max = -INFINITY, sum = 0.0;
    for (size_t j = 0; j < V; j++) {
        max = fmax(max, x[j] * scale);
    }
    for (size_t j = 0; j < V; j++) {
        sum += exp(x[j] * scale - max);
    }
    for (size_t j = 0; j < V; j++) {
        logp[j] = x[j] * scale - max - log(sum);
    }
    return max + log(sum);
}

static void reference_row(const Head *h, size_t n, double *logp, double *lp, double *entropy, double *kl)
{
    double *logq = malloc(h->V * sizeof(double));
    reference_log_softmax(h->logits_d + n * h->V, h->V, (double)h->inv_temperature, logp);
    reference_log_softmax(h->ref_d + n * h->V, h->V, (double)h->inv_temperature, logq);
    *lp = h->targets[n] < 0 ? 0.0 : logp[h->targets[n]];
    *entropy = *kl = 0.0;
    for (size_t j = 0; j < h->V; j++) {
        *entropy -= exp(logp[j]) * logp[j];
        *kl += h->forward ? exp(logq[j]) * (logq[j] - logp[j]) : exp(logp[j]) * (logp[j] - logq[j]);
    }
    free(logq);
}

static double head_loss(const void *context)
{
    const Head *h = context;
    double sum = 0.0, lp, entropy, kl, *logp = malloc(h->V * sizeof(double));
    for (size_t n = 0; n < h->n; n++) {
        reference_row(h, n, logp, &lp, &entropy, &kl);
        sum += lp * (double)h->dlp[n] + entropy * (double)h->dentropy[n] + kl * (double)h->dkl[n];
    }
    free(logp);
    return sum;
}

static void run_stats(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Head *h = t->in;
    Mat ref = lab_mat(t, out, 2);
    float *rows = lab_at(t, out, 1); /* lp, entropy, kl */
    HeadStats stats = {rows, rows + h->n, rows + 2 * h->n};
    ops->head_stats(b, lab_mat(t, out, 0), stats, h->targets, h->inv_temperature, &ref, (HeadMaxima){0});
}

static void run_grad(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Head *h = t->in;
    Mat ref = mat_f32((float *)h->logq, h->n, h->V);
    HeadGrads by = {h->dlp, h->dentropy, h->entropy, h->dkl, h->kl, h->forward};
    ops->head_grad(b, lab_mat(t, out, 0), h->targets, h->inv_temperature, by, &ref);
}

static Head head_make(size_t n, size_t V, float inv_temperature, float size)
{
    Head h = {.n = n,
              .V = V,
              .inv_temperature = inv_temperature,
              .logits = lab_random(n * V, 1),
              .ref = lab_random(n * V, 2),
              .dlp = lab_random(n, 3),
              .dentropy = lab_random(n, 4),
              .dkl = lab_random(n, 5),
              .targets = malloc(n * sizeof(int32_t))};
    for (size_t i = 0; i < n * V; i++) {
        h.logits[i] *= size, h.ref[i] *= size;
    }
    for (size_t i = 0; i < n; i++) {
        h.targets[i] = i % 4 == 3 ? -1 : (int32_t)(i * 5 % V);
    }
    h.logits_d = lab_doubles(h.logits, n * V), h.ref_d = lab_doubles(h.ref, n * V);
    return h;
}

static void head_free(Head *h)
{
    free(h->logits), free(h->ref), free(h->dlp), free(h->dentropy), free(h->dkl), free(h->targets);
    free(h->logits_d), free(h->ref_d);
}

/* Returns the outputs of head_stats: logp, then 3 rows of statistics, then logq. */
static float *check_stats(Head *h, LabTrial *t, float *was)
{
    *t = (LabTrial){.run = run_stats, .in = h, .initial = was};
    memcpy(was, h->logits, h->n * h->V * sizeof(float));
    memset(was + h->n * h->V, 0, 3 * h->n * sizeof(float));
    memcpy(was + h->n * h->V + 3 * h->n, h->ref, h->n * h->V * sizeof(float));
    lab_out(t, h->n, h->V, 0), lab_out(t, 3, h->n, 0), lab_out(t, h->n, h->V, 0);
    float *out = lab_run(t);
    double *logp = malloc(h->n * h->V * sizeof(double)), *rows = malloc(3 * h->n * sizeof(double));
    for (size_t n = 0; n < h->n; n++) {
        reference_row(h, n, logp + n * h->V, &rows[n], &rows[h->n + n], &rows[2 * h->n + n]);
        assert_true(h->targets[n] >= 0 || lab_at(t, out, 1)[n] == 0.0f);
    }
    lab_near("log p", lab_mat(t, out, 0), logp, TOL_LOG_PROB);
    lab_near("lp, entropy, kl", lab_mat(t, out, 1), rows, TOL_ROW_SUM);
    free(logp), free(rows);
    return out;
}

static void check_head(size_t n, size_t V, float inv_temperature, float size)
{
    Head h = head_make(n, V, inv_temperature, size);
    float *was = malloc((2 * n * V + 3 * n) * sizeof(float));
    LabTrial t, g = {.run = run_grad, .in = &h};
    float *out = check_stats(&h, &t, was);
    h.logp = lab_at(&t, out, 0), h.logq = lab_at(&t, out, 2);
    h.entropy = lab_at(&t, out, 1) + n, h.kl = lab_at(&t, out, 1) + 2 * n;
    g.initial = h.logp;
    lab_out(&g, n, V, 3);
    double *want = malloc(n * V * sizeof(double));
    for (int forward = 0; forward < 2; forward++) {
        h.forward = forward;
        lab_differences(head_loss, &h, h.logits_d, n * V, want);
        float *grad = lab_run(&g);
        lab_near(forward ? "dlogits of KL(q || p)" : "dlogits", lab_mat(&g, grad, 0), want, TOL_GRADIENT);
        free(grad);
    }
    free(out), free(was), free(want);
    head_free(&h);
}

static void stats_and_gradient(void **state)
{
    (void)state;
    check_head(1, 2, 1.0f, 1.0f);
    check_head(9, 33, 1.25f, 4.0f);
    check_head(4, 256, 1.0f, 8.0f);
    check_head(2, 1001, 0.5f, 1.0f);
}

/* Impossible tokens (-inf) and rows without any gradient. */
static void corners(void **state)
{
    (void)state;
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    float logits[6] = {1.0f, -INFINITY, 2.0f, 5.0f, 1.0f, 3.0f}, lp[2], entropy[2], dlp[2] = {1.0f, 0.0f},
          d[2] = {0.5f, 0};
    int32_t targets[2] = {0, -1};
    Mat m = mat_f32(logits, 2, 3);
    ops->head_stats(b, m, (HeadStats){lp, entropy, NULL}, targets, 1.0f, NULL, (HeadMaxima){0});
    assert_true(isfinite(entropy[0]) && logits[1] == -INFINITY);
    ops->head_grad(b, m, targets, 1.0f, (HeadGrads){.dlp = dlp, .dentropy = d, .entropy = entropy}, NULL);
    assert_true(isfinite(logits[0]) && logits[1] == 0.0f && isfinite(logits[2]));
    assert_true(logits[3] == 0.0f && logits[4] == 0.0f && logits[5] == 0.0f);
    float one = 3.0f;
    int32_t target = 0;
    ops->head_stats(b, mat_f32(&one, 1, 1), (HeadStats){lp, entropy, NULL}, &target, 1.0f, NULL, (HeadMaxima){0});
    assert_true(lp[0] == 0.0f && entropy[0] == 0.0f);
}

/* The sampler's lp is head_stats' lp, bit for bit, at any temperature; and a row alone is the row among others. */
static void sampler_agrees(void **state)
{
    (void)state;
    enum { N = 40, V = 277 };
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    static const float temperatures[] = {1.0f, 0.7f, 1.3f, 0.0f};
    float *x = lab_random(N * V, 1), *u = lab_random(N, 2), copy[N * V], lp[N], want[N], one_lp;
    int32_t id[N], one;
    for (size_t i = 0; i < N; i++) {
        u[i] = 0.5f * (u[i] + 1.0f);
    }
    for (size_t t = 0; t < 4; t++) {
        SampleArgs args = {.temperature = temperatures[t], .top_p = 1.0f, .vocab_used = V - 20};
        ops->sample(b, id, lp, mat_f32(x, N, V), args, u);
        memcpy(copy, x, sizeof copy);
        ops->head_stats(b, mat_f32(copy, N, V), (HeadStats){want, NULL, NULL}, id,
                        t == 3 ? 1.0f : 1.0f / temperatures[t], NULL, (HeadMaxima){0});
        assert_memory_equal(lp, want, sizeof lp);
        for (size_t i = 0; i < N; i++) {
            ops->sample(b, &one, &one_lp, mat_f32(x + i * V, 1, V), args, u + i);
            assert_true(one == id[i] && memcmp(&one_lp, &lp[i], sizeof one_lp) == 0 && one < V - 20);
        }
    }
    free(x), free(u);
}

static void run_sample(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Head *h = t->in;
    SampleArgs args = {.temperature = 0.9f, .top_p = 0.8f, .top_k = 20};
    ops->sample(b, (int32_t *)lab_at(t, out, 0), lab_at(t, out, 1), mat_f32(h->logits, h->n, h->V), args, h->dlp);
}

/* The same draws on every instruction set; allowed by top-k and top-p (naive: by rank and mass before it). */
static void restricted_draws(void **state)
{
    (void)state;
    Head h = head_make(400, 90, 1.0f, 3.0f);
    for (size_t i = 0; i < h.n; i++) {
        h.dlp[i] = 0.5f * (h.dlp[i] + 1.0f);
    }
    LabTrial t = {.run = run_sample, .in = &h};
    lab_out(&t, 1, h.n, 0), lab_out(&t, 1, h.n, 0);
    float *out = lab_run(&t);
    for (size_t n = 0; n < h.n; n++) {
        double logp[90], kept = 0.0, before = 0.0;
        int32_t id = ((int32_t *)lab_at(&t, out, 0))[n], rank = 0;
        reference_log_softmax(h.logits_d + n * h.V, h.V, 1.0 / 0.9, logp);
        for (size_t j = 0; j < h.V; j++) {
            int ahead = 0;
            for (size_t i = 0; i < h.V; i++) {
                ahead += logp[i] > logp[j];
            }
            kept += ahead < 20 ? exp(logp[j]) : 0.0;
            before += logp[j] > logp[id] ? exp(logp[j]) : 0.0;
            rank += logp[j] > logp[id];
        }
        assert_true(rank < 20 && before < 0.8 * kept + 1e-6);
    }
    free(out);
    head_free(&h);
}

/* Inverse CDF over ascending ids: u walks through the distribution in id order, and hits it in proportion. */
static void inverse_cdf(void **state)
{
    (void)state;
    enum { DRAWS = 2000, V = 40 };
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    float *x = lab_random(V, 1), *rows = malloc(DRAWS * V * sizeof(float));
    float *u = malloc(DRAWS * sizeof(float)), *lp = malloc(DRAWS * sizeof(float));
    int32_t *id = malloc(DRAWS * sizeof(int32_t)), counts[V] = {0};
    x[5] = x[V - 1] = -INFINITY;
    for (size_t i = 0; i < DRAWS; i++) {
        memcpy(rows + i * V, x, V * sizeof(float));
        u[i] = (float)i / DRAWS;
    }
    u[DRAWS - 1] = 0.99999994f;
    ops->sample(b, id, lp, mat_f32(rows, DRAWS, V), (SampleArgs){.temperature = 1.0f, .top_p = 1.0f}, u);
    double logp[V], *xd = lab_doubles(x, V);
    reference_log_softmax(xd, V, 1.0, logp);
    for (size_t i = 0; i < DRAWS; i++) {
        assert_true(i == 0 || id[i] >= id[i - 1]);
        counts[id[i]]++;
    }
    for (size_t j = 0; j < V; j++) {
        assert_true(fabs(counts[j] - DRAWS * exp(logp[j])) <= 1.01);
    }
    assert_true(counts[5] == 0 && id[DRAWS - 1] == V - 2);
    free(x), free(rows), free(u), free(lp), free(id), free(xd);
}

static void greedy(void **state)
{
    (void)state;
    float x[10] = {0, 3, 1, 3, 2, /* */ 1, 1, 1, 9, 9}, lp[2], u[2] = {0.9f, 0.9f};
    int32_t id[2];
    lab_ops()->sample(lab_backend(), id, lp, mat_f32(x, 2, 5), (SampleArgs){.top_p = 1.0f, .vocab_used = 3}, u);
    assert_true(id[0] == 1 && id[1] == 0);
    SampleArgs best_only = {.temperature = 1.0f, .top_p = 1.0f, .top_k = 1};
    lab_ops()->sample(lab_backend(), id, lp, mat_f32(x, 2, 5), best_only, u);
    assert_true(id[0] == 1 && id[1] == 3);
    float nan[3] = {NAN, NAN, NAN};
    lab_ops()->sample(lab_backend(), id, lp, mat_f32(nan, 1, 3), (SampleArgs){.temperature = 1.0f, .top_p = 0.5f}, u);
    assert_true(id[0] >= 0 && id[0] < 3);
}

/* The largest logit on every backend; some are equal, and a row alone is the row among others. */
static void run_greedy(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    Mat logits = mat_f32((float *)t->in, t->outs[1].cols, 300);
    ops->sample(b, (int32_t *)lab_at(t, out, 0), lab_at(t, out, 1), logits,
                (SampleArgs){.temperature = 0.0f, .top_p = 1.0f}, NULL);
}

static void greedy_everywhere(void **state)
{
    (void)state;
    enum { N = 7, V = 300 };
    float *logits = lab_random((size_t)N * V, 5);
    for (int i = 0; i < N * V; i++) logits[i] = floorf(8.0f * logits[i]);
    LabTrial t = {.run = run_greedy, .in = logits};
    lab_out(&t, 1, N, 0), lab_out(&t, 1, N, 0);
    float *out = lab_run(&t);
    const int32_t *id = (int32_t *)lab_at(&t, out, 0);
    for (int n = 0; n < N; n++)
        for (int j = 0; j < V; j++) {
            const float *row = logits + (size_t)n * V;
            assert_true(row[j] < row[id[n]] || (row[j] == row[id[n]] && j >= id[n]));
        }
    free(out), free(logits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stats_and_gradient), cmocka_unit_test(corners),     cmocka_unit_test(sampler_agrees),
        cmocka_unit_test(restricted_draws),   cmocka_unit_test(inverse_cdf), cmocka_unit_test(greedy),
        cmocka_unit_test(greedy_everywhere),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
