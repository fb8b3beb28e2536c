/* Log-probabilities of the output head, their entropy and KL, and the gradient of the logits. */
#include "gpu/kernels/softmax.cuh"

/* Maxima of a row of V. */
DEVICE size_t groups_of(size_t V)
{
    return (V + MAXIMA_COLUMNS - 1) / MAXIMA_COLUMNS;
}

DEVICE const float *maxima_of(const float *maxima, size_t n, size_t V)
{
    return maxima ? maxima + n * groups_of(V) : NULL;
}

/* x_j <- (x_j scale - max) - log sum; each lane writes the columns it owns. maxima: of x by groups of columns, or NULL. */
DEVICE void log_softmax_row(float *x, size_t V, float scale, const float *maxima)
{
    const float *from = maxima ? maxima : x;
    size_t count = maxima ? groups_of(V) : V;
    float max = half_max(lane_scaled_max(from, count, scale, threadIdx.x % HALF_WARP, HALF_WARP));
    float log_sum = log_r1(half_exp_sum(x, V, scale, max));
    EACH_FOUR(j, threadIdx.x % HALF_WARP, HALF_WARP, V)
    {
        float4 v = scale4(load4(x, j, V), scale);
        store4(x, j, V,
               make_float4(v.x - max - log_sum, v.y - max - log_sum, v.z - max - log_sum, v.w - max - log_sum));
    }
}

/* p value, 0 where p is 0 (log p may be -inf there). */
DEVICE float times_p(float p, float value)
{
    return p == 0.0f ? 0.0f : p * value;
}

/* sum_j p_j (log p_j - log q_j), or without q sum_j p_j log p_j. */
DEVICE float half_mean(const float *logp, const float *logq, size_t V)
{
    float4 s = make_float4(0, 0, 0, 0);
    EACH_FOUR(j, threadIdx.x % HALF_WARP, HALF_WARP, V)
    {
        float4 l = load4(logp, j, V, -INFINITY), d = l; /* -inf: p is 0 */
        if (logq) {
            float4 q = load4(logq, j, V);
            d = make_float4(l.x - q.x, l.y - q.y, l.z - q.z, l.w - q.w);
        }
        s = add4(s, make_float4(times_p(exp_r1(l.x), d.x), times_p(exp_r1(l.y), d.y), times_p(exp_r1(l.z), d.z),
                                times_p(exp_r1(l.w), d.w)));
    }
    return half_sum(s);
}

/* In place: logits become log softmax(logits scale), ref (where ref.p) likewise. A half-warp a row, V in strips of 64; every
 * lane reads again only what it wrote. Bound: bytes (three reads and a write of the logits, two reads with their maxima). */
__global__ void __launch_bounds__(ROW_THREADS)
    head_stats(Mat logits, HeadStats out, const int32_t *targets, float scale, Mat ref, HeadMaxima known)
{
    size_t n = half_row();
    bool on = n < logits.rows, owner = on && threadIdx.x % HALF_WARP == 0;
    size_t V = on ? logits.cols : 0;
    float *row = row_ptr(logits, on ? n : 0), *logq = ref.p ? row_ptr(ref, on ? n : 0) : NULL;
    log_softmax_row(row, V, scale, maxima_of(known.logits, n, V));
    if (out.entropy) {
        float mean = half_mean(row, NULL, V);
        if (owner) out.entropy[n] = -mean;
    }
    if (logq) log_softmax_row(logq, V, scale, maxima_of(known.ref, n, V));
    if (logq && out.kl) {
        float kl = half_mean(row, logq, V);
        if (owner) out.kl[n] = kl;
    }
    __syncwarp(); /* the target's column may be another lane's */
    if (owner) out.lp[n] = targets[n] < 0 ? 0.0f : row[targets[n]];
}

/* A row's coefficients and values. */
typedef struct RowGrad {
    float lp, entropy, kl, H, KL;
} RowGrad;

DEVICE float logit_grad(float l, float logq, bool has_ref, bool forward, float scale, RowGrad g)
{
    float p = exp_r1(l), sum = fmaf(-g.entropy, l + g.H, -g.lp);
    if (has_ref && forward) return scale * fmaf(g.kl, p - exp_r1(logq), times_p(p, sum));
    if (has_ref) sum = fmaf(g.kl, l - logq - g.KL, sum);
    return scale * times_p(p, sum);
}

/* In place: log p becomes the gradient of the raw logits. A half-warp a row. Bound: bytes (a read and a write). */
__global__ void __launch_bounds__(ROW_THREADS)
    head_grad(Mat logp, const int32_t *targets, float scale, HeadGrads by, Mat ref)
{
    size_t n = half_row();
    bool on = n < logp.rows;
    size_t V = on ? logp.cols : 0, row_number = on ? n : 0;
    int target = on ? targets[n] : -1;
    float *row = row_ptr(logp, row_number);
    RowGrad g = {target < 0 ? 0.0f : by.dlp[n], 0.0f, 0.0f, 0.0f, 0.0f};
    if (by.dentropy) g.entropy = on ? by.dentropy[n] : 0.0f, g.H = on ? by.entropy[n] : 0.0f;
    if (by.dkl) g.kl = on ? by.dkl[n] : 0.0f, g.KL = on ? by.kl[n] : 0.0f;
    const float *logq = by.dkl ? row_ptr(ref, row_number) : NULL;
    bool zero = g.lp == 0.0f && g.entropy == 0.0f && g.kl == 0.0f;
    for (size_t j = threadIdx.x % HALF_WARP; j < V; j += HALF_WARP)
        row[j] = zero ? 0.0f : logit_grad(row[j], logq ? logq[j] : 0.0f, logq != NULL, by.forward, scale, g);
    __syncwarp();
    if (on && !zero && target >= 0 && threadIdx.x % HALF_WARP == 0) row[target] = fmaf(scale, g.lp, row[target]);
}

void gpu_head_stats(Backend *b, Mat logits, HeadStats out, const int32_t *targets, float inv_temperature,
                    const Mat *ref, HeadMaxima known)
{
    check_f32(logits);
    CHECK(inv_temperature > 0.0f || (!known.logits && !known.ref));
    Mat q = {};
    if (ref) {
        check_f32(*ref);
        CHECK_EQ(ref->rows, logits.rows);
        CHECK_EQ(ref->cols, logits.cols);
        q = *ref;
    }
    if (logits.rows)
        LAUNCH(head_stats, ceil_div(logits.rows, HALF_ROWS), ROW_THREADS, 0, b->stream, logits, out, targets,
               inv_temperature, q, known);
}

void gpu_head_grad(Backend *b, Mat logp, const int32_t *targets, float inv_temperature, HeadGrads by, const Mat *ref)
{
    check_f32(logp);
    CHECK(!by.dentropy || by.entropy);
    CHECK(!by.dkl || (by.kl && ref));
    Mat q = {};
    if (ref) q = *ref;
    if (logp.rows)
        LAUNCH(head_grad, ceil_div(logp.rows, HALF_ROWS), ROW_THREADS, 0, b->stream, logp, targets, inv_temperature, by,
               q);
}
