/* ggml's tensor types: block sizes, and the arithmetic of the quantised ones that are read or written here. */
#ifndef CHECKPOINTS_GGML_TYPE_H
#define CHECKPOINTS_GGML_TYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    GGML_F32 = 0,
    GGML_F16 = 1,
    GGML_Q4_0 = 2,
    GGML_Q4_1 = 3,
    GGML_Q5_0 = 6,
    GGML_Q5_1 = 7,
    GGML_Q8_0 = 8,
    GGML_Q2_K = 10,
    GGML_Q3_K = 11,
    GGML_Q4_K = 12,
    GGML_Q5_K = 13,
    GGML_Q6_K = 14,
    GGML_IQ4_NL = 20,
    GGML_IQ4_XS = 23,
    GGML_BF16 = 30
};

/* Types of metadata values. */
enum { VALUE_U32 = 4, VALUE_F32 = 6, VALUE_BOOL = 7, VALUE_STRING = 8, VALUE_ARRAY = 9, VALUE_I32 = 5 };

/* Elements and bytes of a block; false for a type that is unknown. */
bool ggml_block(uint32_t type, unsigned *elements, unsigned *bytes);
const char *ggml_type_name(uint32_t type);

/* out[n] = n elements (a multiple of the block's) from `blocks`; false for a type that is known but not read. */
bool ggml_dequantise(uint32_t type, const void *blocks, uint64_t n, float *out);

/* n elements, a multiple of 32, to Q8_0 as ggml's reference: d = max |x| / 127, q = round(x / d), d kept as f16. */
void ggml_quantise_q8_0(const float *x, uint64_t n, void *blocks);

#endif
