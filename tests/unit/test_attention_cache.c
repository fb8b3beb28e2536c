/* Attention over cache pages: the exact cache equals training to the bit, the latent cache equals the definition. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/attention_case.h"

enum { MOST_ROWS = 512 };

static HeadView from_row(HeadView v, size_t n)
{
    return heads_from(v, n * v.row);
}

/* Rows [first, first + n) of the case through the exact cache in one call. */
static void cached_call(Backend *b, const Ops *ops, const AttentionCase *c, Pages *p, const CacheRow *rows,
                        size_t first, int n, float *o)
{
    AttentionInputs in = {from_row(c->in.view.q, first), from_row(c->in.view.k, first),
                          from_row(c->in.view.k_rope, first), from_row(c->in.view.v, first)};
    ops->cache_write(b, c->s, p->layer, rows, n, in);
    ops->attention_cached(b, c->s, from_row(case_output(c, o), first), in.q, p->layer, rows, n);
}

/* Every sequence by itself, `chunk` positions a call. */
static void feed_in_chunks(Backend *b, const Ops *ops, const AttentionCase *c, int chunk, float *o)
{
    Pages p = exact_pages(c, DTYPE_F32);
    for (int s = 0; s < c->nseq; s++)
        for (int32_t at = c->offsets[s]; at < c->offsets[s + 1]; at += chunk) {
            CacheRow rows[MOST_ROWS];
            int n = c->offsets[s + 1] - at < chunk ? c->offsets[s + 1] - at : chunk;
            for (int r = 0; r < n; r++) rows[r] = (CacheRow){pages_at(s), at - c->offsets[s] + r};
            cached_call(b, ops, c, &p, rows, (size_t)at, n, o);
        }
    free(p.layer.base);
}

static const AttentionShape MLA = {4, 4, 32, 16, 32, 0.14f}, TINY = {2, 2, 12, 8, 12, 0.22f},
                            GQA = {6, 2, 0, 24, 24, 0.2f}, GROUP = {7, 1, 10, 6, 70, 0.25f},
                            HEADS = {50, 50, 4, 6, 22, 0.3f}; /* more than the rows of a panel */

static void exact_cache_equals_training(void **state)
{
    (void)state;
    const Ops *ops;
    const int lengths[] = {130, 1, 64, 77, -1}, chunks[] = {1, 1, 3, 64, 300, 7};
    const struct {
        AttentionShape s;
        bool shared;
    } cases[] = {{MLA, true}, {TINY, true}, {GQA, false}, {GROUP, false}, {HEADS, false}};
    for (int k = 0; k < 5; k++) {
        AttentionCase c = case_make(cases[k].s, cases[k].shared, lengths, 50u + (uint32_t)k);
        size_t outputs = (size_t)(c.N * c.s.H * c.s.Dv);
        float *want = malloc(outputs * sizeof *want), *lse = malloc((size_t)(c.N * c.s.H) * sizeof *lse);
        Backend *b = case_backend(NULL, 1, &ops);
        ops->attention_fwd(b, c.s, case_output(&c, want), lse, c.in.view, case_sequences(&c));
        ops->close(b);
        const char *isas[] = {"avx512", "avx2", "plain", NULL, NULL, "emulated"};
        for (int i = 0; i < 6; i++) {
            if (!(b = case_backend(isas[i], 1 + i % 2, &ops))) continue;
            float *o = malloc(outputs * sizeof *o);
            feed_in_chunks(b, ops, &c, chunks[i], o);
            assert_memory_equal(o, want, outputs * sizeof *o);
            ops->close(b);
            free(o);
        }
        case_free(&c);
        free(want);
        free(lse);
    }
}

/* One position of every sequence a call, as decoding does; sequences end at different steps. */
static void decoding_together_equals_training(void **state)
{
    (void)state;
    const Ops *ops;
    Backend *b = case_backend(NULL, 2, &ops);
    const int lengths[] = {70, 3, 64, 66, 65, -1};
    AttentionCase c = case_make(MLA, true, lengths, 60);
    AttentionShape s = c.s;
    size_t outputs = (size_t)(c.N * s.H * s.Dv), row = (size_t)(s.H * s.Dv);
    float *want = malloc(outputs * sizeof *want), *lse = malloc((size_t)(c.N * s.H) * sizeof *lse);
    ops->attention_fwd(b, s, case_output(&c, want), lse, c.in.view, case_sequences(&c));
    Pages p = exact_pages(&c, DTYPE_F32);
    AttentionCase step = case_make(s, true, (int[]){CASE_SEQUENCES, -1}, 61); /* the rows of one call */
    float *o = malloc((size_t)step.N * row * sizeof *o);
    for (int t = 0; t < 70; t++) {
        CacheRow rows[CASE_SEQUENCES];
        size_t token[CASE_SEQUENCES];
        int n = 0;
        for (int seq = 0; seq < c.nseq; seq++)
            if (t < lengths[seq]) {
                CaseInputs *to = &step.in, *from = &c.in;
                size_t at = token[n] = (size_t)(c.offsets[seq] + t), q = to->view.q.row, kv = to->view.k.row;
                memcpy(to->q + (size_t)n * q, from->q + at * q, q * sizeof(float));
                memcpy(to->kv + (size_t)n * kv, from->kv + at * kv, kv * sizeof(float));
                memcpy(to->rope + (size_t)n * to->view.k_rope.row, from->rope + at * to->view.k_rope.row,
                       to->view.k_rope.row * sizeof(float));
                rows[n++] = (CacheRow){pages_at(seq), t};
            }
        cached_call(b, ops, &step, &p, rows, 0, n, o);
        for (int r = 0; r < n; r++)
            assert_memory_equal(o + (size_t)r * row, want + token[r] * row, row * sizeof(float));
    }
    ops->close(b);
    case_free(&c);
    case_free(&step);
    free(p.layer.base);
    free(want);
    free(lse);
    free(o);
}

/* MLA's latents and the matrices that expand them: k_nope = Wk z, v = Wv z, per head. */
typedef struct Latents {
    int R;
    float *z, *Wk, *Wv; /* [N][R], [H][Dn][R], [H][Dv][R] */
} Latents;

static float *normals(size_t n, float scale, uint32_t *seed)
{
    float *p = malloc(n * sizeof *p);
    for (size_t i = 0; i < n; i++) p[i] = scale * case_normal(seed);
    return p;
}

static float dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return (float)sum;
}

/* Sets the keys and values of the case to the expanded latents. */
static Latents expand_latents(AttentionCase *c, int R, uint32_t seed)
{
    AttentionShape s = c->s;
    float scale = 1 / sqrtf((float)R);
    Latents l = {R, normals((size_t)(c->N * R), 1, &seed), normals((size_t)(s.H * s.Dn * R), scale, &seed),
                 normals((size_t)(s.H * s.Dv * R), scale, &seed)};
    for (int n = 0; n < c->N; n++)
        for (int h = 0; h < s.H; h++) {
            float *k = case_at(c->in.view.k, n, h, 0);
            for (int i = 0; i < s.Dn; i++) k[i] = dot(l.Wk + (h * s.Dn + i) * R, l.z + n * R, R);
            for (int i = 0; i < s.Dv; i++) k[s.Dn + i] = dot(l.Wv + (h * s.Dv + i) * R, l.z + n * R, R);
        }
    return l;
}

/* qz [N][H][R] = Wk^T q_nope */
static float *absorb_queries(const AttentionCase *c, const Latents *l)
{
    AttentionShape s = c->s;
    float *qz = malloc((size_t)(c->N * s.H * l->R) * sizeof *qz);
    for (int n = 0; n < c->N; n++)
        for (int h = 0; h < s.H; h++)
            for (int r = 0; r < l->R; r++) {
                double sum = 0;
                for (int i = 0; i < s.Dn; i++)
                    sum += (double)l->Wk[(h * s.Dn + i) * l->R + r] *
                           c->in.q[(size_t)n * c->in.view.q.row + (size_t)h * c->in.view.q.head + (size_t)i];
                qz[(n * s.H + h) * l->R + r] = (float)sum;
            }
    return qz;
}

/* u [N][H][R] of every row, `chunk` positions a call. */
static float *latent_outputs(Backend *b, const Ops *ops, const AttentionCase *c, const Latents *l, float *qz, int chunk)
{
    AttentionShape s = c->s;
    Pages p = pages_make((size_t)(KEY_TILE * (l->R + s.Dr)), DTYPE_F32);
    size_t row = (size_t)(s.H * l->R);
    float *u = malloc((size_t)c->N * row * sizeof *u);
    HeadView q_rope = heads_from(c->in.view.q, (size_t)s.Dn);
    for (int seq = 0; seq < c->nseq; seq++)
        for (int32_t at = c->offsets[seq]; at < c->offsets[seq + 1]; at += chunk) {
            CacheRow rows[MOST_ROWS];
            int n = c->offsets[seq + 1] - at < chunk ? c->offsets[seq + 1] - at : chunk;
            for (int r = 0; r < n; r++) rows[r] = (CacheRow){pages_at(seq), at - c->offsets[seq] + r};
            Mat z = mat_f32(l->z + (size_t)at * (size_t)l->R, (size_t)n, (size_t)l->R);
            ops->latent_write(b, p.layer, rows, n, z, from_row(c->in.view.k_rope, (size_t)at), s.Dr);
            HeadView u_rows = heads_f32(u + (size_t)at * row, row, (size_t)l->R);
            HeadView q_rows = heads_f32(qz + (size_t)at * row, row, (size_t)l->R);
            ops->attention_latent(b, s, l->R, u_rows, q_rows, from_row(q_rope, (size_t)at), p.layer, rows, n);
        }
    free(p.layer.base);
    return u;
}

/* The absorbed form rounds in another order than the definition on expanded keys; all values are of size 1. */
static const double LATENT_TOLERANCE = 1e-5;

static void latent_case(AttentionShape s, int R, uint32_t seed)
{
    const Ops *ops;
    const int lengths[] = {130, 1, 64, 20, -1}, chunks[] = {1, 7, 64, 200, 5};
    const char *isas[] = {NULL, "avx512", "avx2", "plain", "emulated"};
    AttentionCase c = case_make(s, true, lengths, seed);
    Latents l = expand_latents(&c, R, seed);
    size_t outputs = (size_t)(c.N * s.H * s.Dv), us = (size_t)(c.N * s.H * R);
    double *o = malloc(outputs * sizeof *o), *lse = malloc((size_t)(c.N * s.H) * sizeof *lse);
    case_forward(&c, o, lse);
    float *qz = absorb_queries(&c, &l), *first = NULL;
    for (int i = 0; i < 5; i++) {
        Backend *b = case_backend(isas[i], 1 + i % 2, &ops);
        if (!b) continue;
        float *u = latent_outputs(b, ops, &c, &l, qz, chunks[i]);
        ops->close(b);
        if (first) {
            assert_memory_equal(u, first, us * sizeof *u);
            free(u);
        } else {
            first = u;
        }
    }
    for (size_t i = 0; i < outputs; i++) {
        size_t row = i / (size_t)s.Dv, h = row % (size_t)s.H, at = h * (size_t)s.Dv + i % (size_t)s.Dv;
        float got = dot(l.Wv + at * (size_t)R, first + row * (size_t)R, R);
        assert_true(fabs(got - o[i]) < LATENT_TOLERANCE * (1 + fabs(o[i])));
    }
    float *owned[] = {l.z, l.Wk, l.Wv, qz, first};
    for (int i = 0; i < 5; i++) free(owned[i]);
    free(o);
    free(lse);
    case_free(&c);
}

static void latent_cache_equals_definition(void **state)
{
    (void)state;
    latent_case(MLA, 48, 70);
    latent_case(TINY, 20, 71);
    latent_case((AttentionShape){50, 50, 8, 4, 6, 0.3f}, 16, 72); /* more heads than a panel holds */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_cache_equals_training),
        cmocka_unit_test(decoding_together_equals_training),
        cmocka_unit_test(latent_cache_equals_definition),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
