/* Rows of a product in calls of 1 to 33 rows, against all in one call, bit for bit. */
#include "cpu/self_test.h"

#include <string.h>

#include "cpu/internal.h"

enum { TEST_ROWS = 67, TEST_IN = 80, TEST_OUT = 96, TESTED_SHAPES = 4, TESTED_SIZE = 1 << 18 };

static void fill_pattern(float *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)seed * 0x1p-31f;
    }
}

/* Rows in calls of `rows` rows, forward, against all in one call. */
static bool rows_agree(Backend *b, const float *x, Mat w, const float *whole, size_t rows, float *out)
{
    for (size_t n = 0; n + rows <= TEST_ROWS; n += rows) {
        cpu_linear_fwd(b, mat_f32(out, rows, w.rows), mat_f32((float *)x + n * w.cols, rows, w.cols), w, NULL, false);
        if (memcmp(out, whole + n * w.rows, rows * w.rows * sizeof(float)) != 0) {
            return false;
        }
    }
    return true;
}

/* Is a row independent of its neighbours where the weight is [out, in]? */
static bool shape_agrees(Backend *b, size_t out, size_t in)
{
    ArenaMark mark = cpu_mark(b, 0);
    float *x = cpu_scratch(b, 0, TEST_ROWS * in), *p = cpu_scratch(b, 0, out * in);
    float *whole = cpu_scratch(b, 0, TEST_ROWS * out), *part = cpu_scratch(b, 0, TEST_ROWS * out);
    fill_pattern(x, TEST_ROWS * in, 1);
    fill_pattern(p, out * in, 2);
    Mat w = mat_f32(p, out, in);
    cpu_linear_fwd(b, mat_f32(whole, TEST_ROWS, out), mat_f32(x, TEST_ROWS, in), w, NULL, false);
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 16, 33};
    bool same = true;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        same = same && rows_agree(b, x, w, whole, sizes[i], part);
    }
    cpu_release(b, 0, mark);
    gemm_packs_close(b->packs); /* the test's weight lay in scratch */
    b->packs = gemm_packs_open();
    return same;
}

bool self_test(Backend *b)
{
    bool same = shape_agrees(b, TEST_OUT, TEST_IN);
    int tested = 0;
    for (size_t i = 0; i < b->gemm.count && tested < TESTED_SHAPES && same; i++) {
        const GemmEntry *e = &b->gemm.entries[i];
        if (e->dtype != DTYPE_F32 || e->op != GEMM_FWD || e->out * e->in > TESTED_SIZE) continue;
        same = shape_agrees(b, e->out, e->in);
        tested++;
    }
    return same;
}
