/* rope: contract in core/ops/ops.h (Su et al., arXiv:2104.09864). */
#include <math.h>

#include "cpu/kernels/simd/rows.h"

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

/* wide: scratch for rows that are not f32. */
static void rotate_row(Row row, float *wide, const float *cos, const float *sin, int pairs, bool interleaved,
                       float sign)
{
    size_t D = 2 * (size_t)pairs;
    float *x = wide ? wide : row.p;
    if (wide) {
        EACH_V16(j, k, D)
        {
            row_store(wide + j, any_load(row, j, k), k);
        }
    }
    if (interleaved) {
        rotate(x, cos, sin, pairs, 2, 1, sign);
    } else {
        rotate(x, cos, sin, pairs, 1, pairs, sign);
    }
    if (wide) {
        EACH_V16(j, k, D)
        {
            any_store(row, j, row_load(wide + j, k), k);
        }
    }
}

static void rotate_rows(Backend *b, HeadView x, const int32_t *pos, RopeArgs a, int n, int heads)
{
    int thread = omp_get_thread_num(), pairs = a.Dr / 2;
    float sign = a.inverse ? -1.0f : 1.0f;
    ArenaMark mark = cpu_mark(b, thread);
    float *wide = x.dtype == DTYPE_F32 ? NULL : cpu_scratch(b, thread, (size_t)a.Dr);
#pragma omp for nowait
    for (int i = 0; i < n; i++) {
        const float *c = a.cos + (size_t)pos[i] * (size_t)pairs, *s = a.sin + (size_t)pos[i] * (size_t)pairs;
        for (int h = 0; h < heads; h++) {
            rotate_row(head_row(x, (size_t)i, (size_t)h), wide, c, s, pairs, a.interleaved, sign);
        }
    }
    cpu_release(b, thread, mark);
}

void cpu_rope(Backend *b, HeadView x, const int32_t *pos, RopeArgs args, int n, int heads)
{
    CHECK_EQ(args.Dr % 2, 0);
    ON_TEAM(cpu_team(b, (double)n * heads * args.Dr), rotate_rows(b, x, pos, args, n, heads));
}
