/* Rows against a tile of keys, sums in registers. */
#include "cpu/kernels/tiles/tile_product.h"

/* Groups of 16 columns held in registers at once, by rows: 6 rows x 4 groups are 24 of AVX-512's 32 registers, 6 x 1 are
 * 12 of AVX2's 16. Fewer rows take more groups there: at least 8 chains of FMAs hide each other's latency. */
enum { MOST_GROUPS = 4 };
#if defined(__AVX512F__)
#define ROWS_SHAPES(SHAPE, R) SHAPE(R, 1) SHAPE(R, 2) SHAPE(R, 3) SHAPE(R, 4)
#define EACH_SHAPE(SHAPE)                                                                                              \
    ROWS_SHAPES(SHAPE, 1)                                                                                              \
    ROWS_SHAPES(SHAPE, 2) ROWS_SHAPES(SHAPE, 3) ROWS_SHAPES(SHAPE, 4) ROWS_SHAPES(SHAPE, 5) ROWS_SHAPES(SHAPE, 6)
#else
#define EACH_SHAPE(SHAPE)                                                                                              \
    SHAPE(1, 1)                                                                                                        \
    SHAPE(1, 2) SHAPE(1, 3) SHAPE(1, 4) SHAPE(2, 1) SHAPE(2, 2) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1)
#endif

/* How many of the `left` groups a block of `rows` takes next. */
static int groups_now(int rows, int left)
{
#if defined(__AVX512F__)
    bool wide = true;
#else
    bool wide = rows == 1;
#endif
    int most = wide ? MOST_GROUPS : rows == 2 ? 2 : 1;
    return left < most ? left : most;
}

/* CALL(type, rows, groups) with all three as constants. */
#define TYPED_CALL(R, G)                                                                                               \
    if (type == DTYPE_F32) CALL(DTYPE_F32, R, G);                                                                      \
    else CALL(DTYPE_BF16, R, G)
#define SHAPE_CASE(R, G)                                                                                               \
    case 8 * (R) + (G):                                                                                                \
        TYPED_CALL(R, G);                                                                                              \
        break;
#define SHAPE_SWITCH(rows, groups)                                                                                     \
    switch (8 * (rows) + (groups)) {                                                                                   \
        EACH_SHAPE(SHAPE_CASE)                                                                                         \
    }

#if defined(__AVX2__)
#define EACH_ROW   _Pragma("GCC unroll 6") for (int r = 0; r < R; r++)
#define EACH_GROUP _Pragma("GCC unroll 4") for (int g = 0; g < G; g++)
#else
#define EACH_ROW   for (int r = 0; r < R; r++)
#define EACH_GROUP for (int g = 0; g < G; g++)
#endif

/* The first `lanes` of 16 values of type t. */
VEC_INLINE v16 load16(const DType t, const int lanes, const void *p)
{
    if (t == DTYPE_F32) return lanes == VEC ? v16_load(p) : v16_load_n(p, lanes);
    return lanes == VEC ? v16_load_bf16(p) : v16_load_bf16_n(p, lanes);
}

/* The right side of a product: row k for all rows of the left side, or for each of them `apart` values behind the last. */
typedef struct Right {
    const void *p;
    size_t row, apart;
    int lanes;
} Right;

/* acc[r][g] += a[r * a_row + k * a_step] * b[r * b.apart + k * b.row + 16 g ...] for k in [from, to); b of type t. */
VEC_INLINE void product(const DType t, const int R, const int G, v16 acc[BLOCK_ROWS][MOST_GROUPS], const float *a,
                        size_t a_row, size_t a_step, const Right right, int from, int to)
{
    const size_t size = dtype_size(t), apart = right.apart * size;
    const char *b = (const char *)right.p + (size_t)from * right.row * size;
    a += (size_t)from * a_step;
    if (R > 1 && apart) {
        for (int k = from; k < to; k++, a += a_step, b += right.row * size) EACH_ROW
            {
                v16 x = v16_set1(a[r * a_row]);
                EACH_GROUP acc[r][g] =
                    v16_fma(x, load16(t, right.lanes, b + (size_t)r * apart + (size_t)(16 * g) * size), acc[r][g]);
            }
        return;
    }
    for (int k = from; k < to; k++, a += a_step, b += right.row * size) {
        v16 column[MOST_GROUPS];
        EACH_GROUP column[g] = load16(t, right.lanes, b + (size_t)(16 * g) * size);
        EACH_ROW
        {
            v16 x = v16_set1(a[r * a_row]);
            EACH_GROUP acc[r][g] = v16_fma(x, column[g], acc[r][g]);
        }
    }
}

VEC_INLINE void scores(const DType t, const int R, const int G, const ScoreProduct *p, size_t at)
{
    v16 acc[BLOCK_ROWS][MOST_GROUPS];
    EACH_ROW EACH_GROUP acc[r][g] = v16_zero();
    Right k = {row_from(p->k, at).p, KEY_TILE, p->k_apart, VEC};
    Right k_rope = {row_from(p->k_rope, at).p, KEY_TILE, p->rope_apart, VEC};
    product(t, R, G, acc, p->a, p->a_row, 1, k, 0, p->Dn);
    product(t, R, G, acc, p->a + p->Dn, p->a_row, 1, k_rope, 0, p->Dr);
    v16 scale = v16_set1(p->scale);
    EACH_ROW EACH_GROUP v16_store(p->c + (size_t)r * KEY_TILE + at + 16 * g, v16_mul(acc[r][g], scale));
}

void tile_scores(const ScoreProduct *p, int rows, int groups)
{
    const DType type = p->k.dtype;
    for (int at = 0, now; at < groups; at += now) {
        now = groups_now(rows, groups - at);
#define CALL(t, R, G) scores(t, R, G, p, (size_t)(16 * at))
        SHAPE_SWITCH(rows, now)
#undef CALL
    }
}

/* Rows of a block have limits of their own: [0, common) is for all, the rest of each row for that row alone. */
VEC_INLINE void values(const DType t, const int R, const int G, const ValueProduct *p, size_t at, const int lanes,
                       int common, int longest)
{
    v16 acc[BLOCK_ROWS][MOST_GROUPS];
    EACH_ROW EACH_GROUP acc[r][g] = v16_load_n(p->c + r * p->c_row + at + 16 * g, lanes);
    if (p->factor) EACH_ROW EACH_GROUP acc[r][g] = v16_mul(acc[r][g], v16_set1(p->factor[r]));
    Right right = {row_from(p->b, at).p, p->b_row, p->b_apart, lanes};
    product(t, R, G, acc, p->a, KEY_TILE, 1, right, 0, common);
    for (int j = common; j < longest; j++) {
        EACH_ROW
        {
            const char *b = row_from(p->b, (size_t)j * p->b_row + (size_t)r * p->b_apart + at).p;
            if (j < p->limit[r]) {
                v16 x = v16_set1(p->a[r * KEY_TILE + j]);
                EACH_GROUP acc[r][g] = v16_fma(x, load16(t, lanes, b + (size_t)(16 * g) * dtype_size(t)), acc[r][g]);
            }
        }
    }
    EACH_ROW EACH_GROUP v16_store_n(p->c + r * p->c_row + at + 16 * g, acc[r][g], lanes);
}

/* The last group when the width is no multiple of 16. */
#define EACH_HEIGHT(SHAPE) SHAPE(1, 1) SHAPE(2, 1) SHAPE(3, 1) SHAPE(4, 1) SHAPE(5, 1) SHAPE(6, 1)
static void values_tail(const ValueProduct *p, int rows, size_t at, int common, int longest)
{
    const DType type = p->b.dtype;
    const int lanes = p->width % VEC;
#define CALL(t, R, G) values(t, R, G, p, at, lanes, common, longest)
    switch (8 * rows + 1) {
        EACH_HEIGHT(SHAPE_CASE)
    }
#undef CALL
}

void tile_values(const ValueProduct *p, int rows)
{
    int common = p->limit[0], longest = p->limit[0];
    for (int r = 1; r < rows; r++) {
        common = p->limit[r] < common ? p->limit[r] : common;
        longest = p->limit[r] > longest ? p->limit[r] : longest;
    }
    const DType type = p->b.dtype;
    int groups = p->width / 16;
    for (int at = 0, now; at < groups; at += now) {
        now = groups_now(rows, groups - at);
#define CALL(t, R, G) values(t, R, G, p, (size_t)(16 * at), VEC, common, longest)
        SHAPE_SWITCH(rows, now)
#undef CALL
    }
    if (p->width % VEC) values_tail(p, rows, (size_t)(16 * groups), common, longest);
}

VEC_INLINE void keys_block(const int R, const int G, const KeyProduct *p, int j, int from, int at)
{
    float *c = p->c + (size_t)j * p->c_row + at;
    v16 acc[BLOCK_ROWS][MOST_GROUPS];
    EACH_ROW EACH_GROUP acc[r][g] = v16_load(c + r * p->c_row + 16 * g);
    Right right = {p->b + at, p->b_row, 0, VEC};
    product(DTYPE_F32, R, G, acc, p->a + j, 1, KEY_TILE, right, from, p->to);
    EACH_ROW EACH_GROUP v16_store(c + r * p->c_row + 16 * g, acc[r][g]);
}

void tile_keys(const KeyProduct *p, int keys)
{
    const DType type = DTYPE_F32;
    for (int j = 0; j < keys; j += BLOCK_ROWS) {
        int rows = keys - j < BLOCK_ROWS ? keys - j : BLOCK_ROWS;
        int from = p->triangle ? j : p->from;
        for (int at = 0, now; at < p->groups; at += now) {
            now = groups_now(rows, p->groups - at);
#define CALL(t, R, G) keys_block(R, G, p, j, from, 16 * at)
            SHAPE_SWITCH(rows, now)
#undef CALL
        }
    }
}
