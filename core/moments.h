/* The forms in which AdamW's two moments rest between updates.
 *
 * f32: as they are computed. In the others, matrices (all but the router and a scalar head) are stored in fewer bits and
 * everything else stays f32:
 *   bf16   the first moment to the nearest; the second by stochastic rounding: at beta2 = 0.999 an update changes it by at most
 *          0.1 % as it falls, less than half of a bf16's last bit (0.2 to 0.4 %), so that to the nearest it would never fall;
 *   8bit   Dettmers et al., arXiv:2110.02861: blocks of 256 values of a tensor, each with its largest magnitude as an f32
 *          scale, and a byte a value, the nearest of 256 numbers in [-1, 1] or [0, 1] that lie close together near 0 (its dynamic
 *          tree quantisation, section 1.3). Tensors below 4,096 values stay f32, as in bitsandbytes. Of the second moment it is
 *          the square root that is stored, 12 powers of ten instead of 6, and what is not zero never becomes zero: AdamW
 *          divides by it. */
#ifndef CORE_MOMENTS_H
#define CORE_MOMENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { MOMENTS_F32, MOMENTS_BF16, MOMENTS_8BIT } MomentForm;
enum { MOMENT_BLOCK = 256, MOMENT_CODES = 256, MOMENT_SMALL = 4096, MOMENT_ALIGN = 64 };

const char *moment_form_name(int k); /* "f32", "bf16", "8bit"; NULL after the last */

/* Bytes of one moment of `count` values, a multiple of MOMENT_ALIGN. 8bit: the codes, then the scales (moment_scales_at). */
size_t moment_bytes(MomentForm form, size_t count);
size_t moment_scales_at(size_t count);

/* Both moments of a run of one tensor's values in a stored form (not f32); it begins at a multiple of MOMENT_BLOCK. */
typedef struct StoredMoments {
    MomentForm form;
    void *m, *v;
    float *m_scale, *v_scale; /* 8bit: a scale a block */
} StoredMoments;

/* Values from `from` on, of a tensor of `count` values whose stored moments begin at m and v. */
StoredMoments moments_view(MomentForm form, void *m, void *v, size_t count, size_t from);

/* What the bits of stochastic rounding follow from: philox4x32(counter {index / 8 (64 bits), tensor, step}, key) has 16 bits for
 * each of the tensor's values index .. index + 7; `first` is the run's first index, a multiple of 8. */
typedef struct MomentRounding {
    uint32_t key[2], tensor, step;
    uint64_t first;
} MomentRounding;

/* Number k of 256 in ascending order. Positive ones: in each power of ten 10^-7 .. 1 the middles of 1, 2, .. 64 (`is_signed`) or
 * 2, 4, .. 128 equal cells of [0.1, 1]; then 0 and 1; is_signed: the negative ones too (1 has none). */
#ifdef __cplusplus
constexpr
#endif
    static inline float
    moment_code(bool is_signed, int k)
{
    const double tens[] = {1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1e0};
    int zero = is_signed ? 127 : 0, n = k < zero ? zero - k : k - zero; /* n-th from 0 */
    int cells = is_signed ? 1 : 2, before = 0, decade = 0;
    if (n == 0) return 0.0f;
    if (k == MOMENT_CODES - 1) return 1.0f;
    for (; n - 1 - before >= cells; before += cells, cells *= 2) decade++;
    double x = (0.1 + 0.9 * (n - 1 - before + 0.5) / cells) * tens[decade];
    return (float)(k < zero ? -x : x);
}

/* Half way between number k and the next: what is above it becomes k + 1 or more. */
#ifdef __cplusplus
constexpr
#endif
    static inline float
    moment_border(bool is_signed, int k)
{
    return (float)(((double)moment_code(is_signed, k) + (double)moment_code(is_signed, k + 1)) / 2);
}

/* Both for all k, unsigned [0] and signed [1]. */
typedef struct MomentCodes {
    float value[2][MOMENT_CODES], border[2][MOMENT_CODES - 1];
} MomentCodes;
#ifndef __cplusplus
const MomentCodes *moment_codes(void); /* made by the first call, which is for one thread */
#endif

#endif
