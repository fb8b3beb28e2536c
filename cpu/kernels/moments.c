/* moments_widen, moments_narrow: contract in core/ops/ops.h, forms in core/moments.h. */
#include <math.h>
#include <string.h>

#include "core/base/philox.h"
#include "core/moments.h"
#include "cpu/kernels/simd/rows.h"

/* Elements that a thread takes at once: whole blocks, whole philox counters. */
enum { PIECE = 4 * MOMENT_BLOCK };

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* ---- bf16 ---- */

static void widen_bf16(float *out, const uint16_t *in, size_t n)
{
    EACH_V16(j, k, n)
    {
        row_store(out + j, v16_load_bf16_n(in + j, (int)k), k);
    }
}

static void nearest_bf16(uint16_t *out, const float *in, size_t n)
{
    EACH_V16(j, k, n)
    {
        v16_store_bf16_n(out + j, row_load(in + j, k), (int)k);
    }
}

/* The upper half after 16 random bits were added below: up with the probability of what is cut off. Positive numbers. */
static void stochastic_bf16(uint16_t *out, const float *in, size_t n, uint64_t first, const MomentRounding *r)
{
    for (size_t j = 0; j < n; j += 8) {
        uint64_t at = (first + j) / 8;
        uint32_t counter[4] = {(uint32_t)at, (uint32_t)(at >> 32), r->tensor, r->step}, random[4];
        philox4x32(random, counter, r->key);
        for (size_t i = 0; i < 8 && j + i < n; i++) {
            uint32_t bits;
            memcpy(&bits, in + j + i, sizeof bits);
            bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
            out[j + i] = nan ? 0x7fc0 : (uint16_t)((bits + (random[i / 2] >> 16 * (i % 2) & 0xffffu)) >> 16);
        }
    }
}

/* ---- 8bit ---- */

/* A block; with `square`, of square roots. */
static void widen_block(float *out, const uint8_t *codes, float scale, size_t n, const float *value, bool square)
{
    for (size_t j = 0; j < n; j++) out[j] = value[codes[j]] * scale;
    for (size_t j = 0; square && j < n; j++) out[j] = out[j] * out[j];
}

/* The nearest code of a number is how many borders are below it. Numbers whose exponents and first 8 bits of the mantissa agree
 * have at most one border among them (a code is 0.7 % wide or more, such a bucket 0.4 %): a table counts those below all of
 * them, one comparison does the rest. This takes 3.6 times as long as AdamW itself, a binary search of the borders took 7.3
 * times (docs/state.md). */
enum { BUCKET_SHIFT = 15, LOWEST = (127 - 23) << 8, BUCKETS = (127 << 8) - LOWEST + 2 };

typedef struct Buckets {
    uint8_t below[2][BUCKETS]; /* of positive numbers, of negative ones */
    float border[MOMENT_CODES];
} Buckets;

static float bucket_edge(int k) /* the smallest magnitude in bucket k, all below 2^-23 in the first */
{
    uint32_t bits = k ? (uint32_t)(k - 1 + LOWEST) << BUCKET_SHIFT : 0;
    float edge;
    memcpy(&edge, &bits, sizeof edge);
    return edge;
}

static void fill_buckets(Buckets *b, const float border[MOMENT_CODES - 1])
{
    memcpy(b->border, border, (MOMENT_CODES - 1) * sizeof *border);
    b->border[MOMENT_CODES - 1] = INFINITY;
    for (int k = 0; k < BUCKETS; k++) {
        float low = bucket_edge(k), high = bucket_edge(k + 1);
        int positive = 0, negative = 0;
        while (b->border[positive] < low) positive++;
        while (b->border[negative] <= -high) negative++;
        b->below[0][k] = (uint8_t)positive, b->below[1][k] = (uint8_t)negative;
        CHECK(k + 1 == BUCKETS || !(b->border[positive] < high && b->border[positive + 1] < high));
        CHECK(!(b->border[negative] < -low && b->border[negative + 1] < -low));
    }
}

static const Buckets *buckets_of(bool is_signed)
{
    static Buckets all[2];
    static bool filled;
    for (int s = 0; s < 2 && !filled; s++) fill_buckets(&all[s], moment_codes()->border[s]);
    filled = true;
    return &all[is_signed];
}

VEC_INLINE uint32_t nearest_code(float x, const Buckets *b)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    uint32_t k = (bits & 0x7fffffffu) >> BUCKET_SHIFT;
    k = k < LOWEST ? 0 : k - LOWEST + 1;
    k = k < BUCKETS ? k : BUCKETS - 1;
    uint32_t at = b->below[bits >> 31][k];
    return at + (x > b->border[at]);
}

static float narrow_block(uint8_t *codes, const float *in, size_t n, const Buckets *b, bool root)
{
    float x[MOMENT_BLOCK];
    v16 most = v16_zero();
    EACH_V16(j, k, n)
    {
        v16 a = root ? v16_sqrt(row_load(in + j, k)) : row_load(in + j, k);
        most = v16_max(most, v16_abs(a));
        v16_store(x + j, a);
    }
    float scale = v16_reduce_max(most);
    for (size_t j = 0; j < n; j += VEC) {
        float unit[VEC];
        uint32_t at[VEC];
        v16_store(unit, scale > 0.0f ? v16_div(v16_load(x + j), v16_set1(scale)) : v16_zero());
        for (int i = 0; i < VEC; i++) at[i] = nearest_code(unit[i], b);
        for (size_t i = 0; i < VEC && j + i < n; i++)
            codes[j + i] = (uint8_t)(root && !at[i] && x[j + i] > 0.0f ? 1 : at[i]);
    }
    return scale;
}

/* ---- The ops ---- */

static void widen_piece(float *m, float *v, const StoredMoments *s, size_t from, size_t n, const MomentCodes *c)
{
    if (s->form == MOMENTS_BF16) {
        widen_bf16(m + from, (const uint16_t *)s->m + from, n);
        widen_bf16(v + from, (const uint16_t *)s->v + from, n);
        return;
    }
    for (size_t j = from; j < from + n; j += MOMENT_BLOCK) {
        size_t some = least(MOMENT_BLOCK, from + n - j), block = j / MOMENT_BLOCK;
        widen_block(m + j, (const uint8_t *)s->m + j, s->m_scale[block], some, c->value[1], false);
        widen_block(v + j, (const uint8_t *)s->v + j, s->v_scale[block], some, c->value[0], true);
    }
}

static void narrow_piece(const StoredMoments *s, const float *m, const float *v, size_t from, size_t n,
                         const MomentRounding *r, const Buckets b[2])
{
    if (s->form == MOMENTS_BF16) {
        nearest_bf16((uint16_t *)s->m + from, m + from, n);
        stochastic_bf16((uint16_t *)s->v + from, v + from, n, r->first + from, r);
        return;
    }
    for (size_t j = from; j < from + n; j += MOMENT_BLOCK) {
        size_t some = least(MOMENT_BLOCK, from + n - j), block = j / MOMENT_BLOCK;
        s->m_scale[block] = narrow_block((uint8_t *)s->m + j, m + j, some, &b[1], false);
        s->v_scale[block] = narrow_block((uint8_t *)s->v + j, v + j, some, &b[0], true);
    }
}

void cpu_moments_widen(Backend *b, float *m, float *v, StoredMoments s, size_t n)
{
    const MomentCodes *codes = moment_codes();
#pragma omp parallel for schedule(static) num_threads(cpu_team(b, 2.0 * (double)n))
    for (size_t j = 0; j < n; j += PIECE) widen_piece(m, v, &s, j, least(PIECE, n - j), codes);
}

void cpu_moments_narrow(Backend *b, StoredMoments s, const float *m, const float *v, size_t n, MomentRounding r)
{
    const Buckets *buckets = buckets_of(false);
#pragma omp parallel for schedule(static) num_threads(cpu_team(b, 16.0 * (double)n))
    for (size_t j = 0; j < n; j += PIECE) narrow_piece(&s, m, v, j, least(PIECE, n - j), &r, buckets);
}
