/* The register tile of the native matmul: R rows x V vectors of c = sum_k a[r][k] b[k][:], every element one chain of FMAs
 * over k ascending. R and V are constants wherever it is inlined, so that the sums live in registers. */
#ifndef CPU_KERNELS_GEMM_TILE_H
#define CPU_KERNELS_GEMM_TILE_H

#include "cpu/kernels/simd/rows.h"

/* Vectors of a panel: columns of b whose steps lie side by side. */
#if defined(__AVX512F__)
enum { PANEL_VECTORS = 4 };
#else
enum { PANEL_VECTORS = 1 };
#endif

/* What a and b hold: f32 both; f32 and bf16; pairs of bf16 with neighbouring k both, multiplied and added two at a time by
 * v16_dot (k then counts pairs). An element of a takes 4 bytes in each, of b 4, 2, 4. */
typedef enum { TILE_F32, TILE_HALF, TILE_DOT, TILE_KINDS } TileKind;

/* a(r, k) = a[r * a_row + k * a_k]; panel i of b's row k is at b[k * b_k + i * b_panel], all vectors of it readable. The chains
 * start at `start` (NULL: 0), [R][16 V] with row stride start_row. c (f32 or bf16), whose columns of panel i begin at column
 * i * c_panel, gets them plus bias (NULL: none), or has them added; `cols` of all 16 V columns exist. */
typedef struct Tile {
    const void *a, *b;
    size_t a_row, a_k, b_k, b_panel, K;
    const float *start;
    size_t start_row;
    Row c;
    size_t c_row, c_panel, cols;
    const float *bias;
    bool add;
} Tile;

VEC_INLINE const void *tile_a(const void *a, size_t elements)
{
    return (const float *)a + elements;
}

/* Where vector v is when panels are `apart`. */
VEC_INLINE size_t tile_column(size_t v, size_t apart)
{
    return v / PANEL_VECTORS * apart + v % PANEL_VECTORS * VEC;
}

VEC_INLINE const void *tile_b(TileKind kind, const void *b, size_t elements)
{
    return (const char *)b + elements * (kind == TILE_HALF ? 2 : 4);
}

/* Bias, bf16, the cut end of a row: sums [R][V] go to c one by one. One function for every tile, or each would hold 24 copies
 * of this; through memory, or the sums would not stay in registers. */
static __attribute__((noinline, unused)) void tile_finish_slowly(const Tile *t, const float *sums, size_t R, size_t V)
{
    for (size_t i = 0; i < R * V; i++) {
        size_t v = i % V, k = v + 1 < V ? VEC : row_lanes(t->cols - v * VEC);
        size_t j = tile_column(v, t->c_panel), at = i / V * t->c_row + j;
        v16 sum = v16_load(sums + i * VEC);
        if (t->bias) {
            sum = v16_add(sum, row_load(t->bias + j, k));
        }
        if (t->add) {
            sum = v16_add(any_load(t->c, at, k), sum);
        }
        any_store(t->c, at, sum, k);
    }
}

/* A whole f32 vector of c. */
VEC_INLINE void tile_finish(const Tile *t, v16 sum, size_t r, size_t column)
{
    float *c = (float *)t->c.p + r * t->c_row + column;
    v16_store(c, t->add ? v16_add(v16_load(c), sum) : sum);
}

/* Sum i is that of row i / V, vector i % V. They are named, not an array: GCC keeps an array on the stack at both ends of the
 * loop. Those from R * V on vanish. */
/* clang-format off */
#define EACH_TILE_SUM(DO)                                                                                              \
    DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)                                          \
    DO(12) DO(13) DO(14) DO(15) DO(16) DO(17) DO(18) DO(19) DO(20) DO(21) DO(22) DO(23)
/* clang-format on */

VEC_INLINE v16 tile_start(const Tile *t, size_t r, size_t v)
{
    return t->start ? v16_load(t->start + r * t->start_row + v * VEC) : v16_zero();
}

/* Fetches c while the FMA chains run. */
VEC_INLINE void tile_prefetch(const Tile *t, size_t r, size_t column)
{
    __builtin_prefetch(row_from(t->c, r * t->c_row + column).p, 1);
}

VEC_INLINE v16 tile_step(const TileKind kind, const void *a, const void *b, v16 sum)
{
    if (kind == TILE_DOT) return v16_dot(a, v16_load(b), sum);
    v16 column = kind == TILE_HALF ? v16_load_bf16(b) : v16_load(b);
    return v16_fma(v16_set1(*(const float *)a), column, sum);
}

VEC_INLINE void tile_run(const Tile *t, const TileKind kind, const int R, const int V, const size_t a_row,
                         const size_t a_k)
{
    const void *a = t->a, *b = t->b;
    const size_t b_k = t->b_k, b_panel = t->b_panel, c_panel = t->c_panel;
#define SUM_START(i) v16 sum##i = i < R * V ? tile_start(t, i / V, i % V) : v16_zero();
    EACH_TILE_SUM(SUM_START)
#define SUM_PREFETCH(i)                                                                                                \
    if (i < R * V) tile_prefetch(t, i / V, tile_column(i % V, c_panel));
    EACH_TILE_SUM(SUM_PREFETCH)
    for (size_t k = t->K; k > 0; k--) {
#define SUM_STEP(i)                                                                                                    \
    if (i < R * V)                                                                                                     \
        sum##i = tile_step(kind, tile_a(a, i / V * a_row), tile_b(kind, b, tile_column(i % V, b_panel)), sum##i);
        EACH_TILE_SUM(SUM_STEP)
        a = tile_a(a, a_k);
        b = tile_b(kind, b, b_k);
    }
    if (t->c.dtype == DTYPE_F32 && !t->bias && t->cols >= (size_t)V * VEC) {
#define SUM_FINISH(i)                                                                                                  \
    if (i < R * V) tile_finish(t, sum##i, i / V, tile_column(i % V, c_panel));
        EACH_TILE_SUM(SUM_FINISH)
    } else {
        float sums[24 * VEC];
#define SUM_KEEP(i)                                                                                                    \
    if (i < R * V) v16_store(sums + i * VEC, sum##i);
        EACH_TILE_SUM(SUM_KEEP)
        tile_finish_slowly(t, sums, (size_t)R, (size_t)V);
    }
#undef SUM_START
#undef SUM_PREFETCH
#undef SUM_STEP
#undef SUM_FINISH
#undef SUM_KEEP
}

#endif
