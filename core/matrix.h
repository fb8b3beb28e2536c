/* Matrix arguments of every op: one struct. */
#ifndef CORE_MATRIX_H
#define CORE_MATRIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { DTYPE_F32 = 0, DTYPE_BF16 = 1 } DType;

/* A row-major view: element (i, j) is at p[i * stride + j]; stride >= cols counts elements. A view never owns. passing: other
 * numbers may lie at this address a moment later (core/keeper.h), so a backend makes and looks for no copy by address. */
typedef struct Mat {
    void *p;
    DType dtype;
    size_t rows, cols, stride;
    bool passing;
} Mat;

/* "f32", "bf16" */
static inline const char *dtype_name(DType t)
{
    return t == DTYPE_F32 ? "f32" : "bf16";
}

static inline size_t dtype_size(DType t)
{
    return t == DTYPE_F32 ? 4 : 2;
}

static inline Mat mat_of(void *p, DType dtype, size_t rows, size_t cols)
{
    return (Mat){p, dtype, rows, cols, cols, false};
}

static inline Mat mat_f32(float *p, size_t rows, size_t cols)
{
    return (Mat){p, DTYPE_F32, rows, cols, cols, false};
}

/* Columns [from, from + cols) of m. */
static inline Mat mat_cols(Mat m, size_t from, size_t cols)
{
    return (Mat){(char *)m.p + from * dtype_size(m.dtype), m.dtype, m.rows, cols, m.stride, m.passing};
}

/* Rows [from, from + rows) of m. */
static inline Mat mat_rows(Mat m, size_t from, size_t rows)
{
    return (Mat){(char *)m.p + from * m.stride * dtype_size(m.dtype), m.dtype, rows, m.cols, m.stride, m.passing};
}

/* Row i of an f32 view. */
static inline float *mat_row(Mat m, size_t i)
{
    return (float *)m.p + i * m.stride;
}

#endif
