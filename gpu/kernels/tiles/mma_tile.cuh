/* Operands of tensor-core products in shared memory: rows of chunks of 8 bf16 (16 bytes), placed so that the eight rows that one
 * ldmatrix reads lie in different banks; and the fragments of mma.m16n8k16 out of them. */
#ifndef GPU_KERNELS_MMA_TILE_CUH
#define GPU_KERNELS_MMA_TILE_CUH

#include "gpu/kernels/rows.cuh"

enum { CHUNK = 8 };

/* Element (r, 8 c) of rows of CH chunks. */
template <int CH> DEVICE uint16_t *chunk_at(uint16_t *tile, int r, int c)
{
    int at = CH == 4 ? c ^ (r >> 1 & 3) : (c & ~7) | ((c ^ r) & 7);
    return tile + (size_t)(r * CH + at) * CHUNK;
}

/* Begins the copy of ROWS rows of CH chunks; zeros from row `rows` and from column `cols` on. x: 16-byte aligned, stride a
 * multiple of 8; a chunk that begins before `cols` is read whole. */
template <int ROWS, int CH, int THREADS>
DEVICE void copy_tile(uint16_t *tile, const uint16_t *x, size_t stride, int rows, int cols)
{
#pragma unroll
    for (int e = (int)threadIdx.x; e < ROWS * CH; e += THREADS) {
        int r = e / CH, c = e % CH;
        bool in = r < rows && c * CHUNK < cols;
        copy_async16(chunk_at<CH>(tile, r, c), in ? x + (size_t)r * stride + (size_t)(c * CHUNK) : x, in);
    }
}

/* a[16 rows][16 k] at (row, k) of a tile [rows][k]. */
template <int CH> DEVICE void a_rows(uint32_t (&a)[4], uint16_t *tile, int row, int k)
{
    int lane = (int)threadIdx.x % WARP;
    load_matrix4(a, chunk_at<CH>(tile, row + (lane & 15), k / CHUNK + (lane >> 4)));
}

/* The same of a tile [k][rows]. */
template <int CH> DEVICE void a_columns(uint32_t (&a)[4], uint16_t *tile, int row, int k)
{
    int lane = (int)threadIdx.x % WARP;
    load_matrix4_trans(a, chunk_at<CH>(tile, k + (lane & 7) + (lane >> 4) * 8, row / CHUNK + (lane >> 3 & 1)));
}

/* b[16 k][16 columns] at (column, k) of a tile [columns][k]: b[0], b[1] are the first eight columns', b[2], b[3] the others'. */
template <int CH> DEVICE void b_rows(uint32_t (&b)[4], uint16_t *tile, int column, int k)
{
    int lane = (int)threadIdx.x % WARP;
    load_matrix4(b, chunk_at<CH>(tile, column + (lane & 7) + (lane >> 4) * 8, k / CHUNK + (lane >> 3 & 1)));
}

/* The same of a tile [k][columns]. */
template <int CH> DEVICE void b_columns(uint32_t (&b)[4], uint16_t *tile, int column, int k)
{
    int lane = (int)threadIdx.x % WARP;
    load_matrix4_trans(b, chunk_at<CH>(tile, k + (lane & 15), column / CHUNK + (lane >> 4)));
}

/* c[16 rows][16 columns] += a b. */
DEVICE void mma_16x16(float (&left)[4], float (&right)[4], const uint32_t (&a)[4], const uint32_t (&b)[4])
{
    mma16816(left, a, b[0], b[1]);
    mma16816(right, a, b[2], b[3]);
}

/* The four lanes of a row. */
DEVICE float quad_max(float v)
{
    v = larger(__shfl_xor_sync(0xffffffffu, v, 1), v);
    return larger(__shfl_xor_sync(0xffffffffu, v, 2), v);
}

/* Columns n, n + 1 (n even) of a row of N. */
DEVICE void put_pair(Row row, int n, int N, float x, float y)
{
    if (n >= N) return;
    size_t at = (size_t)n;
    if (n + 1 < N && ((uintptr_t)row.p + at * (row.half ? 2 : 4)) % (row.half ? 4 : 8) == 0) {
        if (row.half) ((uint32_t *)row.p)[at / 2] = pack_bf16(x, y);
        else ((float2 *)row.p)[at / 2] = make_float2(x, y);
        return;
    }
    row_put(row, at, x);
    if (n + 1 < N) row_put(row, at + 1, y);
}

#endif
