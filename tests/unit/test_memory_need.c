/* What the backend says that it will take is what it takes: scratch of matrix products and of attention's backward. */
#include "tests/unit/unit.h"

#include <stdlib.h>

#include "cpu/memory_need.h"
#include "tests/unit/attention_case.h"
#include "tests/unit/ops_lab.h"

/* The estimate leaves half a MiB a thread for small kernels; what is taken also counts the table of packed weights. */
enum { THREADS = 2, ROOM = 1 << 20, TABLE = 1 << 15 };

static void expect_need(const char *isa, const Ops *ops, Backend *b, const ScratchWork *w)
{
    size_t taken = ops->bytes(b), need = cpu_scratch_bytes(b, w);
    if (taken > need + TABLE || need > taken + THREADS * ROOM + taken / 4) {
        fail_msg("%s: %zu bytes of scratch were taken, %zu predicted", isa, taken, need);
    }
}

static void products(const char *isa)
{
    enum { ROWS = 1500, IN = 3000, OUT = 700 };
    const Ops *ops;
    Backend *b = case_backend(isa, THREADS, &ops);
    if (!b) return;
    float *x = lab_random((size_t)ROWS * IN, 1), *w = lab_random((size_t)OUT * IN, 2),
          *y = lab_random((size_t)ROWS * OUT, 3);
    Mat mx = mat_f32(x, ROWS, IN), mw = mat_f32(w, OUT, IN), my = mat_f32(y, ROWS, OUT);
    ops->linear_fwd(b, my, mx, mw, NULL, false);
    ops->linear_bwd_x(b, mx, my, mw, false);
    ops->linear_bwd_w(b, mw, NULL, my, mx);
    ScratchWork work = {.widest = IN, .tokens = ROWS};
    expect_need(isa, ops, b, &work);
    ops->close(b);
    free(x), free(w), free(y);
}

static void attention(const char *isa)
{
    const int lengths[] = {2000, 300, -1};
    AttentionShape s = {2, 2, 64, 32, 64, 0.1f};
    const Ops *ops;
    Backend *b = case_backend(isa, THREADS, &ops);
    if (!b) return;
    AttentionCase c = case_make(s, true, lengths, 5);
    size_t rows = (size_t)(c.N * s.H);
    float *o = malloc(rows * (size_t)s.Dv * sizeof(float)), *lse = malloc(rows * sizeof(float));
    CaseInputs din = case_inputs(&c, 0.0f);
    SequenceRows seq = {.offsets = c.offsets, .count = c.nseq, .rows = c.N};
    ops->attention_fwd(b, s, case_output(&c, o), lse, c.in.view, seq);
    ops->attention_bwd(b, s, din.view, case_output(&c, c.dout), case_output(&c, o), lse, c.in.view, seq);
    ScratchWork work = {.attention = s, .tokens = 2300, .longest = 2000};
    expect_need(isa, ops, b, &work);
    ops->close(b);
    free(o), free(lse);
    case_inputs_free(&din);
    case_free(&c);
}

static const char *const ISAS[] = {"avx512bf16", "avx512",
                                   "avx2"}; /* "plain" takes the same code, a hundred times as long */

static void test_products(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ISAS / sizeof *ISAS; i++) products(ISAS[i]);
}

static void test_attention(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ISAS / sizeof *ISAS; i++) attention(ISAS[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_products), cmocka_unit_test(test_attention)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
