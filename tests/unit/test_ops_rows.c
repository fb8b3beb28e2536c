/* Row ops: embedding, RMSNorm, head norms, RoPE, SwiGLU, add, copy, scale. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 11, EMBED_ROWS = 300 };
static const float SCALE = -1.3f;

typedef struct Embedding {
    float *table, *dy;
    int32_t ids[EMBED_ROWS];
    size_t n, C;
} Embedding;

static void run_embed(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Embedding *e = t->in;
    ops->embed_fwd(b, lab_mat(t, out, 0), mat_f32(e->table, VOCAB, e->C), e->ids);
    ops->embed_bwd(b, lab_mat(t, out, 1), mat_f32(e->dy, e->n, e->C), e->ids);
    ops->add(b, lab_mat(t, out, 2), mat_f32(e->dy, e->n, e->C));
    ops->copy(b, lab_mat(t, out, 3), mat_f32(e->dy, e->n, e->C));
    ops->scale(b, lab_mat(t, out, 4), SCALE);
}

static void check_embedding(size_t n, size_t C, bool one_word)
{
    Embedding e = {.table = lab_random(VOCAB * C, 1), .dy = lab_random(n * C, 2), .n = n, .C = C};
    for (size_t i = 0; i < n; i++) {
        e.ids[i] = one_word ? 7 : (int32_t)(i * i % VOCAB);
    }
    float *was = lab_random((n + VOCAB + n + n + n) * C, 3);
    LabTrial t = {.run = run_embed, .in = &e, .initial = was};
    lab_out(&t, n, C, 2), lab_out(&t, VOCAB, C, 0), lab_out(&t, n, C, 5), lab_out(&t, n, C, 1), lab_out(&t, n, C, 3);
    float *out = lab_run(&t), *dtable = malloc(VOCAB * C * sizeof(float));
    memcpy(dtable, was + n * C, VOCAB * C * sizeof(float));
    for (size_t i = 0; i < n; i++) {
        assert_memory_equal(mat_row(lab_mat(&t, out, 0), i), e.table + (size_t)e.ids[i] * C, C * sizeof(float));
        assert_memory_equal(mat_row(lab_mat(&t, out, 3), i), e.dy + i * C, C * sizeof(float));
        for (size_t j = 0; j < C; j++) {
            dtable[(size_t)e.ids[i] * C + j] += e.dy[i * C + j];
            assert_true(mat_row(lab_mat(&t, out, 2), i)[j] == was[(n + VOCAB + i) * C + j] + e.dy[i * C + j]);
            assert_true(mat_row(lab_mat(&t, out, 4), i)[j] == was[(n + VOCAB + n + n + i) * C + j] * SCALE);
        }
    }
    assert_memory_equal(dtable, lab_at(&t, out, 1), VOCAB * C * sizeof(float));
    free(out), free(dtable), free(was), free(e.table), free(e.dy);
}

static void embedding(void **state)
{
    (void)state;
    check_embedding(1, 1, false);
    check_embedding(EMBED_ROWS, 37, false);
    check_embedding(EMBED_ROWS, 130, true);
}

/* n rows of `heads` heads of D values; one head for rmsnorm. */
typedef struct Norm {
    size_t n, heads, D;
    bool add, as_heads;
    float *x, *w, *dy, *rstd;
    double *dx_, *dw_, *ddy; /* x, w, dy in double */
} Norm;

static const float EPS = 1e-3f;

static double norm_reference(const double *x, const double *w, size_t D, double *y)
{
    double s = 0.0;
    for (size_t j = 0; j < D; j++) {
        s += x[j] * x[j];
    }
    double rstd = 1.0 / sqrt(s / (double)D + (double)EPS);
    for (size_t j = 0; j < D; j++) {
        y[j] = w[j] * x[j] * rstd;
    }
    return rstd;
}

static double norm_loss(const void *context)
{
    const Norm *m = context;
    double sum = 0.0, *y = malloc(m->D * sizeof(double));
    for (size_t i = 0; i < m->n * m->heads; i++) {
        norm_reference(m->dx_ + i * m->D, m->dw_, m->D, y);
        for (size_t j = 0; j < m->D; j++) {
            sum += y[j] * m->ddy[i * m->D + j];
        }
    }
    free(y);
    return sum;
}

static HeadView heads_of(float *p, const Norm *m, size_t gap)
{
    return heads_f32(p, m->heads * m->D + gap, m->D);
}

static void run_norm_fwd(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Norm *m = t->in;
    if (m->as_heads) {
        ops->headnorm_fwd(b, heads_of(lab_at(t, out, 0), m, 3), lab_at(t, out, 1), heads_of(m->x, m, 0),
                          (HeadNorm){m->w, (int)m->n, (int)m->heads, (int)m->D}, EPS);
    } else {
        ops->rmsnorm_fwd(b, lab_mat(t, out, 0), lab_at(t, out, 1), mat_f32(m->x, m->n, m->D), m->w, EPS);
    }
}

static void run_norm_bwd(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Norm *m = t->in;
    if (m->as_heads) {
        ops->headnorm_bwd(b, heads_of(lab_at(t, out, 0), m, 1), lab_at(t, out, 1), heads_of(m->dy, m, 0),
                          heads_of(m->x, m, 0), (HeadNorm){m->w, (int)m->n, (int)m->heads, (int)m->D}, m->rstd);
    } else {
        ops->rmsnorm_bwd(b, lab_mat(t, out, 0), lab_at(t, out, 1), mat_f32(m->dy, m->n, m->D),
                         mat_f32(m->x, m->n, m->D), m->w, m->rstd, m->add);
    }
}

static void add_floats(double *want, const float *was, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        want[i] += (double)was[i];
    }
}

static void check_norm_fwd(Norm *m)
{
    size_t rows = m->n * m->heads, width = m->heads * m->D;
    double *want = malloc(rows * m->D * sizeof(double)), *rstd = malloc(rows * sizeof(double));
    for (size_t i = 0; i < rows; i++) {
        rstd[i] = norm_reference(m->dx_ + i * m->D, m->dw_, m->D, want + i * m->D);
    }
    LabTrial t = {.run = run_norm_fwd, .in = m};
    lab_out(&t, m->n, width, 3), lab_out(&t, 1, rows, 0);
    float *out = lab_run(&t);
    lab_near("norm", lab_mat(&t, out, 0), want, TOL_ELEMENT);
    lab_near("rstd", lab_mat(&t, out, 1), rstd, TOL_ELEMENT);
    memcpy(m->rstd, lab_at(&t, out, 1), rows * sizeof(float));
    free(out), free(want), free(rstd);
}

static void check_norm_bwd(Norm *m)
{
    size_t width = m->heads * m->D, values = m->n * width;
    double *dx = malloc(values * sizeof(double)), *dw = malloc(m->D * sizeof(double));
    float *was = lab_random(values + m->D, 9);
    lab_differences(norm_loss, m, m->dx_, values, dx);
    lab_differences(norm_loss, m, m->dw_, m->D, dw);
    if (m->add) {
        add_floats(dx, was, values);
    }
    add_floats(dw, was + values, m->D);
    LabTrial t = {.run = run_norm_bwd, .in = m, .initial = was};
    lab_out(&t, m->n, width, 1), lab_out(&t, 1, m->D, 0);
    float *out = lab_run(&t);
    lab_near("dx", lab_mat(&t, out, 0), dx, TOL_GRADIENT);
    lab_near("dw", lab_mat(&t, out, 1), dw, TOL_GRADIENT);
    free(out), free(was), free(dx), free(dw);
}

static void check_norm(size_t n, size_t heads, size_t D, bool as_heads, bool add)
{
    size_t values = n * heads * D;
    Norm m = {.n = n,
              .heads = heads,
              .D = D,
              .as_heads = as_heads,
              .add = add,
              .x = lab_random(values, 1),
              .w = lab_random(D, 2),
              .dy = lab_random(values, 3),
              .rstd = malloc(n * heads * sizeof(float))};
    m.dx_ = lab_doubles(m.x, values), m.dw_ = lab_doubles(m.w, D), m.ddy = lab_doubles(m.dy, values);
    check_norm_fwd(&m);
    check_norm_bwd(&m);
    free(m.x), free(m.w), free(m.dy), free(m.rstd), free(m.dx_), free(m.dw_), free(m.ddy);
}

static void norms(void **state)
{
    (void)state;
    check_norm(1, 1, 1, false, false);
    check_norm(3, 1, 67, false, false);
    check_norm(5, 1, 16, false, true);
    check_norm(2, 1, 131, false, true);
    check_norm(1, 1, 64, true, false);
    check_norm(3, 3, 20, true, false);
}

/* The gain's gradient over many tokens, blocks of TOKEN_BLOCK: exactly its rule. */
static void norm_blocks(void **state)
{
    (void)state;
    static const size_t counts[] = {1, 1023, 1024, 1025, 3000};
    enum { D = 18 };
    for (size_t c = 0; c < 5; c++) {
        size_t n = counts[c];
        Norm m = {.n = n,
                  .heads = 1,
                  .D = D,
                  .x = lab_random(n * D, 1),
                  .w = lab_random(D, 2),
                  .dy = lab_random(n * D, 3),
                  .rstd = lab_random(n, 4)};
        float *was = lab_random(n * D + D, 5);
        LabTrial t = {.run = run_norm_bwd, .in = &m, .initial = was};
        lab_out(&t, n, D, 0), lab_out(&t, 1, D, 0);
        float *out = lab_run(&t);
        for (size_t j = 0; j < D; j++) {
            float want = was[n * D + j];
            for (size_t from = 0; from < n; from += TOKEN_BLOCK) {
                float sum = 0.0f;
                for (size_t i = from; i < n && i < from + TOKEN_BLOCK; i++) {
                    sum = fmaf(m.dy[i * D + j], m.x[i * D + j] * m.rstd[i], sum);
                }
                want += sum;
            }
            assert_memory_equal(&want, lab_at(&t, out, 1) + j, sizeof want);
        }
        free(out), free(was), free(m.x), free(m.w), free(m.dy), free(m.rstd);
    }
}

typedef struct Rope {
    int n, heads, Dr;
    bool interleaved;
    int32_t pos[8];
    float *cos, *sin;
    bool inverse, back; /* back: rotate, then by the inverse */
} Rope;

static void run_rope(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Rope *r = t->in;
    HeadView x = heads_f32(lab_at(t, out, 0), t->outs[0].stride, (size_t)r->Dr);
    RopeArgs args = {r->cos, r->sin, r->Dr, r->interleaved, r->inverse};
    ops->rope(b, x, r->pos, args, r->n, r->heads);
    args.inverse = !r->inverse;
    if (r->back) ops->rope(b, x, r->pos, args, r->n, r->heads);
}

static void check_rope(int heads, int Dr, bool interleaved)
{
    enum { POSITIONS = 50, ROWS = 8 };
    int pairs = Dr / 2, width = heads * Dr;
    Rope r = {ROWS,
              heads,
              Dr,
              interleaved,
              {0, 1, 2, 49, 7, 7, 3, 20},
              malloc(POSITIONS * pairs * sizeof(float)),
              malloc(POSITIONS * pairs * sizeof(float)),
              false,
              false};
    for (int i = 0; i < POSITIONS * pairs; i++) {
        double angle = (i / pairs) * pow(100.0, -(double)(i % pairs) / pairs);
        r.cos[i] = (float)cos(angle), r.sin[i] = (float)sin(angle);
    }
    float *x = lab_random((size_t)(ROWS * width), 1);
    double *want = malloc((size_t)(ROWS * width) * sizeof(double)), *same = lab_doubles(x, (size_t)(ROWS * width));
    for (int i = 0; i < ROWS * heads * pairs; i++) {
        int row = i / (heads * pairs), head = i / pairs % heads, p = i % pairs;
        int a = row * width + head * Dr + (interleaved ? 2 * p : p), c = a + (interleaved ? 1 : pairs);
        double cs = (double)r.cos[r.pos[row] * pairs + p], sn = (double)r.sin[r.pos[row] * pairs + p];
        want[a] = same[a] * cs - same[c] * sn;
        want[c] = same[a] * sn + same[c] * cs;
    }
    LabTrial t = {.run = run_rope, .in = &r, .initial = x};
    lab_out(&t, ROWS, (size_t)width, 5);
    float *out = lab_run(&t);
    lab_near("rope", lab_mat(&t, out, 0), want, TOL_ELEMENT);
    free(out);
    r.back = true;
    out = lab_run(&t);
    lab_near("rope and back", lab_mat(&t, out, 0), same, TOL_ELEMENT);
    free(out), free(x), free(want), free(same), free(r.cos), free(r.sin);
}

static void rope(void **state)
{
    (void)state;
    check_rope(1, 2, true);
    check_rope(1, 2, false);
    check_rope(3, 22, true);
    check_rope(3, 22, false);
    check_rope(2, 64, true);
    check_rope(2, 64, false);
}

typedef struct Swiglu {
    size_t n, F;
    float *gu, *dh;
    double *gu_d, *dh_d;
} Swiglu;

static double silu(double g)
{
    return g / (1.0 + exp(-g));
}

static double swiglu_loss(const void *context)
{
    const Swiglu *s = context;
    double sum = 0.0;
    for (size_t i = 0; i < s->n * s->F; i++) {
        const double *row = s->gu_d + i / s->F * 2 * s->F;
        sum += silu(row[i % s->F]) * row[s->F + i % s->F] * s->dh_d[i];
    }
    return sum;
}

static void run_swiglu(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const Swiglu *s = t->in;
    ops->swiglu_fwd(b, lab_mat(t, out, 0), mat_f32(s->gu, s->n, 2 * s->F));
    ops->swiglu_bwd(b, lab_mat(t, out, 1), mat_f32(s->dh, s->n, s->F), mat_f32(s->gu, s->n, 2 * s->F));
}

static void check_swiglu(size_t n, size_t F, float size)
{
    Swiglu s = {n, F, lab_random(2 * n * F, 1), lab_random(n * F, 2), NULL, NULL};
    for (size_t i = 0; i < 2 * n * F; i++) {
        s.gu[i] *= size;
    }
    s.gu_d = lab_doubles(s.gu, 2 * n * F), s.dh_d = lab_doubles(s.dh, n * F);
    double *h = malloc(n * F * sizeof(double)), *dgu = malloc(2 * n * F * sizeof(double));
    for (size_t i = 0; i < n * F; i++) {
        const double *row = s.gu_d + i / F * 2 * F;
        h[i] = silu(row[i % F]) * row[F + i % F];
    }
    lab_differences(swiglu_loss, &s, s.gu_d, 2 * n * F, dgu);
    LabTrial t = {.run = run_swiglu, .in = &s};
    lab_out(&t, n, F, 1), lab_out(&t, n, 2 * F, 3);
    float *out = lab_run(&t);
    lab_near("h", lab_mat(&t, out, 0), h, TOL_ELEMENT);
    lab_near("dgu", lab_mat(&t, out, 1), dgu, TOL_GRADIENT);
    free(out), free(h), free(dgu), free(s.gu), free(s.dh), free(s.gu_d), free(s.dh_d);
}

static void swiglu(void **state)
{
    (void)state;
    check_swiglu(1, 1, 1.0f);
    check_swiglu(7, 45, 3.0f);
    check_swiglu(3, 32, 60.0f);
}

/* A row alone has the bits it has among others. */
static void row_alone(void **state)
{
    (void)state;
    enum { N = 9, C = 70 };
    const Ops *ops = lab_ops();
    Backend *b = lab_backend();
    float *x = lab_random(N * C, 1), *w = lab_random(C, 2), all[N * C], rstd[N], one[C], one_rstd;
    float h[N * C / 2], one_h[C / 2];
    ops->rmsnorm_fwd(b, mat_f32(all, N, C), rstd, mat_f32(x, N, C), w, EPS);
    ops->swiglu_fwd(b, mat_f32(h, N, C / 2), mat_f32(x, N, C));
    for (size_t i = 0; i < N; i++) {
        ops->rmsnorm_fwd(b, mat_f32(one, 1, C), &one_rstd, mat_f32(x + i * C, 1, C), w, EPS);
        ops->swiglu_fwd(b, mat_f32(one_h, 1, C / 2), mat_f32(x + i * C, 1, C));
        assert_memory_equal(one, all + i * C, sizeof one);
        assert_memory_equal(&one_rstd, rstd + i, sizeof one_rstd);
        assert_memory_equal(one_h, h + i * C / 2, sizeof one_h);
    }
    free(x), free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(embedding), cmocka_unit_test(norms),  cmocka_unit_test(norm_blocks),
        cmocka_unit_test(rope),      cmocka_unit_test(swiglu), cmocka_unit_test(row_alone),
    };
    return cmocka_run_group_tests(tests, lab_open, lab_close);
}
