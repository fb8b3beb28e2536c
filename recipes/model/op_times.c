#include "recipes/model/op_times.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "recipes/model/machine.h"

enum { ENTRIES = 128, PHASES = 16 };

typedef struct Phase {
    const char *name;
    double seconds;
} Phase;

struct OpTimes {
    const Ops *inner_ops;
    Backend *inner;
    OpTime list[ENTRIES]; /* the last one takes what has no entry of its own */
    int n;
    OpTime fastest[ENTRIES]; /* of the runs before; as many as there are */
    int n_fastest;
    Phase phases[PHASES];
    int n_phases;
    const char *phase; /* whose clock runs since phase_start; NULL: none */
    double phase_start;
};

/* What one call needed. */
typedef struct Cost {
    double flops, read, written; /* in floats until it is added */
    size_t out, in;
} Cost;

static OpTimes *of(const Backend *b)
{
    return (OpTimes *)(uintptr_t)b;
}

static void note(OpTimes *t, const char *op, double start, Cost c)
{
    double seconds = machine_seconds() - start;
    OpTime *e = t->list, *end = t->list + t->n;
    while (e < end && (e->op != op || e->out != c.out || e->in != c.in)) e++;
    if (e == end && t->n < ENTRIES) {
        *e = (OpTime){.op = op, .out = c.out, .in = c.in};
        t->n++;
    } else if (e == end) {
        e = &t->list[ENTRIES - 1];
        e->op = "other";
        e->out = e->in = 0;
    }
    e->calls++;
    e->seconds += seconds;
    e->flops += c.flops;
    e->read += 4 * c.read;
    e->written += 4 * c.written;
}

/* In f32 numbers, as all amounts here. */
static double size(Mat m)
{
    return (double)m.rows * (double)m.cols * (double)dtype_size(m.dtype) / sizeof(float);
}

/* Values of this type, in f32 numbers. */
static double in_floats(DType dtype, double values)
{
    return values * (double)dtype_size(dtype) / sizeof(float);
}

static Cost moves(double read, double written)
{
    return (Cost){.read = read, .written = written};
}

/* A matrix product of `rows` rows with matrices like w, `weights` of which are read or written. */
static Cost product(double rows, Mat w, double weights, double read, double written)
{
    return (Cost){2 * rows * (double)w.rows * (double)w.cols, read + weights * size(w), written, w.rows, w.cols};
}

static double busy(const int32_t *offsets, int E)
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

static double cached_pairs(const CacheRow *rows, int n)
{
    double pairs = 0;
    for (int i = 0; i < n; i++) pairs += rows[i].pos + 1;
    return pairs;
}

static double head_floats(HeadNorm norm)
{
    return (double)norm.n * norm.heads * norm.D;
}

static double query_floats(AttentionShape s, double n)
{
    return n * s.H * (s.Dn + s.Dr + s.Dv);
}

static double key_floats(AttentionShape s, double n, bool rope_shared)
{
    return n * (s.Hkv * (s.Dn + s.Dv) + (rope_shared ? 1 : s.Hkv) * s.Dr);
}

/* n positions of an exact cache. */
static double cached_floats(AttentionShape s, CacheLayer cache, double n)
{
    return in_floats(cache.dtype, key_floats(s, n, cache.rope_shared));
}

static Cost attention_cost(AttentionShape s, AttentionInputs in, const int32_t *offsets, int nseq, bool backward)
{
    double N = offsets[nseq], pair = 2.0 * s.H * (s.Dn + s.Dr + s.Dv), once = backward ? 2 : 1;
    bool shared = in.k_rope.head == 0;
    double queries = query_floats(s, N), keys = key_floats(s, N, shared);
    return (Cost){.flops = once * pair * causal_pairs(offsets, nseq),
                  .read = once * queries + keys,
                  .written = backward ? queries + keys : N * s.H * s.Dv};
}

/* static void timed_OP PARAMETERS: passes on with ARGUMENTS (b is the inner backend there) and notes COST. */
#define TIMED(op, parameters, arguments, cost)                                                                         \
    static void timed_##op parameters                                                                                  \
    {                                                                                                                  \
        OpTimes *t_ = of(b);                                                                                           \
        double start_ = machine_seconds();                                                                             \
        b = t_->inner;                                                                                                 \
        if (t_->inner_ops) t_->inner_ops->op arguments;                                                                \
        note(t_, #op, start_, cost);                                                                                   \
    }

TIMED(embed_fwd, (Backend * b, Mat y, Mat table, const int32_t *ids), (b, y, table, ids), moves(size(y), size(y)))
TIMED(embed_bwd, (Backend * b, Mat dtable, Mat dy, const int32_t *ids), (b, dtable, dy, ids),
      moves(2 * size(dy), size(dy)))
TIMED(rmsnorm_fwd, (Backend * b, Mat y, float *rstd, Mat x, const float *w, float eps), (b, y, rstd, x, w, eps),
      moves(size(x), size(x)))
TIMED(rmsnorm_bwd, (Backend * b, Mat dx, float *dw, Mat dy, Mat x, const float *w, const float *rstd, bool add_dx),
      (b, dx, dw, dy, x, w, rstd, add_dx), moves((add_dx ? 3 : 2) * size(x), size(x)))
TIMED(headnorm_fwd, (Backend * b, HeadView y, float *rstd, HeadView x, HeadNorm norm, float eps),
      (b, y, rstd, x, norm, eps), moves(head_floats(norm), head_floats(norm)))
TIMED(headnorm_bwd, (Backend * b, HeadView dx, float *dw, HeadView dy, HeadView x, HeadNorm norm, const float *rstd),
      (b, dx, dw, dy, x, norm, rstd), moves(2 * head_floats(norm), head_floats(norm)))
TIMED(linear_fwd, (Backend * b, Mat y, Mat x, Mat w, const float *bias, bool add), (b, y, x, w, bias, add),
      product((double)x.rows, w, 1, size(x) + (add ? size(y) : 0), size(y)))
TIMED(linear_bwd_x, (Backend * b, Mat dx, Mat dy, Mat w, bool add), (b, dx, dy, w, add),
      product((double)dy.rows, w, 1, size(dy) + (add ? size(dx) : 0), size(dx)))
TIMED(linear_bwd_w, (Backend * b, Mat dw, float *dbias, Mat dy, Mat x), (b, dw, dbias, dy, x),
      product((double)x.rows, dw, 1, size(dy) + size(x), size(dw)))
TIMED(grouped_fwd, (Backend * b, Mat y, Mat x, const Mat *w, const int32_t *offsets, int E), (b, y, x, w, offsets, E),
      product((double)x.rows, w[0], busy(offsets, E), size(x), size(y)))
TIMED(grouped_bwd_x, (Backend * b, Mat dx, Mat dy, const Mat *w, const int32_t *offsets, int E),
      (b, dx, dy, w, offsets, E), product((double)dy.rows, w[0], busy(offsets, E), size(dy), size(dx)))
TIMED(grouped_bwd_w, (Backend * b, const Mat *dw, Mat dy, Mat x, const int32_t *offsets, int E),
      (b, dw, dy, x, offsets, E),
      product((double)x.rows, dw[0], busy(offsets, E), size(dy) + size(x), busy(offsets, E) * size(dw[0])))
TIMED(rope, (Backend * b, HeadView x, const int32_t *pos, RopeArgs args, int n, int heads), (b, x, pos, args, n, heads),
      moves((double)n *heads *args.Dr, (double)n *heads *args.Dr))
TIMED(swiglu_fwd, (Backend * b, Mat h, Mat gu), (b, h, gu), moves(size(gu), size(h)))
TIMED(swiglu_bwd, (Backend * b, Mat dgu, Mat dh, Mat gu), (b, dgu, dh, gu), moves(size(dh) + size(gu), size(dgu)))
TIMED(attention_fwd,
      (Backend * b, AttentionShape s, HeadView o, float *lse, AttentionInputs in, const int32_t *offsets, int nseq),
      (b, s, o, lse, in, offsets, nseq), attention_cost(s, in, offsets, nseq, false))
TIMED(attention_bwd,
      (Backend * b, AttentionShape s, AttentionInputs din, HeadView dout, HeadView o, const float *lse,
       AttentionInputs in, const int32_t *offsets, int nseq),
      (b, s, din, dout, o, lse, in, offsets, nseq), attention_cost(s, in, offsets, nseq, true))
TIMED(cache_write, (Backend * b, AttentionShape s, CacheLayer cache, const CacheRow *rows, int n, AttentionInputs in),
      (b, s, cache, rows, n, in),
      moves(in_floats(in.v.dtype, key_floats(s, n, cache.rope_shared)), cached_floats(s, cache, n)))
TIMED(attention_cached,
      (Backend * b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache, const CacheRow *rows, int n),
      (b, s, o, q, cache, rows, n),
      ((Cost){.flops = 2.0 * s.H * (s.Dn + s.Dr + s.Dv) * cached_pairs(rows, n),
              .read = cached_floats(s, cache, cached_pairs(rows, n)),
              .written = (double)n * s.H * s.Dv}))
TIMED(latent_write, (Backend * b, CacheLayer cache, const CacheRow *rows, int n, Mat z, HeadView k_rope, int Dr),
      (b, cache, rows, n, z, k_rope, Dr),
      moves(in_floats(z.dtype, (double)n *((double)z.cols + Dr)),
            in_floats(cache.dtype, (double)n *((double)z.cols + Dr))))
TIMED(attention_latent,
      (Backend * b, AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope, CacheLayer cache,
       const CacheRow *rows, int n),
      (b, s, Rkv, u, qz, q_rope, cache, rows, n),
      ((Cost){.flops = 2.0 * s.H * (2 * Rkv + s.Dr) * cached_pairs(rows, n),
              .read = in_floats(cache.dtype, (Rkv + s.Dr) * cached_pairs(rows, n)),
              .written = (double)n * s.H * Rkv}))
TIMED(router_bwd,
      (Backend * b, RouterShape s, Mat dlogits, Mat dweights, const Mat *dscores, Mat scores, const int32_t *idx),
      (b, s, dlogits, dweights, dscores, scores, idx), moves(size(scores) + 2 * size(dweights), size(dlogits)))
TIMED(gather_rows, (Backend * b, Mat y, Mat x, const int32_t *rows), (b, y, x, rows), moves(size(y), size(y)))
TIMED(scatter_add_rows, (Backend * b, Mat dx, Mat dy, const int32_t *slot, int K), (b, dx, dy, slot, K),
      moves(size(dx) + K * size(dx), size(dx)))
TIMED(combine_fwd, (Backend * b, Mat y, Mat x, const int32_t *slot, Mat weights, Mat shared),
      (b, y, x, slot, weights, shared), moves(size(x) + size(y) + (shared.p ? size(shared) : 0), size(y)))
TIMED(combine_bwd, (Backend * b, Mat dx, Mat dweights, Mat dy, Mat x, const int32_t *slot, Mat weights),
      (b, dx, dweights, dy, x, slot, weights), moves(size(x) + size(dy), size(dx)))
TIMED(add, (Backend * b, Mat y, Mat x), (b, y, x), moves(2 * size(x), size(x)))
TIMED(copy, (Backend * b, Mat y, Mat x), (b, y, x), moves(size(x), size(x)))
TIMED(head_stats,
      (Backend * b, Mat logits, float *lp, float *entropy, float *kl, const int32_t *targets, float inv_temperature,
       const Mat *ref),
      (b, logits, lp, entropy, kl, targets, inv_temperature, ref),
      moves((ref ? 2 : 1) * size(logits), (ref ? 2 : 1) * size(logits)))
TIMED(head_grad, (Backend * b, Mat logp, const int32_t *targets, float inv_temperature, HeadGrads by, const Mat *ref),
      (b, logp, targets, inv_temperature, by, ref), moves((ref ? 2 : 1) * size(logp), size(logp)))
TIMED(sample, (Backend * b, int32_t *id, float *lp, Mat logits, SampleArgs args, const float *u),
      (b, id, lp, logits, args, u), moves(size(logits), 0))
TIMED(adamw, (Backend * b, float *w, float *m, float *v, const float *g, size_t n, size_t row, AdamWArgs args),
      (b, w, m, v, g, n, row, args), moves(4.0 * (double)n, 3.0 * (double)n))
TIMED(fill, (Backend * b, float *x, size_t n, float value), (b, x, n, value), moves(0, (double)n))

/* Without an inner backend every token meets experts 0 .. K - 1: core sorts by what is written here. */
static void timed_router_fwd(Backend *b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits,
                             const float *bias)
{
    OpTimes *t = of(b);
    double start = machine_seconds();
    if (t->inner_ops) t->inner_ops->router_fwd(t->inner, s, scores, idx, weights, logits, bias);
    else
        for (size_t i = 0; i < weights.rows * (size_t)s.K; i++) idx[i] = (int32_t)(i % (size_t)s.K);
    note(t, "router_fwd", start, moves(size(logits), size(scores) + 2 * size(weights)));
}

static double timed_sum_squares(Backend *b, const float *x, size_t n)
{
    OpTimes *t = of(b);
    double start = machine_seconds(), sum = t->inner_ops ? t->inner_ops->sum_squares(t->inner, x, n) : 0;
    note(t, "sum_squares", start, moves((double)n, 0));
    return sum;
}

static const char *timed_describe(const Backend *b)
{
    return of(b)->inner_ops ? of(b)->inner_ops->describe(of(b)->inner) : "none: it computes nothing";
}

static bool timed_rows_independent(const Backend *b)
{
    return of(b)->inner_ops && of(b)->inner_ops->rows_independent(of(b)->inner);
}

static const char *timed_machine_kind(const Backend *b)
{
    return of(b)->inner_ops ? of(b)->inner_ops->machine_kind(of(b)->inner) : "none";
}

static bool timed_fault(Backend *b, Status *st)
{
    return of(b)->inner_ops ? of(b)->inner_ops->fault(of(b)->inner, st) : true;
}

static void timed_weights_changed(Backend *b)
{
    if (of(b)->inner_ops) of(b)->inner_ops->weights_changed(of(b)->inner);
}

static void timed_weights_freed(Backend *b)
{
    if (of(b)->inner_ops) of(b)->inner_ops->weights_freed(of(b)->inner);
}

static bool timed_keep_packed(Backend *b, bool keep)
{
    return of(b)->inner_ops ? of(b)->inner_ops->keep_packed(of(b)->inner, keep) : false;
}

static size_t timed_bytes(const Backend *b)
{
    return of(b)->inner_ops ? of(b)->inner_ops->bytes(of(b)->inner) : 0;
}

static void timed_close(Backend *b)
{
    if (of(b)->inner_ops) of(b)->inner_ops->close(of(b)->inner);
    free(of(b));
}

static const Ops timed_ops = {.abi = OPS_ABI,
#define ENTRY(op) .op = timed_##op,
                              OPS(ENTRY)
#undef ENTRY
};

OpTimes *op_times_open(const Ops *ops, Backend *b)
{
    if (ops) CHECK_EQ(ops->abi, OPS_ABI);
    OpTimes *t = calloc(1, sizeof *t);
    CHECK(t != NULL);
    t->inner_ops = ops;
    t->inner = b;
    return t;
}

void op_times_machine(Machine *m)
{
    m->times = op_times_open(m->ops, m->backend);
    m->ops = op_times_ops();
    m->backend = op_times_backend(m->times);
}

const Ops *op_times_ops(void)
{
    return &timed_ops;
}

Backend *op_times_backend(OpTimes *t)
{
    return (Backend *)t;
}

void op_times_reset(OpTimes *t)
{
    t->n = t->n_fastest = 0;
}

void op_times_next_run(OpTimes *t)
{
    for (int i = 0; i < t->n; i++)
        if (i >= t->n_fastest || t->list[i].seconds < t->fastest[i].seconds) t->fastest[i] = t->list[i];
    if (t->n > t->n_fastest) t->n_fastest = t->n;
    t->n = 0;
}

void op_times_fastest(OpTimes *t)
{
    t->n = t->n_fastest;
    memcpy(t->list, t->fastest, (size_t)t->n * sizeof *t->list);
}

const OpTime *op_times_list(const OpTimes *t, int *n)
{
    *n = t->n;
    return t->list;
}

static int longest_first(const void *a, const void *b)
{
    double x = ((const OpTime *)a)->seconds, y = ((const OpTime *)b)->seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

int op_times_by_op(const OpTimes *t, OpTime *out, int max)
{
    int n = 0;
    for (int i = 0; i < t->n; i++) {
        int at = 0;
        while (at < n && strcmp(out[at].op, t->list[i].op)) at++;
        if (at == max) continue;
        if (at == n) out[n++] = (OpTime){.op = t->list[i].op};
        out[at].calls += t->list[i].calls;
        out[at].seconds += t->list[i].seconds;
        out[at].flops += t->list[i].flops;
        out[at].read += t->list[i].read;
        out[at].written += t->list[i].written;
    }
    qsort(out, (size_t)n, sizeof *out, longest_first);
    return n;
}

static void phase_add(OpTimes *t, const char *name, double seconds)
{
    int i = 0;
    while (i < t->n_phases && strcmp(t->phases[i].name, name)) i++;
    if (i == PHASES) return;
    if (i == t->n_phases) t->phases[t->n_phases++] = (Phase){.name = name};
    t->phases[i].seconds += seconds;
}

const char *op_times_phase(OpTimes *t, const char *phase)
{
    if (!t) return NULL;
    const char *before = t->phase;
    double now = machine_seconds();
    if (before) phase_add(t, before, now - t->phase_start);
    t->phase = phase;
    t->phase_start = now;
    return before;
}

void op_times_print(OpTimes *t, FILE *out)
{
    op_times_phase(t, op_times_phase(t, NULL));
    OpTime ops[ENTRIES];
    int n = op_times_by_op(t, ops, ENTRIES);
    double phases = 0, total = 0;
    for (int i = 0; i < t->n_phases; i++) phases += t->phases[i].seconds;
    for (int i = 0; i < n; i++) total += ops[i].seconds;
    fprintf(out, "\nwhere the time went\n%-20s %10s %7s\n", "phase", "seconds", "share");
    for (int i = 0; i < t->n_phases; i++)
        fprintf(out, "%-20s %10.2f %6.1f%%\n", t->phases[i].name, t->phases[i].seconds,
                100 * t->phases[i].seconds / phases);
    fprintf(out, "%-20s %10s %7s %10s %9s %8s\n", "op", "seconds", "share", "calls", "GFLOP/s", "GB/s");
    for (int i = 0; i < n; i++) {
        const OpTime *o = &ops[i];
        fprintf(out, "%-20s %10.2f %6.1f%% %10ld", o->op, o->seconds, 100 * o->seconds / phases, o->calls);
        if (o->flops > 0) fprintf(out, " %9.1f", o->flops / o->seconds / 1e9);
        else fprintf(out, " %9s", "-");
        fprintf(out, " %8.1f\n", (o->read + o->written) / o->seconds / 1e9);
    }
    fprintf(out, "%-20s %10.2f %6.1f%%\n", "outside ops", phases - total, 100 * (phases - total) / phases);
}
