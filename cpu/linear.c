/* Linear layers and groups of them (experts): pieces of the work on a team, each by a one-thread matmul (matmul/provider.h). */
#include "cpu/linear_pieces.h"

/* dtype: of the product's operands. */
static Group group_make(const Backend *b, GemmOp op, DType dtype, const Mat *w, const int32_t *offsets, int E,
                        size_t rows)
{
    Group g = {gemm_of(b, dtype, op, w[0].rows, w[0].cols), w, offsets, E, w[0].rows, w[0].cols, rows};
    CHECK(E >= 1 && g.out > 0 && g.in > 0);
    CHECK_EQ(offsets[0], 0);
    CHECK_EQ(offsets[E], rows);
    for (int e = 0; e < E; e++) {
        CHECK_EQ(w[e].dtype, w[0].dtype);
        CHECK_EQ(w[e].rows, g.out);
        CHECK_EQ(w[e].cols, g.in);
        CHECK(offsets[e] <= offsets[e + 1]);
    }
    return g;
}

static void group_fwd(Backend *b, Mat y, Mat x, Group g, const float *bias, bool add)
{
    CHECK_EQ(x.dtype, g.w[0].dtype);
    CHECK_EQ(y.rows, x.rows);
    CHECK_EQ(x.cols, g.in);
    CHECK_EQ(y.cols, g.out);
    ArenaMark mark = cpu_mark(b, 0);
    bool *need = (bool *)cpu_scratch(b, 0, (size_t)g.E);
    const void **packed = (const void **)cpu_scratch(b, 0, 2 * (size_t)g.E);
    for (int e = 0; e < g.E; e++) {
        need[e] = expert_rows(&g, e) > 0;
    }
    gemm_packs_get(b, g.gemm, packed, g.w, need, g.E);
    Pieces pieces = pieces_of_fwd(b, &g);
#pragma omp parallel for schedule(dynamic) num_threads(pieces.team)
    for (size_t i = 0; i < pieces.count; i++) {
        Piece t = pieces.at[i];
        Mat from = mat_rows(x, t.r0, t.r1 - t.r0), to = mat_rows(y, t.r0, t.r1 - t.r0);
        if (packed[t.e]) g.gemm->fwd(b, omp_get_thread_num(), to, from, packed[t.e], t.c0, t.c1, bias, add);
        else g.gemm->fwd_unpacked(b, omp_get_thread_num(), to, from, g.w[t.e], t.c0, t.c1, bias, add);
    }
    cpu_release(b, 0, mark);
}

static void group_bwd_x(Backend *b, Mat dx, Mat dy, Group g, bool add)
{
    check_f32(dx);
    CHECK_EQ(dx.rows, dy.rows);
    CHECK_EQ(dx.cols, g.in);
    CHECK_EQ(dy.cols, g.out);
    ArenaMark mark = cpu_mark(b, 0);
    Pieces pieces = pieces_of_bwd_x(b, &g);
#pragma omp parallel for schedule(dynamic) num_threads(pieces.team)
    for (size_t i = 0; i < pieces.count; i++) {
        Piece t = pieces.at[i];
        g.gemm->bwd_x(b, omp_get_thread_num(), mat_rows(dx, t.r0, t.r1 - t.r0), mat_rows(dy, t.r0, t.r1 - t.r0),
                      g.w[t.e], t.c0, t.c1, add);
    }
    cpu_release(b, 0, mark);
}

static void group_bwd_w(Backend *b, Group g, Mat dy, Mat x)
{
    check_f32(dy), check_f32(g.w[0]);
    CHECK_EQ(dy.rows, x.rows);
    CHECK_EQ(dy.cols, g.out);
    CHECK_EQ(x.cols, g.in);
    ArenaMark mark = cpu_mark(b, 0);
    Pieces pieces = pieces_of_bwd_w(b, &g);
#pragma omp parallel for schedule(dynamic) num_threads(pieces.team)
    for (size_t i = 0; i < pieces.count; i++) {
        Piece t = pieces.at[i];
        for (size_t from = t.r0; from < t.r1; from += TOKEN_BLOCK) {
            size_t rows = min_size(TOKEN_BLOCK, t.r1 - from);
            g.gemm->bwd_w(b, omp_get_thread_num(), g.w[t.e], mat_rows(dy, from, rows), mat_rows(x, from, rows), t.c0,
                          t.c1);
        }
    }
    cpu_release(b, 0, mark);
}

static void bias_grad(Backend *b, float *dbias, Mat dy)
{
    size_t steps = ceil_div(dy.cols, 16);
#pragma omp parallel for schedule(static) num_threads(cpu_team(b, (double)(dy.rows * dy.cols)))
    for (size_t i = 0; i < steps; i++) {
        b->kernels->column_sums(dbias, dy, i * 16, min_size(dy.cols, i * 16 + 16));
    }
}

void cpu_linear_fwd(Backend *b, Mat y, Mat x, Mat w, const float *bias, bool add)
{
    const int32_t offsets[2] = {0, (int32_t)x.rows};
    group_fwd(b, y, x, group_make(b, GEMM_FWD, w.dtype, &w, offsets, 1, x.rows), bias, add);
}

void cpu_linear_bwd_x(Backend *b, Mat dx, Mat dy, Mat w, bool add)
{
    const int32_t offsets[2] = {0, (int32_t)dy.rows};
    group_bwd_x(b, dx, dy, group_make(b, GEMM_BWD_X, w.dtype, &w, offsets, 1, dy.rows), add);
}

void cpu_linear_bwd_w(Backend *b, Mat dw, float *dbias, Mat dy, Mat x)
{
    const int32_t offsets[2] = {0, (int32_t)dy.rows};
    group_bwd_w(b, group_make(b, GEMM_BWD_W, x.dtype, &dw, offsets, 1, dy.rows), dy, x);
    if (dbias) {
        bias_grad(b, dbias, dy);
    }
}

void cpu_grouped_fwd(Backend *b, Mat y, Mat x, const Mat *w, const int32_t *offsets, int E)
{
    group_fwd(b, y, x, group_make(b, GEMM_FWD, w[0].dtype, w, offsets, E, x.rows), NULL, false);
}

void cpu_grouped_bwd_x(Backend *b, Mat dx, Mat dy, const Mat *w, const int32_t *offsets, int E)
{
    group_bwd_x(b, dx, dy, group_make(b, GEMM_BWD_X, w[0].dtype, w, offsets, E, dy.rows), false);
}

void cpu_grouped_bwd_w(Backend *b, const Mat *dw, Mat dy, Mat x, const int32_t *offsets, int E)
{
    group_bwd_w(b, group_make(b, GEMM_BWD_W, x.dtype, dw, offsets, E, dy.rows), dy, x);
}

/* Column h of a head view as a matrix of n rows. */
static Mat head_columns(HeadView v, int h, int n, size_t cols)
{
    return (Mat){(char *)v.p + (size_t)h * v.head * dtype_size(v.dtype), v.dtype, (size_t)n, cols, v.row, false};
}

void cpu_heads_product(Backend *b, HeadView y, HeadView x, Mat w, HeadRows s, int n, bool transposed)
{
    for (int h = 0; h < s.heads; h++) {
        Mat head = mat_rows(w, (size_t)h * s.step + s.first, s.rows);
        Mat out = head_columns(y, h, n, transposed ? w.cols : s.rows);
        Mat in = head_columns(x, h, n, transposed ? s.rows : w.cols);
        if (transposed) cpu_linear_bwd_x(b, out, in, head, false);
        else cpu_linear_fwd(b, out, in, head, NULL, false);
    }
}
