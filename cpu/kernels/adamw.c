#include "cpu/kernels/rows.h"

enum { SQUARES_BLOCK = 4096 };

typedef struct AdamWVectors {
    v16 scale, b1, b2, c1, c2, one_b1, one_b2, eps, lr, decay;
} AdamWVectors;

static AdamWVectors adamw_vectors(AdamWArgs a)
{
    return (AdamWVectors){
        .scale = v16_set1(a.grad_scale),
        .b1 = v16_set1(a.beta1),
        .b2 = v16_set1(a.beta2),
        .c1 = v16_set1(1.0f / a.correction1),
        .c2 = v16_set1(1.0f / a.correction2),
        .one_b1 = v16_set1(1.0f - a.beta1),
        .one_b2 = v16_set1(1.0f - a.beta2),
        .eps = v16_set1(a.eps),
        .lr = v16_set1(a.lr),
        .decay = v16_set1(a.weight_decay),
    };
}

/* Algorithm 2, lines 6-12, with the decay multiplied by lr. */
VEC_INLINE void adamw_step(float *w, float *m, float *v, const float *g, size_t k, const AdamWVectors *a)
{
    v16 gk = v16_mul(row_load(g, k), a->scale), wk = row_load(w, k);
    v16 mk = v16_fma(a->b1, row_load(m, k), v16_mul(a->one_b1, gk));
    v16 vk = v16_fma(a->b2, row_load(v, k), v16_mul(v16_mul(a->one_b2, gk), gk));
    v16 denominator = v16_add(v16_sqrt(v16_mul(vk, a->c2)), a->eps);
    v16 step = v16_fma(a->decay, wk, v16_div(v16_mul(mk, a->c1), denominator));
    row_store(m, mk, k);
    row_store(v, vk, k);
    row_store(w, v16_nfma(a->lr, step, wk), k);
}

void cpu_adamw(Backend *b, float *w, float *m, float *v, const float *g, size_t n, AdamWArgs args)
{
    size_t steps = (n + VEC - 1) / VEC;
#pragma omp parallel num_threads(cpu_team(b, 4.0 * (double)n))
    {
        AdamWVectors a = adamw_vectors(args);
#pragma omp for schedule(static)
        for (size_t i = 0; i < steps; i++) {
            size_t j = i * VEC;
            adamw_step(w + j, m + j, v + j, g + j, row_lanes(n - j), &a);
        }
    }
}

/* The square of a float is exact in double: only the additions round, 16 running sums side by side. */
static double block_squares(const float *x, size_t n)
{
    double sum[VEC] = {0};
    size_t j = 0;
    for (; j + VEC <= n; j += VEC) {
        for (int i = 0; i < VEC; i++) {
            sum[i] += (double)x[j + (size_t)i] * (double)x[j + (size_t)i];
        }
    }
    for (int i = 0; j < n; i++, j++) {
        sum[i] += (double)x[j] * (double)x[j];
    }
    double total = 0.0;
    for (int i = 0; i < VEC; i++) {
        total += sum[i];
    }
    return total;
}

double cpu_sum_squares(Backend *b, const float *x, size_t n)
{
    size_t blocks = (n + SQUARES_BLOCK - 1) / SQUARES_BLOCK;
    ArenaMark mark = cpu_mark(b, 0);
    double *sums = (double *)cpu_scratch(b, 0, 2 * blocks);
#pragma omp parallel for schedule(static) num_threads(cpu_team(b, (double)n))
    for (size_t i = 0; i < blocks; i++) {
        size_t from = i * SQUARES_BLOCK, left = n - from;
        sums[i] = block_squares(x + from, left < SQUARES_BLOCK ? left : SQUARES_BLOCK);
    }
    double total = 0.0;
    for (size_t i = 0; i < blocks; i++) {
        total += sums[i];
    }
    cpu_release(b, 0, mark);
    return total;
}

void cpu_fill(Backend *b, float *x, size_t n, float value)
{
    v16 v = v16_set1(value);
    size_t steps = (n + VEC - 1) / VEC;
#pragma omp parallel for schedule(static) num_threads(cpu_team(b, (double)n))
    for (size_t i = 0; i < steps; i++) {
        row_store(x + i * VEC, v, row_lanes(n - i * VEC));
    }
}
