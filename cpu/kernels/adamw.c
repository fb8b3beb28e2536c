/* adamw, sum_squares, fill: contract in core/ops/ops.h. Loshchilov & Hutter, arXiv:1711.05101, algorithm 2; squares are
 * summed in f64, block after block. */
#include <string.h>

#include "cpu/kernels/simd/rows.h"

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

/* Algorithm 2, lines 6-12, with the decay multiplied by lr. Returns the new w. */
VEC_INLINE v16 adamw_step(v16 wk, float *m, float *v, const float *g, size_t k, const AdamWVectors *a)
{
    v16 gk = v16_mul(row_load(g, k), a->scale);
    v16 mk = v16_fma(a->b1, row_load(m, k), v16_mul(a->one_b1, gk));
    v16 vk = v16_fma(a->b2, row_load(v, k), v16_mul(v16_mul(a->one_b2, gk), gk));
    v16 denominator = v16_add(v16_sqrt(v16_mul(vk, a->c2)), a->eps);
    v16 step = v16_fma(a->decay, wk, v16_div(v16_mul(mk, a->c1), denominator));
    row_store(m, mk, k);
    row_store(v, vk, k);
    return v16_nfma(a->lr, step, wk);
}

/* k elements in two planes. */
VEC_INLINE void adamw_halves(uint16_t *high, uint16_t *low, float *m, float *v, const float *g, size_t k,
                             const AdamWVectors *a)
{
    if (k == VEC) {
        v16_store_split(high, low, adamw_step(v16_load_split(high, low), m, v, g, k, a));
        return;
    }
    uint16_t h[VEC] = {0}, l[VEC] = {0};
    memcpy(h, high, k * sizeof *h);
    memcpy(l, low, k * sizeof *l);
    v16_store_split(h, l, adamw_step(v16_load_split(h, l), m, v, g, k, a));
    memcpy(high, h, k * sizeof *h);
    memcpy(low, l, k * sizeof *l);
}

void cpu_adamw(Backend *b, void *w, uint16_t *low, float *m, float *v, const float *g, size_t n, AdamWArgs args)
{
    uint16_t *high = w;
    float *plain = w;
    size_t steps = (n + VEC - 1) / VEC;
#pragma omp parallel num_threads(cpu_team(b, 4.0 * (double)n))
    {
        AdamWVectors a = adamw_vectors(args);
#pragma omp for schedule(static)
        for (size_t i = 0; i < steps; i++) {
            size_t j = i * VEC, k = row_lanes(n - j);
            if (low) adamw_halves(high + j, low + j, m + j, v + j, g + j, k, &a);
            else row_store(plain + j, adamw_step(row_load(plain + j, k), m + j, v + j, g + j, k, &a), k);
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

void cpu_sum_squares(Backend *b, double *sum, const float *x, size_t n)
{
    size_t blocks = (n + SQUARES_BLOCK - 1) / SQUARES_BLOCK;
    ArenaMark mark = cpu_mark(b, 0);
    double *sums = (double *)cpu_scratch(b, 0, 2 * blocks);
#pragma omp parallel for schedule(static) num_threads(cpu_team(b, (double)n))
    for (size_t i = 0; i < blocks; i++) {
        size_t from = i * SQUARES_BLOCK, left = n - from;
        sums[i] = block_squares(x + from, left < SQUARES_BLOCK ? left : SQUARES_BLOCK);
    }
    *sum = 0.0;
    for (size_t i = 0; i < blocks; i++) *sum += sums[i];
    cpu_release(b, 0, mark);
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
