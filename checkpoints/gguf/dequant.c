/* ggml's tensor types: names, block sizes, and the value of every element of the types that are read. */
#include <math.h>
#include <string.h>

#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/float16.h"

enum { SMALL = 32, SUPER = 256 }; /* elements of a block, of a K-quant's super-block */

static const struct {
    uint32_t type;
    const char *name;
    unsigned elements, bytes;
} types[] = {
    {GGML_F32, "F32", 1, 4},
    {GGML_F16, "F16", 1, 2},
    {GGML_Q4_0, "Q4_0", 32, 18},
    {GGML_Q4_1, "Q4_1", 32, 20},
    {GGML_Q5_0, "Q5_0", 32, 22},
    {GGML_Q5_1, "Q5_1", 32, 24},
    {GGML_Q8_0, "Q8_0", 32, 34},
    {9, "Q8_1", 32, 36},
    {GGML_Q2_K, "Q2_K", 256, 84},
    {GGML_Q3_K, "Q3_K", 256, 110},
    {GGML_Q4_K, "Q4_K", 256, 144},
    {GGML_Q5_K, "Q5_K", 256, 176},
    {GGML_Q6_K, "Q6_K", 256, 210},
    {15, "Q8_K", 256, 292},
    {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},
    {18, "IQ3_XXS", 256, 98},
    {19, "IQ1_S", 256, 50},
    {GGML_IQ4_NL, "IQ4_NL", 32, 18},
    {21, "IQ3_S", 256, 110},
    {22, "IQ2_S", 256, 82},
    {GGML_IQ4_XS, "IQ4_XS", 256, 136},
    {24, "I8", 1, 1},
    {25, "I16", 1, 2},
    {26, "I32", 1, 4},
    {27, "I64", 1, 8},
    {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},
    {GGML_BF16, "BF16", 1, 2},
    {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},
    {39, "MXFP4", 32, 17},
};
enum { TYPES = sizeof types / sizeof *types };

static int place_of(uint32_t type)
{
    for (int i = 0; i < TYPES; i++)
        if (types[i].type == type) return i;
    return -1;
}

bool ggml_block(uint32_t type, unsigned *elements, unsigned *bytes)
{
    int i = place_of(type);
    if (i < 0) return false;
    *elements = types[i].elements;
    *bytes = types[i].bytes;
    return true;
}

const char *ggml_type_name(uint32_t type)
{
    int i = place_of(type);
    return i < 0 ? "unknown" : types[i].name;
}

static float half_at(const uint8_t *p)
{
    return f32_of_f16((uint16_t)(p[0] | p[1] << 8));
}

/* The types without blocks; false for the others. */
static bool convert_plain(uint32_t type, const uint8_t *p, uint64_t n, float *out)
{
    switch (type) {
    case GGML_F32: memcpy(out, p, n * sizeof *out); return true;
    case GGML_F16:
        for (uint64_t i = 0; i < n; i++) out[i] = half_at(p + 2 * i);
        return true;
    case GGML_BF16:
        for (uint64_t i = 0; i < n; i++) out[i] = f32_of_bf16((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
        return true;
    default: return false;
    }
}

/* ---- Blocks of 32: element j < 16 is the low nibble of byte j, element j + 16 its high nibble ---- */

static void q4_0(const uint8_t *p, float *out)
{
    float d = half_at(p);
    for (int j = 0; j < SMALL / 2; j++) {
        out[j] = d * (float)((p[2 + j] & 15) - 8);
        out[j + SMALL / 2] = d * (float)((p[2 + j] >> 4) - 8);
    }
}

static void q4_1(const uint8_t *p, float *out)
{
    float d = half_at(p), m = half_at(p + 2);
    for (int j = 0; j < SMALL / 2; j++) {
        out[j] = d * (float)(p[4 + j] & 15) + m;
        out[j + SMALL / 2] = d * (float)(p[4 + j] >> 4) + m;
    }
}

/* Bit j of `high` is the fifth bit of element j. */
static int five_bits(const uint8_t *nibbles, uint32_t high, int j)
{
    int low = j < SMALL / 2 ? nibbles[j] & 15 : nibbles[j - SMALL / 2] >> 4;
    return low | (int)(high >> j & 1) << 4;
}

static uint32_t u32_at(const uint8_t *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void q5_0(const uint8_t *p, float *out)
{
    float d = half_at(p);
    uint32_t high = u32_at(p + 2);
    for (int j = 0; j < SMALL; j++) out[j] = d * (float)(five_bits(p + 6, high, j) - 16);
}

static void q5_1(const uint8_t *p, float *out)
{
    float d = half_at(p), m = half_at(p + 2);
    uint32_t high = u32_at(p + 4);
    for (int j = 0; j < SMALL; j++) out[j] = d * (float)five_bits(p + 8, high, j) + m;
}

static void q8_0(const uint8_t *p, float *out)
{
    float d = half_at(p);
    for (int j = 0; j < SMALL; j++) out[j] = d * (float)(int8_t)p[2 + j];
}

/* IQ4: a nibble is a place in this table. */
static const int8_t iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

/* 32 elements of 16 bytes, each d times its value. */
static void iq4_block(const uint8_t *nibbles, float d, float *out)
{
    for (int j = 0; j < SMALL / 2; j++) {
        out[j] = d * (float)iq4_values[nibbles[j] & 15];
        out[j + SMALL / 2] = d * (float)iq4_values[nibbles[j] >> 4];
    }
}

static void iq4_nl(const uint8_t *p, float *out)
{
    iq4_block(p + 2, half_at(p), out);
}

/* ---- Super-blocks of 256 ---- */

/* f16 d; 16 bits with the upper two bits of eight scales; 4 bytes with their lower nibbles; 128 bytes of nibbles. */
static void iq4_xs(const uint8_t *p, float *out)
{
    float d = half_at(p);
    unsigned high = p[2] | (unsigned)p[3] << 8;
    for (int j = 0; j < SUPER / SMALL; j++) {
        int scale = (p[4 + j / 2] >> 4 * (j % 2) & 15) | (int)(high >> 2 * j & 3) << 4;
        iq4_block(p + 8 + 16 * j, d * (float)(scale - 32), out + SMALL * j);
    }
}

/* Element e of a half of 128: its two bits lie in byte e % 32 of 32 bytes, from bit 2 (e / 32) on; 16 elements share a scale. */
static int two_bits(const uint8_t *quarters, int e)
{
    return quarters[e % 32] >> 2 * (e / 32) & 3;
}

/* 16 bytes of scales (low nibble) and minima (high nibble); 64 bytes of two bits; f16 d, dmin: d * scale * q - dmin * min. */
static void q2_k(const uint8_t *p, float *out)
{
    float d = half_at(p + 80), dmin = half_at(p + 82);
    for (int e = 0; e < SUPER; e++) {
        int h = e / 128, s = p[e / 16];
        out[e] = d * (float)(s & 15) * (float)two_bits(p + 16 + 32 * h, e % 128) - dmin * (float)(s >> 4);
    }
}

/* Scale j of 16, six bits: the lower four are the nibbles of bytes 0-7, the upper two lie in bytes 8-11. */
static int q3_scale(const uint8_t *b, int j)
{
    int low = j < 8 ? b[j] & 15 : b[j - 8] >> 4;
    return (low | (b[8 + j % 4] >> 2 * (j / 4) & 3) << 4) - 32;
}

/* 32 bytes of third bits (bit h * 4 + quarter; absent means 4 less); 64 bytes of two bits; 12 bytes of scales; f16 d. */
static void q3_k(const uint8_t *p, float *out)
{
    float d = half_at(p + 108);
    for (int e = 0; e < SUPER; e++) {
        int third = p[e % 32] >> (e / 32) & 1;
        int q = two_bits(p + 32 + 32 * (e / 128), e % 128) - (third ? 0 : 4);
        out[e] = d * (float)q3_scale(p + 96, e / 16) * (float)q;
    }
}

/* Scale and minimum of sub-block j, six bits each, packed in 12 bytes. */
static void scale_min(const uint8_t *b, int j, int *scale, int *min)
{
    if (j < 4) {
        *scale = b[j] & 63;
        *min = b[j + 4] & 63;
    } else {
        *scale = (b[j + 4] & 15) | (b[j - 4] >> 6) << 4;
        *min = (b[j + 4] >> 4) | (b[j] >> 6) << 4;
    }
}

/* Q4_K, and with `high` (32 bytes of fifth bits) Q5_K: sub-blocks 2k and 2k + 1 are the nibbles of 32 bytes. */
static void q45_k(const uint8_t *p, const uint8_t *high, const uint8_t *nibbles, float *out)
{
    float d = half_at(p), dmin = half_at(p + 2);
    for (int j = 0; j < SUPER / SMALL; j++) {
        int scale, min;
        scale_min(p + 4, j, &scale, &min);
        float step = d * (float)scale, low = dmin * (float)min;
        for (int l = 0; l < SMALL; l++) {
            int q = j % 2 ? nibbles[j / 2 * 32 + l] >> 4 : nibbles[j / 2 * 32 + l] & 15;
            if (high) q |= (high[l] >> j & 1) << 4;
            out[j * SMALL + l] = step * (float)q - low;
        }
    }
}

static void q4_k(const uint8_t *p, float *out)
{
    q45_k(p, NULL, p + 16, out);
}

static void q5_k(const uint8_t *p, float *out)
{
    q45_k(p, p + 16, p + 48, out);
}

/* Two halves of 128: ql 64 bytes, qh 32 bytes, 8 scales each. */
static void q6_k(const uint8_t *p, float *out)
{
    float d = half_at(p + 208);
    for (int h = 0; h < 2; h++) {
        const uint8_t *ql = p + 64 * h, *qh = p + 128 + 32 * h;
        const int8_t *scales = (const int8_t *)p + 192 + 8 * h;
        for (int e = 0; e < 128; e++) {
            int l = e % 32, quarter = e / 32;
            int nibble = quarter < 2 ? ql[l + 32 * (quarter % 2)] & 15 : ql[l + 32 * (quarter % 2)] >> 4;
            int q = (nibble | (qh[l] >> 2 * quarter & 3) << 4) - 32;
            out[128 * h + e] = d * (float)scales[e / 16] * (float)q;
        }
    }
}

bool ggml_dequantise(uint32_t type, const void *blocks, uint64_t n, float *out)
{
    if (convert_plain(type, blocks, n, out)) return true;
    void (*one)(const uint8_t *, float *);
    switch (type) {
    case GGML_Q4_0: one = q4_0; break;
    case GGML_Q4_1: one = q4_1; break;
    case GGML_Q5_0: one = q5_0; break;
    case GGML_Q5_1: one = q5_1; break;
    case GGML_Q8_0: one = q8_0; break;
    case GGML_Q2_K: one = q2_k; break;
    case GGML_Q3_K: one = q3_k; break;
    case GGML_IQ4_NL: one = iq4_nl; break;
    case GGML_IQ4_XS: one = iq4_xs; break;
    case GGML_Q4_K: one = q4_k; break;
    case GGML_Q5_K: one = q5_k; break;
    case GGML_Q6_K: one = q6_k; break;
    default: return false;
    }
    unsigned elements = 1, bytes = 1;
    ggml_block(type, &elements, &bytes);
    const uint8_t *p = blocks;
    for (uint64_t i = 0; i < n; i += elements, p += bytes) one(p, out + i);
    return true;
}

void ggml_quantise_q8_0(const float *x, uint64_t n, void *blocks)
{
    uint8_t *p = blocks;
    for (uint64_t i = 0; i < n; i += SMALL, p += 2 + SMALL) {
        float max = 0.0f;
        for (int j = 0; j < SMALL; j++) max = fmaxf(max, fabsf(x[i + (uint64_t)j]));
        float d = max / 127.0f, inverse = d != 0.0f ? 1.0f / d : 0.0f;
        uint16_t half = f16_of_f32(d);
        p[0] = (uint8_t)half;
        p[1] = (uint8_t)(half >> 8);
        for (int j = 0; j < SMALL; j++) p[2 + j] = (uint8_t)(int8_t)roundf(x[i + (uint64_t)j] * inverse);
    }
}
