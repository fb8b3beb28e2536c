/* gather_rows, copy, add, scatter_add_rows, combine_*: contract in core/ops/ops.h. Rows move to their experts and back; a token's
 * outputs are added in ascending expert order. */
#include "cpu/kernels/simd/rows.h"

/* y[i] = x[rows[i]], or x[i]. */
static void copy_rows(Mat y, Mat x, const int32_t *rows)
{
#pragma omp for nowait
    for (size_t i = 0; i < y.rows; i++) {
        copy_row(row_of(y, i), row_of(x, rows ? (size_t)rows[i] : i), y.cols);
    }
}

void cpu_gather_rows(Backend *b, Mat y, Mat x, const int32_t *rows)
{
    CHECK_EQ(y.cols, x.cols);
    ON_TEAM(cpu_team(b, (double)(y.rows * y.cols)), copy_rows(y, x, rows));
}

void cpu_copy(Backend *b, Mat y, Mat x)
{
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(y.cols, x.cols);
    ON_TEAM(cpu_team(b, (double)(y.rows * y.cols)), copy_rows(y, x, NULL));
}

void cpu_scatter_add_rows(Backend *b, Mat dx, Mat dy, const int32_t *slot, int K)
{
    check_f32(dx), check_f32(dy);
    CHECK_EQ(dx.cols, dy.cols);
#pragma omp parallel for num_threads(cpu_team(b, (double)(dx.rows * dx.cols) * K))
    for (size_t n = 0; n < dx.rows; n++) {
        float *out = mat_row(dx, n);
        const int32_t *from = slot + n * (size_t)K;
        EACH_V16(j, k, dx.cols)
        {
            v16 sum = v16_zero();
            for (int i = 0; i < K; i++) {
                sum = v16_add(sum, row_load(mat_row(dy, (size_t)from[i]) + j, k));
            }
            row_store(out + j, v16_add(row_load(out + j, k), sum), k);
        }
    }
}

static void combine_rows(Mat y, Mat x, const int32_t *slot, Mat weights, Mat shared)
{
    size_t K = weights.cols;
#pragma omp for nowait
    for (size_t n = 0; n < y.rows; n++) {
        float *out = mat_row(y, n);
        const float *w = mat_row(weights, n);
        const int32_t *from = slot + n * K;
        EACH_V16(j, k, y.cols)
        {
            v16 sum = v16_zero();
            for (size_t i = 0; i < K; i++) {
                sum = v16_fma(v16_set1(w[i]), any_load(row_of(x, (size_t)from[i]), j, k), sum);
            }
            if (shared.p) {
                sum = v16_add(sum, any_load(row_of(shared, n), j, k));
            }
            row_store(out + j, v16_add(row_load(out + j, k), sum), k);
        }
    }
}

void cpu_combine_fwd(Backend *b, Mat y, Mat x, const int32_t *slot, Mat weights, Mat shared)
{
    check_f32(y), check_f32(weights);
    CHECK_EQ(y.cols, x.cols);
    CHECK_EQ(weights.rows, y.rows);
    ON_TEAM(cpu_team(b, (double)(y.rows * y.cols * (weights.cols + 1))), combine_rows(y, x, slot, weights, shared));
}

void cpu_combine_bwd(Backend *b, Mat dx, Mat dweights, Mat dy, Mat x, const int32_t *slot, Mat weights)
{
    check_f32(dx), check_f32(dweights), check_f32(dy), check_f32(weights);
    CHECK_EQ(dx.cols, dy.cols);
    CHECK_EQ(x.cols, dy.cols);
    CHECK_EQ(dweights.cols, weights.cols);
    size_t K = weights.cols;
#pragma omp parallel for num_threads(cpu_team(b, (double)(2 * dy.rows * dy.cols * K)))
    for (size_t n = 0; n < dy.rows; n++) {
        const float *d = mat_row(dy, n), *w = mat_row(weights, n);
        for (size_t i = 0; i < K; i++) {
            size_t at = (size_t)slot[n * K + i];
            mat_row(dweights, n)[i] = any_dot(row_of(dy, n), row_of(x, at), dy.cols);
            float *out = mat_row(dx, at);
            EACH_V16(j, k, dy.cols)
            {
                row_store(out + j, v16_mul(v16_set1(w[i]), row_load(d + j, k)), k);
            }
        }
    }
}

static void add_rows(Mat y, Mat x)
{
#pragma omp for nowait
    for (size_t n = 0; n < y.rows; n++) {
        Row out = row_of(y, n), in = row_of(x, n);
        EACH_V16(j, k, y.cols)
        {
            any_store(out, j, v16_add(any_load(out, j, k), any_load(in, j, k)), k);
        }
    }
}

void cpu_add(Backend *b, Mat y, Mat x)
{
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(y.cols, x.cols);
    ON_TEAM(cpu_team(b, (double)(y.rows * y.cols)), add_rows(y, x));
}

static void scale_rows(Mat y, float a)
{
#pragma omp for nowait
    for (size_t n = 0; n < y.rows; n++) {
        Row out = row_of(y, n);
        EACH_V16(j, k, y.cols)
        {
            any_store(out, j, v16_mul(v16_set1(a), any_load(out, j, k)), k);
        }
    }
}

void cpu_scale(Backend *b, Mat y, float a)
{
    ON_TEAM(cpu_team(b, (double)(y.rows * y.cols)), scale_rows(y, a));
}
