/* swiglu_fwd, swiglu_bwd: contract in core/ops/ops.h (Shazeer, arXiv:2002.05202). */
#include "cpu/kernels/simd/rows.h"

static void swiglu_rows(Mat h, Mat gu)
{
#pragma omp for nowait
    for (size_t n = 0; n < h.rows; n++) {
        Row g = row_of(gu, n), u = row_from(g, h.cols), out = row_of(h, n);
        EACH_V16(j, k, h.cols)
        {
            any_store(out, j, v16_mul(v16_silu(any_load(g, j, k)), any_load(u, j, k)), k);
        }
    }
}

void cpu_swiglu_fwd(Backend *b, Mat h, Mat gu)
{
    CHECK_EQ(gu.cols, 2 * h.cols);
    CHECK_EQ(gu.rows, h.rows);
    ON_TEAM(cpu_team(b, 10.0 * (double)(h.rows * h.cols)), swiglu_rows(h, gu));
}

/* With s = sigmoid(g): du = dh g s, dg = dh u s (1 + g (1 - s)). */
void cpu_swiglu_bwd(Backend *b, Mat dgu, Mat dh, Mat gu)
{
    check_f32(dgu), check_f32(dh);
    CHECK_EQ(gu.cols, 2 * dh.cols);
    CHECK_EQ(dgu.cols, gu.cols);
    CHECK_EQ(dgu.rows, dh.rows);
    size_t F = dh.cols;
    const v16 one = v16_set1(1.0f);
#pragma omp parallel for num_threads(cpu_team(b, 14.0 * (double)(dh.rows * F)))
    for (size_t n = 0; n < dh.rows; n++) {
        Row g = row_of(gu, n);
        const float *d = mat_row(dh, n);
        float *out = mat_row(dgu, n);
        EACH_V16(j, k, F)
        {
            v16 gj = any_load(g, j, k), uj = any_load(g, F + j, k), dj = row_load(d + j, k);
            v16 s = v16_sigmoid(gj), ds = v16_mul(dj, s);
            v16 slope = v16_fma(gj, v16_sub(one, s), one);
            row_store(out + j, v16_mul(v16_mul(ds, uj), slope), k);
            row_store(out + F + j, v16_mul(ds, gj), k);
        }
    }
}
