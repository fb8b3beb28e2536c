/* Linear layers: cuts the work into tasks of similar cost, runs them on a team, each with a one-thread matmul. One linear
 * layer is a group of one expert. Sums over tokens are never split: only rows, columns and experts are. */
#include <string.h>

#include "cpu/internal.h"

enum { MIN_ROW_CHUNK = 24, MIN_OUT_CHUNK = 24, FEW_COLUMNS = 64, SOME_ROWS = 128, MANY_COLUMNS = 2048 };

/* Where x has fewer columns, it costs less to read it oftener than to hold more of dy than the second cache does. */
enum { WIDE_ENOUGH = 512 };

/* Rows [r0, r1) of the call and columns [c0, c1) of the output, with the matrix of expert e. For bwd_w: rows are the
 * expert's, columns are outputs. */
typedef struct Task {
    int e;
    size_t r0, r1, c0, c1;
} Task;

/* The experts of a call: rows [offsets[e], offsets[e+1]); every w[e] is [out, in]. */
typedef struct Group {
    const GemmProvider *gemm;
    const Mat *w;
    const int32_t *offsets;
    int E;
    size_t out, in, rows;
} Group;

typedef struct Plan {
    Task *tasks;
    size_t count;
    int team;
} Plan;

static size_t expert_rows(const Group *g, int e)
{
    return (size_t)(g->offsets[e + 1] - g->offsets[e]);
}

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

static int group_team(Backend *b, const Group *g)
{
    return cpu_team(b, (double)g->rows * (double)g->out * (double)g->in / 8.0);
}

/* The last tasks are cut into this many, so that a thread that is late (one processor is often slower than another) is waited
 * for by a fraction of a task. WORTH_CUTTING: multiply-adds of a piece, where reading the weights costs as many as 16 rows. */
enum { TAIL_PIECES = 4, WORTH_CUTTING = 1 << 20, LEAST_COLUMNS = 256, LEAST_ROWS = 72, LEAST_OUTS = 96 };

static Plan plan_open(Backend *b, int team, size_t count)
{
    size_t most = count + (size_t)team * (TAIL_PIECES - 1);
    return (Plan){.tasks = (Task *)cpu_scratch(b, 0, ceil_div(most * sizeof(Task), sizeof(float))), .team = team};
}

/* Pieces of n rows or columns. */
static size_t pieces_of(size_t n, size_t least, size_t work)
{
    size_t pieces = min_size(min_size(TAIL_PIECES, n / least), work / WORTH_CUTTING);
    return pieces ? pieces : 1;
}

/* Columns are cut at multiples of `unit` (0: nothing is cut); where they are few, rows, if they may. depth: a product's third
 * side. */
static void cut_tail(Plan *plan, size_t unit, size_t least, bool by_rows, size_t depth)
{
    Task tail[64];
    size_t n = min_size((size_t)plan->team, min_size(plan->count, sizeof tail / sizeof *tail));
    if (plan->team == 1 || unit == 0) return;
    plan->count -= n;
    memcpy(tail, plan->tasks + plan->count, n * sizeof *tail);
    for (size_t i = 0; i < n; i++) {
        Task t = tail[i];
        size_t rows = t.r1 - t.r0, cols = t.c1 - t.c0, units = ceil_div(cols, unit), work = (rows + 16) * cols * depth;
        size_t across = pieces_of(cols, least, work),
               down = across > 1 || !by_rows ? 1 : pieces_of(rows, LEAST_ROWS, work);
        for (size_t k = 0; k < across; k++) {
            size_t from = t.c0 + units * k / across * unit,
                   to = k + 1 < across ? t.c0 + units * (k + 1) / across * unit : t.c1;
            for (size_t j = 0; j < down; j++)
                plan->tasks[plan->count++] =
                    (Task){t.e, t.r0 + rows * j / down, t.r0 + rows * (j + 1) / down, from, to};
        }
    }
}

/* How an output is cut: chunks of rows, each in `parts` ranges of columns. Two tasks a thread at least, so that a thread that
 * is late does not hold up the others by much, but one where few rows make them short; of columns where there are enough (the
 * weight is then read once), else of rows. */
typedef struct Cut {
    size_t chunk, row_tasks, parts;
} Cut;

static size_t count_row_tasks(const Group *g, size_t chunk)
{
    size_t n = 0;
    for (int e = 0; e < g->E; e++) n += ceil_div(expert_rows(g, e), chunk);
    return n;
}

static Cut cut_rows(const Group *g, int team, size_t cols)
{
    size_t unit = g->gemm->column_unit, tasks = g->rows < MIN_ROW_CHUNK ? 1 : 2,
           want = team > 1 ? tasks * (size_t)team : 1;
    Cut cut = {.chunk = TASK_CHUNK, .parts = 1};
    if (!unit) cut.chunk = min_size(TASK_CHUNK, ceil_div(g->rows, (size_t)team) + 1);
    cut.row_tasks = count_row_tasks(g, cut.chunk);
    if (!unit || cut.row_tasks == 0 || cut.row_tasks >= want) return cut;
    size_t units = ceil_div(cols, unit);
    cut.parts = ceil_div(want, cut.row_tasks);
    if (units >= cut.parts || g->rows < MIN_ROW_CHUNK * (size_t)team) {
        cut.parts = min_size(cut.parts, units);
        return cut;
    }
    cut.parts = 1;
    cut.chunk = ceil_div(g->rows, (size_t)team);
    cut.row_tasks = count_row_tasks(g, cut.chunk);
    return cut;
}

/* Tasks over (expert, row chunk, column range) of an output with `cols` columns. */
static Plan plan_rows(Backend *b, const Group *g, size_t cols)
{
    int team = group_team(b, g);
    Cut cut = cut_rows(g, team, cols);
    size_t parts = cut.parts, unit = g->gemm->column_unit, units = parts > 1 ? ceil_div(cols, unit) : 1;
    Plan plan = plan_open(b, team, cut.row_tasks * parts);
    for (int e = 0; e < g->E; e++) {
        size_t from = (size_t)g->offsets[e], rows = expert_rows(g, e), count = ceil_div(rows, cut.chunk);
        for (size_t i = 0; i < count * parts; i++) {
            size_t row = i / parts, col = i % parts;
            plan.tasks[plan.count++] = (Task){
                .e = e,
                .r0 = from + rows * row / count,
                .r1 = from + rows * (row + 1) / count,
                .c0 = parts > 1 ? ceil_div(units * col, parts) * unit : 0,
                .c1 = col + 1 == parts ? cols : ceil_div(units * (col + 1), parts) * unit,
            };
        }
    }
    cut_tail(&plan, unit, LEAST_COLUMNS, true, g->out * g->in / cols);
    return plan;
}

/* Few rows: what takes time is reading the weights. So it is with more, where columns are enough for many tasks. */
static bool weights_matter(const Group *g)
{
    return g->gemm->column_unit && (g->rows < MIN_ROW_CHUNK || (g->rows < SOME_ROWS && g->out >= MANY_COLUMNS));
}

/* Tasks over (expert, column range), smaller towards the end, so that threads end together. */
static Plan plan_few(Backend *b, const Group *g)
{
    size_t team = (size_t)group_team(b, g), unit = g->gemm->column_unit, left = 0;
    if (unit < FEW_COLUMNS) unit = FEW_COLUMNS / unit * unit;
    size_t units = team > 1 ? ceil_div(g->out, unit) : 1;
    for (int e = 0; e < g->E; e++) left += expert_rows(g, e) > 0 ? units : 0;
    Plan plan = plan_open(b, (int)team, left);
    for (int e = 0; e < g->E; e++) {
        for (size_t at = 0, count; expert_rows(g, e) > 0 && at < units; at += count, left -= count) {
            count = min_size(units - at, ceil_div(left, 2 * team));
            plan.tasks[plan.count++] = (Task){e, (size_t)g->offsets[e], (size_t)g->offsets[e + 1], at * unit,
                                              at + count == units ? g->out : (at + count) * unit};
        }
    }
    return plan;
}

/* Tasks over (expert, range of outputs), all rows of the expert. */
static Plan plan_outs(Backend *b, const Group *g)
{
    size_t busy = 0, team = (size_t)group_team(b, g);
    for (int e = 0; e < g->E; e++) {
        busy += expert_rows(g, e) > 0;
    }
    /* Few tasks are as many as threads: every task reads all of x, so smaller ones would read it oftener. */
    size_t chunk = g->in < WIDE_ENOUGH ? TASK_CHUNK / 2 : TASK_CHUNK, parts = ceil_div(g->out, chunk);
    if (busy && busy * parts < 4 * team) {
        parts = min_size(ceil_div(ceil_div(busy * parts, team) * team, busy), ceil_div(g->out, MIN_OUT_CHUNK));
    }
    Plan plan = plan_open(b, (int)team, busy * parts);
    for (int e = 0; e < g->E; e++) {
        for (size_t i = 0; expert_rows(g, e) > 0 && i < parts; i++) {
            plan.tasks[plan.count++] = (Task){e, (size_t)g->offsets[e], (size_t)g->offsets[e + 1], g->out * i / parts,
                                              g->out * (i + 1) / parts};
        }
    }
    cut_tail(&plan, MIN_OUT_CHUNK, LEAST_OUTS, false, g->in);
    return plan;
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
    Plan plan = weights_matter(&g) ? plan_few(b, &g) : plan_rows(b, &g, g.out);
#pragma omp parallel for schedule(dynamic) num_threads(plan.team)
    for (size_t i = 0; i < plan.count; i++) {
        Task t = plan.tasks[i];
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
    Plan plan = plan_rows(b, &g, g.in);
#pragma omp parallel for schedule(dynamic) num_threads(plan.team)
    for (size_t i = 0; i < plan.count; i++) {
        Task t = plan.tasks[i];
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
    Plan plan = plan_outs(b, &g);
#pragma omp parallel for schedule(dynamic) num_threads(plan.team)
    for (size_t i = 0; i < plan.count; i++) {
        Task t = plan.tasks[i];
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
    return (Mat){(char *)v.p + (size_t)h * v.head * dtype_size(v.dtype), v.dtype, (size_t)n, cols, v.row};
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
