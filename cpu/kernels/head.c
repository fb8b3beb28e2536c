/* head_stats, head_grad: contract in core/ops/ops.h. One row of logits at a time, in place. */
#include "cpu/kernels/simd/softmax.h"

/* p log p with its limit 0 where p is 0 (log p may be -inf there). */
VEC_INLINE v16 times_p(v16 p, v16 value)
{
    return v16_select(v16_eq(p, v16_zero()), v16_zero(), v16_mul(p, value));
}

/* x_j <- log softmax(x * scale)_j */
static void log_softmax_row(float *x, size_t V, float scale)
{
    float max = row_scaled_max(x, V, scale);
    v16 s = v16_set1(scale), m = v16_set1(max), log_sum = v16_set1(row_log(row_exp(NULL, x, V, scale, max)));
    EACH_V16(j, k, V)
    {
        row_store(x + j, v16_sub(v16_sub(v16_mul(row_load(x + j, k), s), m), log_sum), k);
    }
}

/* -sum p log p */
static float row_entropy(const float *logp, size_t V)
{
    RowSum sum = row_sum_zero();
    EACH_V16(j, k, V)
    {
        v16 l = row_load(logp + j, k), p = v16_select(m16_first((int)k), v16_exp(l), v16_zero());
        v16 *part = &sum.part[j / VEC % 4];
        *part = v16_add(*part, times_p(p, l));
    }
    return -row_sum_total(sum);
}

/* sum p (log p - log q) */
static float row_kl(const float *logp, const float *logq, size_t V)
{
    RowSum sum = row_sum_zero();
    EACH_V16(j, k, V)
    {
        v16 l = row_load(logp + j, k), p = v16_select(m16_first((int)k), v16_exp(l), v16_zero());
        v16 *part = &sum.part[j / VEC % 4];
        *part = v16_add(*part, times_p(p, v16_sub(l, row_load(logq + j, k))));
    }
    return row_sum_total(sum);
}

void cpu_head_stats(Backend *b, Mat logits, HeadStats out, const int32_t *targets, float inv_temperature,
                    const Mat *ref, HeadMaxima known)
{
    (void)known;
    check_f32(logits);
    size_t V = logits.cols;
    if (ref) {
        check_f32(*ref);
        CHECK_EQ(ref->rows, logits.rows);
        CHECK_EQ(ref->cols, V);
    }
#pragma omp parallel for num_threads(cpu_team(b, 20.0 * (double)(logits.rows * V)))
    for (size_t n = 0; n < logits.rows; n++) {
        float *row = mat_row(logits, n);
        log_softmax_row(row, V, inv_temperature);
        CHECK(targets[n] < (int32_t)V);
        out.lp[n] = targets[n] < 0 ? 0.0f : row[targets[n]];
        if (out.entropy) {
            out.entropy[n] = row_entropy(row, V);
        }
        if (ref) {
            log_softmax_row(mat_row(*ref, n), V, inv_temperature);
        }
        if (ref && out.kl) {
            out.kl[n] = row_kl(row, mat_row(*ref, n), V);
        }
    }
}

/* A row's coefficients; kl 0 and ref NULL where there is no reference. */
typedef struct HeadGrad {
    float inv_temperature, lp, entropy, kl; /* derivatives by them */
    float H, KL;                            /* values */
    const float *logq;
    bool forward;
} HeadGrad;

/* x_j <- inv_T p_j (-dlp - dH (log p_j + H) + dKL (log p_j - log q_j - KL)), the target's 1 apart */
static void head_grad_row(float *x, size_t V, const HeadGrad *g)
{
    v16 t = v16_set1(g->inv_temperature), lp = v16_set1(g->lp), dH = v16_set1(g->entropy), dKL = v16_set1(g->kl);
    v16 H = v16_set1(g->H), KL = v16_set1(g->KL);
    EACH_V16(j, k, V)
    {
        v16 l = row_load(x + j, k), p = v16_exp(l);
        v16 sum = v16_nfma(dH, v16_add(l, H), v16_neg(lp));
        if (g->logq) {
            sum = v16_fma(dKL, v16_sub(v16_sub(l, row_load(g->logq + j, k)), KL), sum);
        }
        row_store(x + j, v16_mul(t, times_p(p, sum)), k);
    }
}

/* x_j <- inv_T (p_j (-dlp - dH (log p_j + H)) + dKL (p_j - q_j)), the target's 1 apart: KL(q || p) */
static void forward_grad_row(float *x, size_t V, const HeadGrad *g)
{
    v16 t = v16_set1(g->inv_temperature), lp = v16_set1(g->lp), dH = v16_set1(g->entropy), dKL = v16_set1(g->kl);
    v16 H = v16_set1(g->H);
    EACH_V16(j, k, V)
    {
        v16 l = row_load(x + j, k), p = v16_exp(l), q = v16_exp(row_load(g->logq + j, k));
        v16 sum = times_p(p, v16_nfma(dH, v16_add(l, H), v16_neg(lp)));
        row_store(x + j, v16_mul(t, v16_fma(dKL, v16_sub(p, q), sum)), k);
    }
}

static void zero_row(float *x, size_t V)
{
    EACH_V16(j, k, V)
    {
        row_store(x + j, v16_zero(), k);
    }
}

void cpu_head_grad(Backend *b, Mat logp, const int32_t *targets, float inv_temperature, HeadGrads by, const Mat *ref)
{
    check_f32(logp);
    CHECK(!by.dentropy || by.entropy);
    CHECK(!by.dkl || (by.kl && ref));
    size_t V = logp.cols;
#pragma omp parallel for num_threads(cpu_team(b, 12.0 * (double)(logp.rows * V)))
    for (size_t n = 0; n < logp.rows; n++) {
        float *row = mat_row(logp, n);
        HeadGrad g = {.inv_temperature = inv_temperature, .lp = targets[n] < 0 ? 0.0f : by.dlp[n]};
        if (by.dentropy) {
            g.entropy = by.dentropy[n], g.H = by.entropy[n];
        }
        if (by.dkl) {
            g.kl = by.dkl[n], g.KL = by.kl[n], g.logq = mat_row(*ref, n), g.forward = by.forward;
        }
        if (g.lp == 0.0f && g.entropy == 0.0f && g.kl == 0.0f) {
            zero_row(row, V);
            continue;
        }
        if (g.forward) forward_grad_row(row, V, &g);
        else head_grad_row(row, V, &g);
        if (targets[n] >= 0) {
            row[targets[n]] = fmaf(inv_temperature, g.lp, row[targets[n]]);
        }
    }
}
