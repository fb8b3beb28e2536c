/* FLOPs and bytes of ops by formula. */
#include "core/ops/op_costs.h"

/* In f32 numbers, as all amounts here. */
double cost_size(Mat m)
{
    return (double)m.rows * (double)m.cols * (double)dtype_size(m.dtype) / sizeof(float);
}

/* Values of this type, in f32 numbers. */
double cost_floats(DType dtype, double values)
{
    return values * (double)dtype_size(dtype) / sizeof(float);
}

OpCost cost_moves(double read, double written)
{
    return (OpCost){.read = read, .written = written};
}

/* A matrix product of `rows` rows with matrices like w, `weights` of which are read or written. */
OpCost cost_product(double rows, Mat w, double weights, double read, double written)
{
    return (OpCost){2 * rows * (double)w.rows * (double)w.cols, read + weights * cost_size(w), written, w.rows, w.cols};
}

double cost_busy(const int32_t *offsets, int E)
{
    int n = 0;
    for (int e = 0; e < E; e++) n += offsets[e] < offsets[e + 1];
    return n;
}

/* Sum over sequences of T (T + 1) / 2: query-key pairs of causal attention. */
static double causal_pairs(const int32_t *offsets, int nseq)
{
    double pairs = 0;
    for (int s = 0; s < nseq; s++) {
        double T = offsets[s + 1] - offsets[s];
        pairs += T * (T + 1) / 2;
    }
    return pairs;
}

double cost_pairs(const CacheRow *rows, int n)
{
    double pairs = 0;
    for (int i = 0; i < n; i++) pairs += rows[i].pos + 1;
    return pairs;
}

double cost_heads(HeadNorm norm)
{
    return (double)norm.n * norm.heads * norm.D;
}

double cost_runs(const FloatRun *list, int count)
{
    double n = 0;
    for (int i = 0; i < count; i++) n += (double)list[i].n;
    return n;
}

static double query_floats(AttentionShape s, double n)
{
    return n * s.H * (s.Dn + s.Dr + s.Dv);
}

double cost_keys(AttentionShape s, double n, bool rope_shared)
{
    return n * (s.Hkv * (s.Dn + s.Dv) + (rope_shared ? 1 : s.Hkv) * s.Dr);
}

/* n positions of an exact cache. */
double cost_cached(AttentionShape s, CacheLayer cache, double n)
{
    return cost_floats(cache.dtype, cost_keys(s, n, cache.rope_shared));
}

OpCost cost_attention(AttentionShape s, AttentionInputs in, const int32_t *offsets, int nseq, bool backward)
{
    double N = offsets[nseq], pair = 2.0 * s.H * (s.Dn + s.Dr + s.Dv), once = backward ? 2 : 1;
    bool shared = in.k_rope.head == 0;
    double queries = query_floats(s, N), keys = cost_keys(s, N, shared);
    return (OpCost){.flops = once * pair * causal_pairs(offsets, nseq),
                    .read = once * queries + keys,
                    .written = backward ? queries + keys : N * s.H * s.Dv};
}
