/* rmsnorm_*, headnorm_*: contract in core/ops/ops.h. A row is summed in 64 residues (simd/rows.h); sums over tokens in blocks of
 * TOKEN_BLOCK. */
#include <math.h>

#include "cpu/kernels/simd/rows.h"

/* A norm over the columns of a matrix is a norm over one head per row. */
static HeadView rows_as_heads(Mat m)
{
    return (HeadView){m.p, m.stride, 0, m.dtype};
}

/* Short rows far apart: the hardware prefetcher does not follow them, so rows are prefetched 12 ahead. */
enum { SHORT_ROW = 64, ROWS_AHEAD = 12 };

VEC_INLINE void fetch_ahead(HeadView v, size_t row, size_t D)
{
    if (D > SHORT_ROW || v.row == D) return;
    const char *p = head_row(v, row + ROWS_AHEAD, 0).p;
    for (size_t i = 0; i < D * dtype_size(v.dtype); i += 64) __builtin_prefetch(p + i);
}

static float norm_row_fwd(Row y, Row x, const float *w, float eps, size_t D)
{
    float rstd = 1.0f / sqrtf(any_dot(x, x, D) / (float)D + eps);
    v16 r = v16_set1(rstd);
    EACH_V16(j, k, D)
    {
        any_store(y, j, v16_mul(row_load(w + j, k), v16_mul(any_load(x, j, k), r)), k);
    }
    return rstd;
}

static void norm_rows(HeadView y, float *rstd, HeadView x, const float *w, float eps, size_t n, size_t heads, size_t D)
{
#pragma omp for nowait
    for (size_t i = 0; i < n; i++) {
        fetch_ahead(x, i, heads * D);
        for (size_t h = 0; h < heads; h++) {
            rstd[i * heads + h] = norm_row_fwd(head_row(y, i, h), head_row(x, i, h), w, eps, D);
        }
    }
}

static void norm_fwd(Backend *b, HeadView y, float *rstd, HeadView x, const float *w, float eps, size_t n, size_t heads,
                     size_t D)
{
    ON_TEAM(cpu_team(b, (double)(n * heads * D)), norm_rows(y, rstd, x, w, eps, n, heads, D));
}

/* mean_j w_j dy_j xhat_j */
static float norm_row_projection(const float *dy, Row x, const float *w, float rstd, size_t D)
{
    RowSum s = row_sum_zero();
    size_t j = 0;
    for (; j + 4 * VEC <= D; j += 4 * VEC) {
        for (int i = 0; i < 4; i++) {
            size_t at = j + (size_t)i * VEC;
            s.part[i] = v16_fma(v16_mul(v16_load(w + at), v16_load(dy + at)), any_load(x, at, VEC), s.part[i]);
        }
    }
    for (int i = 0; j < D; j += VEC, i++) {
        size_t k = row_lanes(D - j);
        s.part[i] = v16_fma(v16_mul(row_load(w + j, k), row_load(dy + j, k)), any_load(x, j, k), s.part[i]);
    }
    return row_sum_total(s) * rstd / (float)D;
}

static void norm_row_bwd(float *dx, const float *dy, Row x, const float *w, float rstd, size_t D, bool add)
{
    v16 r = v16_set1(rstd), c = v16_set1(norm_row_projection(dy, x, w, rstd, D));
    EACH_V16(j, k, D)
    {
        v16 xhat = v16_mul(any_load(x, j, k), r);
        v16 d = v16_mul(r, v16_nfma(xhat, c, v16_mul(row_load(w + j, k), row_load(dy + j, k))));
        row_store(dx + j, add ? v16_add(row_load(dx + j, k), d) : d, k);
    }
}

typedef struct NormGrad {
    HeadView dy, x;
    const float *rstd;
    size_t n, heads;
} NormGrad;

enum { DW_VECTORS = 4 }; /* columns summed side by side: what is read of a row then lies on whole cache lines */

/* dw[j, j + width) += one block's sum over tokens, then heads, in order; at most DW_VECTORS vectors. */
static void norm_dw_block(float *dw, const NormGrad *g, size_t from, size_t to, size_t j, size_t width)
{
    v16 sum[DW_VECTORS] = {v16_zero(), v16_zero(), v16_zero(), v16_zero()};
    for (size_t i = from; i < to; i++) {
        fetch_ahead(g->x, i, g->heads * width);
        for (size_t h = 0; h < g->heads; h++) {
            Row x = head_row(g->x, i, h), dy = head_row(g->dy, i, h);
            v16 r = v16_set1(g->rstd[i * g->heads + h]);
            EACH_V16(c, k, width)
            {
                sum[c / VEC] = v16_fma(any_load(dy, j + c, k), v16_mul(any_load(x, j + c, k), r), sum[c / VEC]);
            }
        }
    }
    EACH_V16(c, k, width)
    {
        row_store(dw + j + c, v16_add(row_load(dw + j + c, k), sum[c / VEC]), k);
    }
}

/* Columns are cut, sums over tokens never. */
static void norm_dw(Backend *b, float *dw, NormGrad g, size_t D)
{
    int team = cpu_team(b, (double)(g.n * g.heads * D));
    size_t most = DW_VECTORS * VEC;
    while (most > VEC && most * (size_t)(team - 1) >= D) most /= 2;
#pragma omp parallel for num_threads(team)
    for (size_t j = 0; j < D; j += most) {
        for (size_t from = 0; from < g.n; from += TOKEN_BLOCK) {
            size_t to = from + TOKEN_BLOCK < g.n ? from + TOKEN_BLOCK : g.n;
            norm_dw_block(dw, &g, from, to, j, D - j < most ? D - j : most);
        }
    }
}

static void norm_bwd(Backend *b, HeadView dx, float *dw, NormGrad g, const float *w, size_t D, bool add_dx)
{
    CHECK(dx.dtype == DTYPE_F32 && g.dy.dtype == DTYPE_F32);
    norm_dw(b, dw, g, D); /* first: dx may overwrite dy */
#pragma omp parallel for num_threads(cpu_team(b, (double)(2 * g.n * g.heads * D)))
    for (size_t i = 0; i < g.n; i++) {
        fetch_ahead(g.x, i, g.heads * D);
        fetch_ahead(dx, i, g.heads * D);
        for (size_t h = 0; h < g.heads; h++) {
            norm_row_bwd(head_row(dx, i, h).p, head_row(g.dy, i, h).p, head_row(g.x, i, h), w, g.rstd[i * g.heads + h],
                         D, add_dx);
        }
    }
}

void cpu_rmsnorm_fwd(Backend *b, Mat y, float *rstd, Mat x, const float *w, float eps)
{
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(y.cols, x.cols);
    norm_fwd(b, rows_as_heads(y), rstd, rows_as_heads(x), w, eps, x.rows, 1, x.cols);
}

void cpu_rmsnorm_bwd(Backend *b, Mat dx, float *dw, Mat dy, Mat x, const float *w, const float *rstd, bool add_dx)
{
    CHECK_EQ(dx.rows, x.rows);
    CHECK_EQ(dy.rows, x.rows);
    CHECK_EQ(dx.cols, x.cols);
    CHECK_EQ(dy.cols, x.cols);
    NormGrad g = {rows_as_heads(dy), rows_as_heads(x), rstd, x.rows, 1};
    norm_bwd(b, rows_as_heads(dx), dw, g, w, x.cols, add_dx);
}

void cpu_headnorm_fwd(Backend *b, HeadView y, float *rstd, HeadView x, HeadNorm norm, float eps)
{
    norm_fwd(b, y, rstd, x, norm.w, eps, (size_t)norm.n, (size_t)norm.heads, (size_t)norm.D);
}

void cpu_headnorm_bwd(Backend *b, HeadView dx, float *dw, HeadView dy, HeadView x, HeadNorm norm, const float *rstd)
{
    NormGrad g = {dy, x, rstd, (size_t)norm.n, (size_t)norm.heads};
    norm_bwd(b, dx, dw, g, norm.w, (size_t)norm.D, false);
}
