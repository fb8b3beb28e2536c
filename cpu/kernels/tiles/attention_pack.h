/* Packs strided rows of keys and values into the layouts that the attention kernels read. */
#ifndef CPU_KERNELS_ATTENTION_PACK_H
#define CPU_KERNELS_ATTENTION_PACK_H

#include "core/ops/ops.h"
#include "cpu/kernels/simd/rows.h"

enum { TOUCH_ROWS = 128 };

/* Next multiple of 16. */
static inline size_t round16(int n)
{
    return (size_t)(n + 15) / 16 * 16;
}

static inline int min_int(int a, int b)
{
    return a < b ? a : b;
}

/* dst[d * KEY_TILE + j] = src[j * row + d] for j < rows <= KEY_TILE, d < D. Lanes from rows to the next multiple of
 * 16 become 0, those after are not written. */
static inline void pack_columns(float *dst, Row src, size_t row, int rows, int D)
{
    for (int j = 0; j < rows; j += 16)
        for (int d = 0; d < D; d += 16) {
            v16 square[16];
            int height = min_int(16, rows - j), width = min_int(16, D - d);
            for (int i = 0; i < 16; i++)
                square[i] = i < height ? any_load(src, (size_t)(j + i) * row + (size_t)d, (size_t)width) : v16_zero();
            v16_transpose(square);
            for (int i = 0; i < width; i++) v16_store(dst + (size_t)(d + i) * KEY_TILE + j, square[i]);
        }
}

/* dst[d] = src[d] for d < D. */
static inline void pack_row(float *dst, Row src, int D)
{
    int d = 0;
    if (src.dtype == DTYPE_F32)
        for (; d + VEC <= D; d += VEC) v16_store(dst + d, v16_load((const float *)src.p + d));
    for (; d < D; d += VEC) {
        size_t lanes = row_lanes((size_t)(D - d));
        row_store(dst + d, any_load(src, (size_t)d, lanes), lanes);
    }
}

/* dst[j * dst_row + d] = src[j * row + d] for j < rows, d < D. */
static inline void pack_rows(float *dst, size_t dst_row, Row src, size_t row, int rows, int D)
{
    for (int j = 0; j < rows; j++) pack_row(dst + (size_t)j * dst_row, row_from(src, (size_t)j * row), D);
}

/* The same with the columns from D to the next multiple of 16 set to 0; dst_row reaches that far. */
static inline void pack_rows_padded(float *dst, size_t dst_row, Row src, size_t row, int rows, int D)
{
    if (D % 16 == 0) {
        pack_rows(dst, dst_row, src, row, rows, D);
        return;
    }
    for (int j = 0; j < rows; j++)
        for (int d = 0; d < D; d += 16)
            v16_store(dst + (size_t)j * dst_row + d,
                      any_load(src, (size_t)j * row + (size_t)d, row_lanes((size_t)(D - d))));
}

static inline Row head_at(HeadView view, size_t n, int h)
{
    return head_row(view, n, (size_t)h);
}

/* Loads `rows` rows from row n on, `heads` heads of D values each, into L2 by reading a value of every cache line in memory
 * order. The hardware prefetcher follows this stream; it does not follow a single head's, which takes two or three lines out of
 * every row. */
static inline void touch_rows(HeadView view, size_t n, size_t rows, int heads, int D)
{
    if (rows == 0 || D == 0) return;
    size_t values = (rows - 1) * view.row + (size_t)(heads - 1) * view.head + (size_t)D;
    const char *p = head_at(view, n, 0).p, *end = p + values * dtype_size(view.dtype);
    for (; p < end; p += 64) *(const volatile char *)p;
}

/* Whether both lie in one matrix, so that touching one touches the other. */
static inline bool in_one_matrix(HeadView a, HeadView b)
{
    ptrdiff_t apart = (const char *)a.p - (const char *)b.p, row = (ptrdiff_t)(a.row * dtype_size(a.dtype));
    return a.row == b.row && apart > -row && apart < row;
}

/* Rows [from, to), when they are few enough to stay in L2. */
static inline void touch_inputs(AttentionShape s, const AttentionInputs *in, int from, int to)
{
    size_t n = (size_t)from, rows = (size_t)(to - from);
    if (rows > TOUCH_ROWS) return;
    touch_rows(in->q, n, rows, s.H, s.Dn + s.Dr);
    touch_rows(in->k, n, rows, s.Hkv, s.Dn);
    if (!in_one_matrix(in->k_rope, in->q)) touch_rows(in->k_rope, n, rows, s.Hkv, s.Dr);
    if (!in_one_matrix(in->v, in->q) && !(s.Dn && in_one_matrix(in->v, in->k))) touch_rows(in->v, n, rows, s.Hkv, s.Dv);
}

static inline void touch_outputs(AttentionShape s, HeadView o, int from, int to)
{
    if (to - from <= TOUCH_ROWS) touch_rows(o, (size_t)from, (size_t)(to - from), s.H, s.Dv);
}

/* Row n of head h of an f32 view. */
static inline float *head_f32(HeadView view, size_t n, int h)
{
    CHECK_EQ(view.dtype, DTYPE_F32);
    return head_row(view, n, (size_t)h).p;
}

static inline Row f32_row(const float *p)
{
    return (Row){(void *)p, DTYPE_F32};
}

/* Keys of rows [n, n + rows) of key head h as one tile [Dn + Dr][KEY_TILE]. */
static inline void pack_key_tile(float *dst, AttentionShape s, const AttentionInputs *in, size_t n, int rows, int h)
{
    if (s.Dn) pack_columns(dst, head_at(in->k, n, h), in->k.row, rows, s.Dn);
    if (s.Dr) pack_columns(dst + (size_t)s.Dn * KEY_TILE, head_at(in->k_rope, n, h), in->k_rope.row, rows, s.Dr);
}

#endif
