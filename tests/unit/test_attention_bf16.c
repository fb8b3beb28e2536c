/* Attention on bf16 rows is attention on their values as f32, outputs rounded once, to the bit: forward, backward, exact and
 * latent cache, on every instruction set. And in bf16 too the cache gives what training gives. */
#include "tests/unit/ops_lab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/attention_case.h"

enum { MOST_ROWS = 300, BACKENDS = 5 };

static const struct {
    AttentionShape s;
    bool rope_shared;
} SHAPES[] = {
    {{2, 2, 12, 8, 12, 0.22f}, true},    /* MLA of the golden fixtures */
    {{4, 4, 32, 16, 32, 0.14f}, true},   /* MLA of the tiny recipes */
    {{6, 2, 0, 24, 24, 0.2f}, false},    /* GQA */
    {{3, 3, 11, 6, 71, 0.25f}, false},   /* odd widths, a rope key per head */
    {{1, 1, 128, 64, 128, 0.07f}, true}, /* one head of V2-Lite */
    {{7, 1, 0, 64, 64, 0.125f}, false},  /* GQA, an odd group */
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES, WIDENED = 4 }; /* the last ones are for tensor cores */
static const int LENGTHS[] = {1, 63, 64, 0, 65, 130, 7, -1};
static const char *const ISAS[BACKENDS] = {NULL, "avx512", "avx2", "plain", "emulated"};

/* A case whose inputs are bf16 values, as f32 (c.in) and as bf16 at the same places. */
typedef struct HalfCase {
    AttentionCase c;
    uint16_t *q, *kv, *rope;
    AttentionInputs view;
} HalfCase;

static HeadView half_view(HeadView v, const float *base, uint16_t *half)
{
    return (HeadView){half + ((float *)v.p - base), v.row, v.head, DTYPE_BF16};
}

static HalfCase half_case(int shape, const int *lengths, uint32_t seed)
{
    HalfCase h = {.c = case_make(SHAPES[shape].s, SHAPES[shape].rope_shared, lengths, seed)};
    CaseInputs *in = &h.c.in;
    h.q = lab_rounded(in->q, in->q_floats);
    h.kv = lab_rounded(in->kv, in->kv_floats);
    h.rope = lab_rounded(in->rope, in->rope_floats);
    h.view = (AttentionInputs){half_view(in->view.q, in->q, h.q), half_view(in->view.k, in->kv, h.kv),
                               half_view(in->view.k_rope, in->rope, h.rope), half_view(in->view.v, in->kv, h.kv)};
    return h;
}

static void half_case_free(HalfCase *h)
{
    free(h->q), free(h->kv), free(h->rope);
    case_free(&h->c);
}

static size_t output_row(const AttentionCase *c)
{
    return (size_t)(c->s.H * c->s.Dv);
}

/* Rows of outputs have one value more, which stays. */
static HeadView half_output(const AttentionCase *c, uint16_t *o)
{
    return (HeadView){o, output_row(c) + 1, (size_t)c->s.Dv, DTYPE_BF16};
}

static uint16_t *half_outputs(const AttentionCase *c)
{
    size_t n = (size_t)c->N * (output_row(c) + 1);
    uint16_t *o = malloc((n + 1) * sizeof *o);
    for (size_t i = 0; i < n; i++) o[i] = 0xabcd;
    return o;
}

static void expect_output(const AttentionCase *c, const uint16_t *o, const float *want)
{
    Mat m = {(void *)o, DTYPE_BF16, (size_t)c->N, output_row(c), output_row(c) + 1, false};
    lab_is_rounded("o", m, want);
    for (size_t n = 0; n < m.rows; n++) assert_int_equal(o[n * m.stride + m.cols], 0xabcd);
}

/* o as f32 values of what the bf16 forward wrote. */
static float *widened(const AttentionCase *c, const uint16_t *o)
{
    size_t row = output_row(c);
    float *wide = malloc(((size_t)c->N * row + 1) * sizeof *wide);
    for (size_t i = 0; i < (size_t)c->N * row; i++) wide[i] = lab_widen(o[i / row * (row + 1) + i % row]);
    return wide;
}

static void check_backward(Backend *b, const Ops *ops, const HalfCase *h, const uint16_t *o, const float *lse)
{
    const AttentionCase *c = &h->c;
    CaseInputs want = case_inputs(c, 7.0f), got = case_inputs(c, 9.0f);
    float *wide = widened(c, o);
    HeadView dout = case_output(c, c->dout);
    ops->attention_bwd(b, c->s, want.view, dout, case_output(c, wide), lse, c->in.view, case_sequences(c));
    ops->attention_bwd(b, c->s, got.view, dout, half_output(c, (uint16_t *)o), lse, h->view, case_sequences(c));
    assert_memory_equal(got.q, want.q, got.q_floats * sizeof(float));
    assert_memory_equal(got.kv, want.kv, got.kv_floats * sizeof(float));
    assert_memory_equal(got.rope, want.rope, got.rope_floats * sizeof(float));
    assert_true(case_guards_whole(c, &got));
    double size = 0;
    for (int i = 0; i < c->s.Dn + c->s.Dr; i++) size += fabs((double)*case_at(got.view.q, c->N - 1, 0, i));
    assert_true(size > 0);
    case_inputs_free(&want), case_inputs_free(&got);
    free(wide);
}

static void equals_f32(void **state)
{
    (void)state;
    const Ops *ops;
    for (int k = 0; k < WIDENED; k++) {
        HalfCase h = half_case(k, LENGTHS, 1u + (uint32_t)k);
        const AttentionCase *c = &h.c;
        size_t row = output_row(c), lses = (size_t)(c->N * c->s.H);
        for (int i = 0; i < BACKENDS; i++) {
            Backend *b = case_backend(ISAS[i], 1 + i % 2, &ops);
            if (!b) continue;
            float *want = malloc((size_t)c->N * row * sizeof *want), *lse = malloc(2 * lses * sizeof *lse);
            uint16_t *o = half_outputs(c);
            ops->attention_fwd(b, c->s, case_output(c, want), lse, c->in.view, case_sequences(c));
            ops->attention_fwd(b, c->s, half_output(c, o), lse + lses, h.view, case_sequences(c));
            expect_output(c, o, want);
            assert_memory_equal(lse, lse + lses, lses * sizeof *lse);
            check_backward(b, ops, &h, o, lse);
            free(want), free(lse), free(o);
            ops->close(b);
        }
        half_case_free(&h);
    }
}

static HeadView from_row(HeadView v, size_t n)
{
    return heads_from(v, n * v.row);
}

typedef void Feed(Backend *b, const Ops *ops, const HalfCase *h, Pages *p, const CacheRow *rows, size_t at, int n,
                  void *ctx);

/* Every sequence by itself, `chunk` positions a call. */
static void feed_in_chunks(Backend *b, const Ops *ops, const HalfCase *h, Pages *p, int chunk, Feed *feed, void *ctx)
{
    const AttentionCase *c = &h->c;
    for (int s = 0; s < c->nseq; s++)
        for (int32_t at = c->offsets[s]; at < c->offsets[s + 1]; at += chunk) {
            CacheRow rows[MOST_ROWS];
            int n = c->offsets[s + 1] - at < chunk ? c->offsets[s + 1] - at : chunk;
            for (int r = 0; r < n; r++) rows[r] = (CacheRow){pages_at(s), at - c->offsets[s] + r};
            feed(b, ops, h, p, rows, (size_t)at, n, ctx);
        }
}

static void feed_exact(Backend *b, const Ops *ops, const HalfCase *h, Pages *p, const CacheRow *rows, size_t at, int n,
                       void *ctx)
{
    AttentionInputs in = {from_row(h->view.q, at), from_row(h->view.k, at), from_row(h->view.k_rope, at),
                          from_row(h->view.v, at)};
    ops->cache_write(b, h->c.s, p->layer, rows, n, in);
    ops->attention_cached(b, h->c.s, from_row(half_output(&h->c, ctx), at), in.q, p->layer, rows, n);
}

static void cache_equals_training(void **state)
{
    (void)state;
    const Ops *ops;
    const int lengths[] = {130, 1, 64, 77, -1}, chunks[BACKENDS] = {1, 5, 64, 300, 33};
    for (int k = 0; k < WIDENED; k++) {
        HalfCase h = half_case(k, lengths, 50u + (uint32_t)k);
        const AttentionCase *c = &h.c;
        size_t halves = (size_t)c->N * (output_row(c) + 1);
        uint16_t *want = half_outputs(c);
        float *lse = malloc((size_t)(c->N * c->s.H) * sizeof *lse);
        Backend *b = case_backend(NULL, 2, &ops);
        ops->attention_fwd(b, c->s, half_output(c, want), lse, h.view, case_sequences(c));
        ops->close(b);
        for (int i = 0; i < 2 * BACKENDS; i++) {
            if (!(b = case_backend(ISAS[i / 2], 1 + i / 2 % 2, &ops))) continue;
            Pages p = exact_pages(c, i % 2 ? DTYPE_BF16 : DTYPE_F32);
            uint16_t *o = half_outputs(c);
            feed_in_chunks(b, ops, &h, &p, chunks[i / 2], feed_exact, o);
            assert_memory_equal(o, want, halves * sizeof *o);
            free(o), free(p.layer.base);
            ops->close(b);
        }
        free(want), free(lse);
        half_case_free(&h);
    }
}

/* Latents [N][R], and queries in their space [N][H][R]; u as f32 and as bf16. */
typedef struct Latent {
    int R;
    float *z, *qz, *u;
    uint16_t *z_half, *u_half;
    bool half;
} Latent;

static void feed_latent(Backend *b, const Ops *ops, const HalfCase *h, Pages *p, const CacheRow *rows, size_t at, int n,
                        void *ctx)
{
    const Latent *l = ctx;
    AttentionShape s = h->c.s;
    size_t R = (size_t)l->R, row = (size_t)s.H * R;
    Mat z = mat_of(l->half ? (void *)(l->z_half + at * R) : (void *)(l->z + at * R), l->half ? DTYPE_BF16 : DTYPE_F32,
                   (size_t)n, R);
    AttentionInputs in = l->half ? h->view : h->c.in.view;
    HeadView u = l->half ? (HeadView){l->u_half + at * row, row, R, DTYPE_BF16} : heads_f32(l->u + at * row, row, R);
    ops->latent_write(b, p->layer, rows, n, z, from_row(in.k_rope, at), s.Dr);
    ops->attention_latent(b, s, l->R, u, heads_f32(l->qz + at * row, row, R),
                          from_row(heads_from(in.q, (size_t)s.Dn), at), p->layer, rows, n);
}

/* The same values, or nothing was written. */
static void expect_pages(const Pages *half, const Pages *wide)
{
    size_t written = 0;
    size_t stride = wide->layer.page_stride; /* of bf16 pages it is one more */
    for (size_t i = 0; i < wide->count; i++) {
        float value = lab_widen(((uint16_t *)half->layer.base)[i + i / stride]), want = ((float *)wide->layer.base)[i];
        if (isnan(want) ? !isnan(value) : value != want)
            fail_msg("value %zu: %g, not %g", i, (double)value, (double)want);
        written += !isnan(want);
    }
    assert_true(written > 0);
}

static void latent_equals_f32(void **state)
{
    (void)state;
    const Ops *ops;
    const int lengths[] = {130, 1, 64, 20, -1}, chunks[BACKENDS] = {1, 7, 64, 200, 33};
    for (int k = 0; k < 2; k++) {
        HalfCase h = half_case(k, lengths, 70u + (uint32_t)k);
        const AttentionCase *c = &h.c;
        Latent l = {.R = k ? 48 : 21};
        size_t N = (size_t)c->N, us = N * (size_t)(c->s.H * l.R);
        l.z = lab_random(N * (size_t)l.R, 1), l.qz = lab_random(us, 2);
        l.z_half = lab_rounded(l.z, N * (size_t)l.R);
        l.u = malloc(us * sizeof *l.u), l.u_half = malloc(us * sizeof *l.u_half);
        for (int i = 0; i < BACKENDS; i++) {
            Backend *b = case_backend(ISAS[i], 1 + i % 2, &ops);
            if (!b) continue;
            size_t page = (size_t)(KEY_TILE * (l.R + c->s.Dr));
            Pages wide = pages_make(page, DTYPE_F32), half = pages_make(page, DTYPE_BF16);
            l.half = false;
            feed_in_chunks(b, ops, &h, &wide, chunks[i], feed_latent, &l);
            l.half = true;
            feed_in_chunks(b, ops, &h, &half, chunks[i], feed_latent, &l);
            expect_pages(&half, &wide);
            lab_is_rounded("u", mat_of(l.u_half, DTYPE_BF16, N, us / N), l.u);
            free(wide.layer.base), free(half.layer.base);
            ops->close(b);
        }
        free(l.z), free(l.qz), free(l.z_half), free(l.u), free(l.u_half);
        half_case_free(&h);
    }
}

/* |got - want| / |want| over what is no guard. */
static void expect_near(const char *what, const float *got, const double *want, size_t n, double tolerance)
{
    double off = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        if (got[i] == CASE_GUARD) continue;
        off += (got[i] - want[i]) * (got[i] - want[i]), size += want[i] * want[i];
    }
    assert_true(size > 0);
    if (!(sqrt(off / size) <= tolerance)) fail_msg("%s: off by %.4g, allowed %.4g", what, sqrt(off / size), tolerance);
}

static uint16_t *dense_rows(HeadView v, int N, size_t width)
{
    uint16_t *rows = malloc(((size_t)N * width + 1) * sizeof *rows);
    for (int n = 0; n < N; n++) memcpy(rows + (size_t)n * width, (uint16_t *)v.p + (size_t)n * v.row, width * 2);
    return rows;
}

/* The case's inputs without gaps: rows of even widths then lie at multiples of 16 bytes and are copied to shared memory
 * by those. */
static AttentionInputs dense_view(const HalfCase *h, uint16_t *rows[3])
{
    AttentionShape s = h->c.s;
    size_t widths[3] = {(size_t)(s.H * (s.Dn + s.Dr)), (size_t)(s.Hkv * (s.Dn + s.Dv)),
                        (size_t)((h->c.rope_shared ? 1 : s.Hkv) * s.Dr)};
    AttentionInputs in = h->view;
    rows[0] = dense_rows(in.q, h->c.N, widths[0]), rows[1] = dense_rows(in.k, h->c.N, widths[1]);
    rows[2] = dense_rows(in.k_rope, h->c.N, widths[2]);
    in.q.p = rows[0], in.k.p = rows[1], in.v.p = rows[1] + s.Dn, in.k_rope.p = rows[2];
    in.q.row = widths[0], in.k.row = in.v.row = widths[1], in.k_rope.row = widths[2];
    return in;
}

/* Where rows lie changes no bit. */
static void check_dense(Backend *b, const Ops *ops, const HalfCase *h, AttentionInputs in, const uint16_t *o)
{
    const AttentionCase *c = &h->c;
    uint16_t *dense = half_outputs(c);
    float *lse = malloc((size_t)(c->N * c->s.H) * sizeof *lse);
    CaseInputs a = case_inputs(c, 9.0f), d = case_inputs(c, 9.0f);
    ops->attention_fwd(b, c->s, half_output(c, dense), lse, in, case_sequences(c));
    assert_memory_equal(dense, o, (size_t)c->N * (output_row(c) + 1) * sizeof *dense);
    HeadView dout = case_output(c, c->dout), out = half_output(c, dense);
    ops->attention_bwd(b, c->s, a.view, dout, out, lse, in, case_sequences(c));
    ops->attention_bwd(b, c->s, d.view, dout, out, lse, h->view, case_sequences(c));
    assert_memory_equal(a.q, d.q, a.q_floats * sizeof(float));
    assert_memory_equal(a.kv, d.kv, a.kv_floats * sizeof(float));
    assert_memory_equal(a.rope, d.rope, a.rope_floats * sizeof(float));
    case_inputs_free(&a), case_inputs_free(&d);
    free(dense), free(lse);
}

/* Probabilities, ds, o and do are rounded to 8 bits before they are multiplied. */
static void check_tensor_cores(Backend *b, const Ops *ops, const HalfCase *h, uint16_t *o)
{
    const AttentionCase *c = &h->c;
    size_t outputs = (size_t)c->N * output_row(c), lses = (size_t)(c->N * c->s.H);
    float *lse = malloc(lses * sizeof *lse);
    double *want_o = malloc(outputs * sizeof *want_o), *want_lse = malloc(lses * sizeof *want_lse);
    CaseInputs din = case_inputs(c, 9.0f);
    case_forward(c, want_o, want_lse);
    CaseGradients want = case_backward(c);
    ops->attention_fwd(b, c->s, half_output(c, o), lse, h->view, case_sequences(c));
    ops->attention_bwd(b, c->s, din.view, case_output(c, c->dout), half_output(c, o), lse, h->view, case_sequences(c));
    float *wide = widened(c, o);
    expect_near("o", wide, want_o, outputs, 0.004);
    expect_near("lse", lse, want_lse, lses, 1e-5);
    expect_near("dq", din.q, want.q, din.q_floats, 0.01);
    expect_near("dk, dv", din.kv, want.kv, din.kv_floats, 0.01);
    if (c->s.Dr) expect_near("dk_rope", din.rope, want.rope, din.rope_floats, 0.01);
    assert_true(case_guards_whole(c, &din));
    case_gradients_free(&want), case_inputs_free(&din);
    free(lse), free(want_o), free(want_lse), free(wide);
}

/* The latent cache on tensor cores, against the CPU. Widths that fill a tile and others; more than one page. */
static void latent_tensor_cores(void **state)
{
    (void)state;
    const Ops *ops[2];
    const int lengths[] = {70, 1, -1}, widths[] = {21, 64, 512};
    Backend *b[2] = {case_backend("plain", 1, &ops[0]), case_backend("emulated mma", 1, &ops[1])};
    if (!b[1]) skip();
    for (int k = 0; k < 3; k++) {
        HalfCase h = half_case(k % 2, lengths, 110u + (uint32_t)k);
        size_t R = (size_t)widths[k], N = (size_t)h.c.N, us = N * (size_t)h.c.s.H * R;
        Latent l = {.R = widths[k], .half = true, .z = lab_random(N * R, 1), .qz = lab_random(us, 2)};
        l.z_half = lab_rounded(l.z, N * R);
        free(lab_rounded(l.qz, us));
        uint16_t *u[2] = {malloc(us * sizeof **u), malloc(us * sizeof **u)};
        double *want = malloc(us * sizeof *want);
        float *got = malloc(us * sizeof *got);
        for (int i = 0; i < 2; i++) {
            Pages p = pages_make((size_t)KEY_TILE * (R + (size_t)h.c.s.Dr), DTYPE_BF16);
            l.u_half = u[i];
            feed_in_chunks(b[i], ops[i], &h, &p, 35, feed_latent, &l);
            free(p.layer.base);
        }
        for (size_t i = 0; i < us; i++) want[i] = (double)lab_widen(u[0][i]), got[i] = lab_widen(u[1][i]);
        expect_near("u", got, want, us, 0.004);
        free(l.z), free(l.qz), free(l.z_half), free(u[0]), free(u[1]), free(want), free(got);
        half_case_free(&h);
    }
    ops[0]->close(b[0]), ops[1]->close(b[1]);
}

/* On tensor cores: near the definition, and rows through the cache, in chunks of any size and from pages of either type, have the
 * bits of whole sequences. */
static void tensor_cores(void **state)
{
    (void)state;
    const Ops *ops;
    const int lengths[] = {130, 1, 20, -1}, chunks[] = {1, 33};
    Backend *b = case_backend("emulated mma", 1, &ops);
    if (!b) skip();
    for (int k = 0; k < SHAPE_COUNT; k++) {
        HalfCase h = half_case(k, lengths, 90u + (uint32_t)k);
        const AttentionCase *c = &h.c;
        size_t halves = (size_t)c->N * (output_row(c) + 1);
        uint16_t *want = half_outputs(c);
        check_tensor_cores(b, ops, &h, want);
        uint16_t *rows[3];
        AttentionInputs dense = dense_view(&h, rows);
        check_dense(b, ops, &h, dense, want);
        for (int i = 0; i < 2; i++) {
            Pages p = exact_pages(c, i ? DTYPE_BF16 : DTYPE_F32);
            if (i) h.view = dense;
            uint16_t *o = half_outputs(c);
            feed_in_chunks(b, ops, &h, &p, chunks[i], feed_exact, o);
            assert_memory_equal(o, want, halves * sizeof *o);
            free(o), free(p.layer.base);
        }
        free(want), free(rows[0]), free(rows[1]), free(rows[2]);
        half_case_free(&h);
    }
    ops->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_f32), cmocka_unit_test(cache_equals_training),
                                       cmocka_unit_test(latent_equals_f32), cmocka_unit_test(tensor_cores),
                                       cmocka_unit_test(latent_tensor_cores)};
    if (getenv("R1_LAB_ONLY")) cmocka_set_test_filter(getenv("R1_LAB_ONLY")); /* on the checked emulator */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
