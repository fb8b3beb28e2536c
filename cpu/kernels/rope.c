#include <math.h>

#include "cpu/kernels/rows.h"

/* (a, b) -> (a cos - b sin, a sin + b cos) for pairs first[i * step], first[i * step + gap]. Element-wise: the compiler may
 * take any number of pairs at once, the bits stay. */
VEC_INLINE void rotate(float *restrict x, const float *restrict cos, const float *restrict sin, int pairs, int step,
                       int gap, float sign)
{
    for (int i = 0; i < pairs; i++) {
        float a = x[i * step], c = x[i * step + gap], s = sign * sin[i];
        x[i * step] = fmaf(-c, s, a * cos[i]);
        x[i * step + gap] = fmaf(a, s, c * cos[i]);
    }
}

void cpu_rope(Backend *b, HeadView x, const int32_t *pos, const float *cos, const float *sin, int n, int heads, int Dr,
              bool interleaved, bool inverse)
{
    CHECK_EQ(Dr % 2, 0);
    int pairs = Dr / 2;
    float sign = inverse ? -1.0f : 1.0f;
#pragma omp parallel for num_threads(cpu_team(b, (double)n * heads * Dr))
    for (int i = 0; i < n; i++) {
        const float *c = cos + (size_t)pos[i] * (size_t)pairs, *s = sin + (size_t)pos[i] * (size_t)pairs;
        for (int h = 0; h < heads; h++) {
            float *p = x.p + (size_t)i * x.row + (size_t)h * x.head;
            if (interleaved) {
                rotate(p, c, s, pairs, 2, 1, sign);
            } else {
                rotate(p, c, s, pairs, 1, pairs, sign);
            }
        }
    }
}
