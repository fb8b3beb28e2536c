/* The op table: what a backend computes. core/ writes the order of layers once against it.
 *
 * Two rules hold for every op:
 *  1. batch-invariant: an output row depends on its inputs only, never on which other rows are in the call, how many
 *     there are, the thread count or the chunking;
 *  2. reductions over tokens (anything called dw, dbias) are the in-order sum of partial sums over fixed blocks of
 *     TOKEN_BLOCK rows counted from the first row of the call; a provider on tensor cores instead goes on from what was there,
 *     token after token.
 * Ops parallelise inside; the caller is single-threaded. Outputs come first. `add`: true adds to the output, false
 * overwrites it. Views may be strided. All Mat are f32, except that weights (w, table) and the activations of a forward (its
 * x and y, h, gu, o, keys, values; the x of a backward) may be bf16; where two matrices are multiplied they are of one type.
 * Gradients and everything of router, softmax, head and losses are f32. bf16 is read exactly and written to the nearest.
 * Arguments lie in the device's memory (core/ops/device.h). Nothing is allocated in a call once its sizes were seen.
 * A fault inside an op (NaN is none) is recorded first-wins and fetched with `fault`. */
#ifndef CORE_OPS_H
#define CORE_OPS_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/ops/device.h"
#include "core/matrix.h"
#include "core/moments.h"
#include "core/ops/ops_list.h"
#include "core/base/status.h"

enum { OPS_ABI = 16, TOKEN_BLOCK = 1024, KEY_TILE = 64, MAXIMA_COLUMNS = 32 };

/* Raised when a kernel's bits change, on the CPU or a GPU: part of machine_kind, so that a run is not resumed on other bits
 * unnoticed. */
enum { KERNELS_VERSION = 3 };

/* Element i of head h of row n is at p[n * row + h * head + i]. head = 0: one vector shared by all heads. */
typedef struct HeadView {
    void *p;
    size_t row, head;
    DType dtype;
} HeadView;

static inline HeadView heads_f32(float *p, size_t row, size_t head)
{
    return (HeadView){p, row, head, DTYPE_F32};
}

/* The view that begins `values` later in every head. */
static inline HeadView heads_from(HeadView v, size_t values)
{
    return (HeadView){(char *)v.p + values * dtype_size(v.dtype), v.row, v.head, v.dtype};
}

/* Attention: H query heads read Hkv key/value heads (query head h reads h / (H / Hkv)). A query or key head is its first Dn
 * values, then Dr more; keys come from two views, k (Dn values a head) and k_rope (Dr values; head stride 0 when shared, as
 * in MLA). Dn or Dr may be 0, then its view is not read. score = scale * (q . k), added over dims in ascending order. */
typedef struct AttentionShape {
    int H, Hkv, Dn, Dr, Dv;
    float scale;
} AttentionShape;

typedef struct AttentionInputs {
    HeadView q;      /* [N][H][Dn + Dr] */
    HeadView k;      /* [N][Hkv][Dn] */
    HeadView k_rope; /* [N][Hkv or shared][Dr] */
    HeadView v;      /* [N][Hkv][Dv] */
} AttentionInputs;

/* Sequences side by side in the rows of a call: sequence i has rows [offsets[i], offsets[i + 1]), offsets[count] = rows. */
typedef struct SequenceRows {
    const int32_t *offsets; /* [count + 1] */
    int count, rows;
} SequenceRows;

/* Exact cache, one layer: page p lies at base + p * page_stride and holds KEY_TILE positions:
 *   k      at +0        [Hkv][Dn][KEY_TILE]
 *   k_rope at +rope_at  [R][Dr][KEY_TILE], R = 1 when shared (rope_shared), else Hkv
 *   v      at +v_at     [Hkv][KEY_TILE][Dv]
 * Latent cache, one layer: page p holds [KEY_TILE][Rkv + Dr] (normed latent, then the rotated rope key).
 * bf16 keeps exactly what is bf16 when it is written. */
typedef struct CacheLayer {
    void *base;
    DType dtype;
    size_t page_stride, rope_at, v_at; /* in values */
    bool rope_shared;
    const int32_t *pages; /* page table, see CacheRow */
} CacheLayer;

/* Row r of a cached call is position `pos` of a sequence whose key tile i lies in page pages[at + i] of the layer's table.
 * Rows of one sequence have the same `at`. */
typedef struct CacheRow {
    int32_t at, pos;
} CacheRow;

typedef struct RouterShape {
    int E, K;
    int topk;  /* TopkMethod */
    int score; /* ScoreFunction */
    int n_group, topk_group;
    bool norm_topk;        /* w /= sum + 1e-20 */
    bool scale_after_norm; /* V3: multiply by scale even when normalised; V2: only when not normalised */
    bool mask_zero;
    bool given; /* rows of idx that begin with an expert are choices made elsewhere (router_fwd) */
    float scale;
} RouterShape;

/* Head h's matrix: rows [h * step + first, + rows) of one that holds all heads. */
typedef struct HeadRows {
    int heads;
    size_t step, first, rows;
} HeadRows;

/* Experts lie on `devices` devices in contiguous blocks. normalised: V3's sequence-wise loss, else V2's losses. */
typedef struct BalanceShape {
    int E, K, devices;
    bool normalised;
} BalanceShape;

/* By sequence: score [nseq][E], count [nseq][E], reached [nseq][devices]. */
typedef struct BalanceSums {
    double *score;
    int32_t *count, *reached;
} BalanceSums;

/* By sequence: slope [nseq][E] (NULL: 0), and with a weight other than 0 frequency [nseq][E]. */
typedef struct BalanceSlopes {
    const double *slope, *frequency;
    double weight;
} BalanceSlopes;

/* cos, sin: [positions][Dr / 2]. interleaved: pairs (2i, 2i+1), else (i, i + Dr/2). inverse: by minus the angle (backward). */
typedef struct RopeArgs {
    const float *cos, *sin;
    int Dr;
    bool interleaved, inverse;
} RopeArgs;

/* One norm for each of `heads` heads of D values in n rows, all with the weight w [D]. */
typedef struct HeadNorm {
    const float *w;
    int n, heads, D;
} HeadNorm;

/* What head_stats makes of a row; entropy and kl may be NULL. */
typedef struct HeadStats {
    float *lp, *entropy, *kl;
} HeadStats;

/* The largest of each MAXIMA_COLUMNS columns of logits (before any temperature): [rows][cols / MAXIMA_COLUMNS, rounded up], by
 * logits_fwd; NULL: not known. */
typedef struct HeadMaxima {
    const float *logits, *ref;
} HeadMaxima;

/* By row: the derivatives of a loss by lp, entropy and kl (the last two NULL: none), and what head_stats made of the row.
 * forward: kl is KL(q || p), which head_stats gives with the two logits in each other's place. */
typedef struct HeadGrads {
    const float *dlp, *dentropy, *entropy, *dkl, *kl;
    bool forward;
} HeadGrads;

typedef struct AdamWArgs {
    float lr, beta1, beta2, eps, weight_decay;
    float grad_scale;               /* g *= grad_scale first (clipping) */
    float correction1, correction2; /* 1 - beta1^t, 1 - beta2^t */
} AdamWArgs;

/* An array of f32. */
typedef struct FloatRun {
    const float *x;
    size_t n;
} FloatRun;

typedef struct SampleArgs {
    float temperature; /* 0: greedy (the lowest id among equals) */
    float top_p;       /* 1: off */
    int top_k;         /* 0: off */
    int vocab_used;    /* ids >= vocab_used are never sampled (0: all may) */
} SampleArgs;

typedef struct Ops {
    uint32_t abi; /* OPS_ABI */
    Device device;

    /* One line for the log: instruction set, matmul provider, threads. */
    const char *(*describe)(const Backend *b);
    /* What fixes the bits (design: "machine kind"): provider, instruction set where it matters, kernel-table hash. */
    const char *(*machine_kind)(const Backend *b);
    /* Whether rule 1 holds for matrix products: the provider passed the start-up self-test. Only then is a gap of exactly 0
     * between sampler and trainer promised. */
    bool (*rows_independent)(const Backend *b);
    /* False and the sentence if an op failed since the last call. */
    bool (*fault)(Backend *b, Status *st);
    /* Weights were written: packed copies are stale. */
    void (*weights_changed)(Backend *b);
    /* A model's weights are about to be freed: packed copies go too. */
    void (*weights_freed)(Backend *b);
    /* Whether forward products from now on pack weights and keep the copies until they change: for sampling, which reads them
     * once a token. Off at first: copies that are there are used, none are made. Returns what it was. */
    bool (*keep_packed)(Backend *b, bool keep);
    /* Bytes the backend holds (scratch, packed weights). */
    size_t (*bytes)(const Backend *b);
    void (*close)(Backend *b);

    /* y[n] = table[ids[n]];  dtable[v] += sum over n in order with ids[n] = v of dy[n] (each row v owned by one thread). */
    void (*embed_fwd)(Backend *b, Mat y, Mat table, const int32_t *ids);
    void (*embed_bwd)(Backend *b, Mat dtable, Mat dy, const int32_t *ids);

    /* rstd[n] = (mean(x[n]^2) + eps)^-1/2, y = w * (x * rstd)  (Zhang & Sennrich, arXiv:1910.07467).
     * bwd: dx = rstd * (w*dy - xhat * mean(w*dy*xhat)), xhat = x*rstd;  dw += sum_n dy * xhat (blocks of TOKEN_BLOCK). */
    void (*rmsnorm_fwd)(Backend *b, Mat y, float *rstd, Mat x, const float *w, float eps);
    void (*rmsnorm_bwd)(Backend *b, Mat dx, float *dw, Mat dy, Mat x, const float *w, const float *rstd, bool add_dx);
    /* The same per head (Qwen3 q_norm, k_norm); rstd [n * heads]. */
    void (*headnorm_fwd)(Backend *b, HeadView y, float *rstd, HeadView x, HeadNorm norm, float eps);
    void (*headnorm_bwd)(Backend *b, HeadView dx, float *dw, HeadView dy, HeadView x, HeadNorm norm, const float *rstd);

    /* Linear layers, w [out, in], x [N, in], y [N, out]; bias may be NULL.
     * fwd: y = x w^T + bias.  bwd_x: dx = dy w.  bwd_w: dw += dy^T x, dbias += sum_n dy (blocks of TOKEN_BLOCK rows).
     * Every output element is one chain of FMAs over the inner index in ascending order, started at 0 (native provider);
     * with add the chain's result plus the bias is added to what was there. */
    void (*linear_fwd)(Backend *b, Mat y, Mat x, Mat w, const float *bias, bool add);
    void (*linear_bwd_x)(Backend *b, Mat dx, Mat dy, Mat w, bool add);
    void (*linear_bwd_w)(Backend *b, Mat dw, float *dbias, Mat dy, Mat x);

    /* The experts of a layer as one call: rows [offsets[e], offsets[e+1]) of x and y belong to expert e, whose matrix is w[e].
     * Equal to a linear call per expert, bit for bit. bwd_w counts blocks from the expert's first row. */
    void (*grouped_fwd)(Backend *b, Mat y, Mat x, const Mat *w, const int32_t *offsets, int E);
    void (*grouped_bwd_x)(Backend *b, Mat dx, Mat dy, const Mat *w, const int32_t *offsets, int E);
    void (*grouped_bwd_w)(Backend *b, const Mat *dw, Mat dy, Mat x, const int32_t *offsets, int E);

    /* A product a head (MLA's absorbed form). W_h as HeadRows says. y[n, h] = W_h x[n, h]: s.rows values of w.cols, linear_fwd's
     * bits; transposed: y[n, h] = W_h^T x[n, h]: w.cols values of s.rows, f32, linear_bwd_x's bits. */
    void (*heads_product)(Backend *b, HeadView y, HeadView x, Mat w, HeadRows s, int n, bool transposed);

    /* Rotates `heads` heads of Dr values in n rows in place by the angle of pos[n] (Su et al., arXiv:2104.09864). */
    void (*rope)(Backend *b, HeadView x, const int32_t *pos, RopeArgs args, int n, int heads);

    /* h = silu(g) * u with gu = [g | u] of 2F columns, h [n, F].  bwd: dgu from dh and gu. */
    void (*swiglu_fwd)(Backend *b, Mat h, Mat gu);
    void (*swiglu_bwd)(Backend *b, Mat dgu, Mat dh, Mat gu);

    /* Causal attention inside each sequence. o [N][H][Dv], lse[n * H + h] = log sum_j exp(score). Key tiles of KEY_TILE at
     * absolute positions, walked in ascending order with an online softmax: row n's result depends on its sequence only and
     * equals attention_cached's, bit for bit. bwd overwrites its outputs; dk_rope of a shared rope key is the sum over heads
     * in ascending order. */
    void (*attention_fwd)(Backend *b, AttentionShape s, HeadView o, float *lse, AttentionInputs in, SequenceRows seq);
    void (*attention_bwd)(Backend *b, AttentionShape s, AttentionInputs din, HeadView dout, HeadView o,
                          const float *lse, AttentionInputs in, SequenceRows seq);

    /* Exact cache: writes the keys and values of n rows to their pages; attends each row to positions 0 .. pos. */
    void (*cache_write)(Backend *b, AttentionShape s, CacheLayer cache, const CacheRow *rows, int n,
                        AttentionInputs in);
    void (*attention_cached)(Backend *b, AttentionShape s, HeadView o, HeadView q, CacheLayer cache,
                             const CacheRow *rows, int n);
    /* Latent cache (DeepSeek-V2 section 2.1.2, absorbed form): writes z [n, Rkv] and k_rope [n, Dr];
     * u[h] = sum_j softmax_j(scale * (qz[h] . z_j + q_rope[h] . k_rope_j)) z_j. qz, u [n][H][Rkv]; q_rope [n][H][Dr]. */
    void (*latent_write)(Backend *b, CacheLayer cache, const CacheRow *rows, int n, Mat z, HeadView k_rope, int Dr);
    void (*attention_latent)(Backend *b, AttentionShape s, int Rkv, HeadView u, HeadView qz, HeadView q_rope,
                             CacheLayer cache, const CacheRow *rows, int n);

    /* Router: scores [N, E] of logits [N, E]; idx [N, K] the chosen experts in ascending order (ties in top-k take the lowest
     * index), weights [N, K] their final weights in that order. bias [E] or NULL.
     * V2 (eqs. 21-22): s = softmax(logits), the K best of s within the topk_group groups of largest s; g = scale s.
     * V3 (eqs. 13-16): s = sigmoid(logits), the K best of s + bias, within the groups whose two largest s + bias have the largest
     * sum; g = scale s / (sum of the chosen s): the bias enters the choice only.
     * s.given: a row of idx that begins with 0 or more holds its K experts on entry, ascending; they are weighed as if chosen.
     * bwd: dlogits (overwritten) from dweights [N, K] and dscores [N, E] (what the balance losses add; NULL: none). */
    void (*router_fwd)(Backend *b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits, const float *bias);
    void (*router_bwd)(Backend *b, RouterShape s, Mat dlogits, Mat dweights, const Mat *dscores, Mat scores,
                       const int32_t *idx);

    /* Sorts the n K pairs (token, choice) of idx [n, K] by expert, tokens in order within an expert: slot[n K + k] is the sorted
     * row of the pair, rows[i] the token of sorted row i, offsets [E + 1]. */
    void (*sort_experts)(Backend *b, int32_t *offsets, int32_t *slot, int32_t *rows, const int32_t *idx, int n, int E,
                         int K);
    /* What the balance losses are formed of (core/losses/balance.h), for each sequence, tokens in order, in f64:
     * score[i] = sum of scores[n, i]; count[i] = choices of i; reached[d] = tokens of which a choice lies on device d (NULL: not
     * wanted). normalised: score[i] = sum of scores[n, i] / (1e-20 + sum_j scores[n, j]); count[i] = how often i is among the K
     * best scores of a row, the lowest index among equals, groups and bias apart; idx and reached are not used. offsets
     * [nseq + 1]. */
    void (*balance_sums)(Backend *b, BalanceSums out, BalanceShape s, Mat scores, const int32_t *idx,
                         const int32_t *offsets, int nseq);
    /* dscores[n, i] = (slope[i] + weight (frequency[i] - sum_j frequency[j] scores[n, j] / total) / total) / nseq / T, in f64,
     * where total = 1e-20 + sum_j scores[n, j] and T is the length of n's sequence. */
    void (*balance_grad)(Backend *b, Mat dscores, BalanceSlopes s, Mat scores, const int32_t *offsets, int nseq);
    /* DeepSeek-V3's step without a loss: expert i was given n_i = offsets[i + 1] - offsets[i] rows; bias[i] += rate where n_i is
     * below the mean, -= rate where it is above, exactly (n_i E against the sum of all). */
    void (*bias_update)(Backend *b, float *bias, const int32_t *offsets, int E, float rate);

    /* y[i] = x[rows[i]], i < y.rows.  scatter_add: dx[n] += sum over k ascending of dy[slot[n * K + k]]. */
    void (*gather_rows)(Backend *b, Mat y, Mat x, const int32_t *rows);
    void (*scatter_add_rows)(Backend *b, Mat dx, Mat dy, const int32_t *slot, int K);
    /* y[n] += sum over k ascending of weights[n, k] * x[slot[n * K + k]] (+ shared[n] last, when shared.p).
     * bwd: dx[slot] = weights * dy[n] (overwritten), dweights[n, k] = dy[n] . x[slot]. */
    void (*combine_fwd)(Backend *b, Mat y, Mat x, const int32_t *slot, Mat weights, Mat shared);
    void (*combine_bwd)(Backend *b, Mat dx, Mat dweights, Mat dy, Mat x, const int32_t *slot, Mat weights);

    /* y += x;  y = x;  y *= a */
    void (*add)(Backend *b, Mat y, Mat x);
    void (*copy)(Backend *b, Mat y, Mat x);
    void (*scale)(Backend *b, Mat y, float a);

    /* Head. In place: logits[n] becomes log softmax(logits[n] * inv_temperature). lp[n] = its value at targets[n] (0 where
     * targets[n] < 0), entropy[n] = -sum p log p, and when ref: kl[n] = sum p (log p - log q), ref likewise becomes log q. known
     * changes no bit: a maximum is exact in any order, and multiplying by inv_temperature > 0 keeps it one. */
    void (*head_stats)(Backend *b, Mat logits, HeadStats out, const int32_t *targets, float inv_temperature,
                       const Mat *ref, HeadMaxima known);
    /* In place: logp becomes the gradient of the raw logits:
     * inv_temperature * (dlp (1[j = target] - p_j) - dentropy p_j (log p_j + H) + dkl p_j (log p_j - log q_j - KL)); with forward
     * the last term is dkl (p_j - q_j). */
    void (*head_grad)(Backend *b, Mat logp, const int32_t *targets, float inv_temperature, HeadGrads by,
                      const Mat *ref);
    /* id[n] sampled from softmax(logits[n] / T) restricted by top-k then top-p, by the inverse CDF over ascending ids at u[n];
     * lp[n] = log softmax(logits[n] / T)[id] before any restriction, equal to head_stats' bit for bit (greedy: T = 1). */
    void (*sample)(Backend *b, int32_t *id, float *lp, Mat logits, SampleArgs args, const float *u);

    /* AdamW (Loshchilov & Hutter, arXiv:1711.05101), decoupled decay, one pass over n elements:
     * g *= grad_scale; m = b1 m + (1-b1) g; v = b2 v + (1-b2) g^2; w -= lr (m/c1 / (sqrt(v/c2) + eps) + weight_decay w).
     * low NULL: w is f32; else w is the high halves of it and low the lower ones (core/weight_block.h). */
    void (*adamw)(Backend *b, void *w, uint16_t *low, float *m, float *v, const float *g, size_t n, AdamWArgs args);
    /* Stored moments (core/moments.h) of n values as f32, and back. Of n the last block may be short: the tensor ends there. */
    void (*moments_widen)(Backend *b, float *m, float *v, StoredMoments from, size_t n);
    void (*moments_narrow)(Backend *b, StoredMoments to, const float *m, const float *v, size_t n, MomentRounding r);
    /* *sum = the sum of squares in f64: blocks of 4,096 elements, each in a fixed order, added in order. */
    void (*sum_squares)(Backend *b, double *sum, const float *x, size_t n);
    void (*fill)(Backend *b, float *x, size_t n, float value);

    /* Fused: NULL where a backend has none. Core then calls the ops named here, and a fused op has their bits.
     *
     * gather_rows, linear_fwd (offsets NULL) or grouped_fwd, swiglu_fwd: gu = x[rows] w^T, or x w^T where rows is NULL, and
     * h = silu(gate) up of gu = gate | up as it is stored. The gathered rows are written nowhere. */
    void (*gate_up_fwd)(Backend *b, Mat h, Mat gu, Mat x, const int32_t *rows, const Mat *w, const int32_t *offsets,
                        int E);
    /* sum_squares of `count` arrays, sums [count] on the device; the list itself is the host's. */
    void (*sum_squares_list)(Backend *b, double *sums, const FloatRun *list, int count);
    /* linear_fwd: logits = x w^T, and maxima for head_stats. */
    void (*logits_fwd)(Backend *b, Mat logits, float *maxima, Mat x, Mat w);
} Ops;

/* core/ops/ops_list.h has every slot. */
#define OPS_COUNT(op) +1
static_assert(sizeof(Ops) == offsetof(Ops, describe) + (0 OPS(OPS_COUNT)) * sizeof(void (*)(void)),
              "core/ops/ops_list.h");
#undef OPS_COUNT

#endif
