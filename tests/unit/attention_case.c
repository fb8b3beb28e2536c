#include "tests/unit/attention_case.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "cpu/cpu.h"
#include "gpu/gpu.h"
#include "tests/unit/ops_lab.h"

float case_normal(uint32_t *seed)
{
    double sum = 0; /* of twelve uniform variables: mean 6, variance 1 */
    for (int i = 0; i < 12; i++) {
        *seed = *seed * 1664525u + 1013904223u;
        sum += (*seed >> 8) * 0x1p-24;
    }
    return (float)(sum - 6);
}

static float *guarded(size_t floats)
{
    float *p = malloc((floats + 1) * sizeof *p);
    for (size_t i = 0; i < floats; i++) p[i] = CASE_GUARD;
    return p;
}

static void each_used(HeadView v, int N, int heads, int D, float fill, uint32_t *seed)
{
    for (int n = 0; n < N; n++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < D; i++) *case_at(v, n, h, i) = seed ? case_normal(seed) : fill;
}

static void fill_used(const AttentionCase *c, CaseInputs *in, float fill, uint32_t *seed)
{
    AttentionShape s = c->s;
    each_used(in->view.q, c->N, s.H, s.Dn + s.Dr, fill, seed);
    each_used(in->view.k, c->N, s.Hkv, s.Dn, fill, seed);
    each_used(in->view.k_rope, c->N, c->rope_shared ? 1 : s.Hkv, s.Dr, fill, seed);
    each_used(in->view.v, c->N, s.Hkv, s.Dv, fill, seed);
}

CaseInputs case_inputs(const AttentionCase *c, float fill)
{
    AttentionShape s = c->s;
    size_t q_row = (size_t)(s.H * (s.Dn + s.Dr)) + 5, kv_row = (size_t)(s.Hkv * (s.Dn + s.Dv)) + 3;
    size_t rope_row = (size_t)((c->rope_shared ? 1 : s.Hkv) * s.Dr) + 2, N = (size_t)c->N;
    CaseInputs in = {.q_floats = N * q_row, .kv_floats = N * kv_row, .rope_floats = N * rope_row};
    in.q = guarded(in.q_floats);
    in.kv = guarded(in.kv_floats);
    in.rope = guarded(in.rope_floats);
    in.view.q = heads_f32(in.q, q_row, (size_t)(s.Dn + s.Dr));
    in.view.k = heads_f32(in.kv, kv_row, (size_t)(s.Dn + s.Dv));
    in.view.v = heads_f32(in.kv + s.Dn, kv_row, (size_t)(s.Dn + s.Dv));
    in.view.k_rope = heads_f32(in.rope, rope_row, c->rope_shared ? 0 : (size_t)s.Dr);
    fill_used(c, &in, fill, NULL);
    return in;
}

bool case_guards_whole(const AttentionCase *c, const CaseInputs *in)
{
    const float *p[] = {in->q, in->kv, in->rope};
    size_t row[] = {in->view.q.row, in->view.k.row, in->view.k_rope.row}, gap[] = {5, 3, 2};
    for (int k = 0; k < 3; k++)
        for (size_t n = 0; n < (size_t)c->N; n++)
            for (size_t i = row[k] - gap[k]; i < row[k]; i++)
                if (p[k][n * row[k] + i] != CASE_GUARD) return false;
    return true;
}

void case_inputs_free(CaseInputs *in)
{
    free(in->q);
    free(in->kv);
    free(in->rope);
}

AttentionCase case_make(AttentionShape s, bool rope_shared, const int *lengths, uint32_t seed)
{
    AttentionCase c = {.s = s, .rope_shared = rope_shared};
    for (; lengths[c.nseq] >= 0; c.nseq++) {
        CHECK(c.nseq < CASE_SEQUENCES);
        c.offsets[c.nseq + 1] = c.offsets[c.nseq] + lengths[c.nseq];
    }
    c.N = c.offsets[c.nseq];
    c.in = case_inputs(&c, 0);
    fill_used(&c, &c.in, 0, &seed);
    c.dout = malloc((size_t)(c.N * s.H * s.Dv + 1) * sizeof *c.dout);
    each_used(case_output(&c, c.dout), c.N, s.H, s.Dv, 0, &seed);
    return c;
}

void case_free(AttentionCase *c)
{
    case_inputs_free(&c->in);
    free(c->dout);
}

HeadView case_output(const AttentionCase *c, float *p)
{
    return heads_f32(p, (size_t)(c->s.H * c->s.Dv), (size_t)c->s.Dv);
}

/* Where element i of key head h of row n lies: the nope part, then the rope part. */
static const float *key_element(const AttentionCase *c, int n, int h, int i)
{
    HeadView v = i < c->s.Dn ? c->in.view.k : c->in.view.k_rope;
    return case_at(v, n, h, i < c->s.Dn ? i : i - c->s.Dn);
}

/* Softmax of row n, head h over rows [start, n]: p[j - start]. Returns log sum exp. */
static double probabilities(const AttentionCase *c, int n, int h, int start, double *p)
{
    int kv = h / (c->s.H / c->s.Hkv);
    double max = -INFINITY, sum = 0;
    for (int j = start; j <= n; j++) {
        double dot = 0;
        for (int i = 0; i < c->s.Dn + c->s.Dr; i++)
            dot += (double)*case_at(c->in.view.q, n, h, i) * *key_element(c, j, kv, i);
        p[j - start] = dot * c->s.scale;
        max = fmax(max, p[j - start]);
    }
    for (int j = start; j <= n; j++) sum += exp(p[j - start] - max);
    for (int j = start; j <= n; j++) p[j - start] = exp(p[j - start] - max) / sum;
    return max + log(sum);
}

void case_forward(const AttentionCase *c, double *o, double *lse)
{
    AttentionShape s = c->s;
    double *p = malloc((size_t)(c->N + 1) * sizeof *p);
    for (int seq = 0; seq < c->nseq; seq++)
        for (int n = c->offsets[seq]; n < c->offsets[seq + 1]; n++)
            for (int h = 0; h < s.H; h++) {
                lse[n * s.H + h] = probabilities(c, n, h, c->offsets[seq], p);
                for (int i = 0; i < s.Dv; i++) {
                    double sum = 0;
                    for (int j = c->offsets[seq]; j <= n; j++)
                        sum += p[j - c->offsets[seq]] * *case_at(c->in.view.v, j, h / (s.H / s.Hkv), i);
                    o[(n * s.H + h) * s.Dv + i] = sum;
                }
            }
    free(p);
}

/* Adds the gradients that row n, head h causes. */
static void backward_row(const AttentionCase *c, CaseGradients *g, int n, int h, int start, double *p)
{
    AttentionShape s = c->s;
    int kv = h / (s.H / s.Hkv);
    const float *dout = c->dout + (size_t)(n * s.H + h) * (size_t)s.Dv;
    double delta = 0;
    probabilities(c, n, h, start, p);
    for (int pass = 0; pass < 2; pass++)
        for (int j = start; j <= n; j++) {
            double dp = 0;
            for (int i = 0; i < s.Dv; i++) dp += (double)dout[i] * *case_at(c->in.view.v, j, kv, i);
            if (pass == 0) {
                delta += p[j - start] * dp;
                continue;
            }
            double ds = c->s.scale * p[j - start] * (dp - delta);
            for (int i = 0; i < s.Dv; i++) g->kv[case_at(c->in.view.v, j, kv, i) - c->in.kv] += p[j - start] * dout[i];
            for (int i = 0; i < s.Dn + s.Dr; i++) {
                const float *q = case_at(c->in.view.q, n, h, i), *k = key_element(c, j, kv, i);
                g->q[q - c->in.q] += ds * *k;
                if (i < s.Dn) g->kv[k - c->in.kv] += ds * *q;
                else g->rope[k - c->in.rope] += ds * *q;
            }
        }
}

CaseGradients case_backward(const AttentionCase *c)
{
    CaseGradients g = {calloc(c->in.q_floats + 1, sizeof(double)), calloc(c->in.kv_floats + 1, sizeof(double)),
                       calloc(c->in.rope_floats + 1, sizeof(double))};
    double *p = malloc((size_t)(c->N + 1) * sizeof *p);
    for (int seq = 0; seq < c->nseq; seq++)
        for (int n = c->offsets[seq]; n < c->offsets[seq + 1]; n++)
            for (int h = 0; h < c->s.H; h++) backward_row(c, &g, n, h, c->offsets[seq], p);
    free(p);
    return g;
}

void case_gradients_free(CaseGradients *g)
{
    free(g->q);
    free(g->kv);
    free(g->rope);
}

Pages pages_make(size_t page_values, DType dtype)
{
    size_t gap = dtype == DTYPE_BF16 ? 8 : 7; /* tensor cores copy by 16 bytes what lies so */
    Pages p = {.layer = {.dtype = dtype, .page_stride = page_values + gap}};
    p.count = CASE_SEQUENCES * CASE_PAGES * p.layer.page_stride;
    p.layer.base = malloc(p.count * dtype_size(dtype));
    memset(p.layer.base, 0xff, p.count * dtype_size(dtype)); /* NaN in either type */
    static int32_t table[CASE_SEQUENCES * CASE_PAGES];
    for (int i = 0; i < CASE_SEQUENCES * CASE_PAGES; i++) table[i] = i * 7 % (CASE_SEQUENCES * CASE_PAGES);
    p.layer.pages = table;
    return p;
}

Pages exact_pages(const AttentionCase *c, DType dtype)
{
    AttentionShape s = c->s;
    size_t k = (size_t)(s.Hkv * s.Dn * KEY_TILE), rope = (size_t)((c->rope_shared ? 1 : s.Hkv) * s.Dr * KEY_TILE);
    Pages p = pages_make(k + rope + (size_t)(s.Hkv * s.Dv * KEY_TILE), dtype);
    p.layer.rope_at = k;
    p.layer.v_at = k + rope;
    p.layer.rope_shared = c->rope_shared;
    return p;
}

/* The GPU's kernels on the CPU; work runs at the call, so that what a test gives it may lie on the stack. NULL: not built. */
static Backend *emulated_backend(DType dtype, const Ops **ops)
{
    Status st = {0};
    const GpuPlugin *plugin = lab_plugin(&st);
    if (!plugin) return NULL;
    lab_order(plugin, "reverse", "eager");
    return plugin->open(&(GpuOptions){.dtype = dtype}, ops, &st);
}

Backend *case_backend(const char *isa, int threads, const Ops **ops)
{
    if (isa && strcmp(isa, "emulated") == 0) return emulated_backend(DTYPE_F32, ops);
    if (isa && strcmp(isa, "emulated mma") == 0) return emulated_backend(DTYPE_BF16, ops);
    Status st = {0};
    CpuOptions options = {.threads = threads, .matmul = "native", .isa = isa};
    return cpu_open(&options, ops, &st);
}
