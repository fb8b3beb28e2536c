/* Attention forward and backward: against the definition in double, and what fixes the bits. */
#include "tests/unit/unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/attention_case.h"

/* Tolerances relative to 1 + |value|: inputs and outputs are of size 1, a sum has some hundred terms of f32.
 * Gradients also see the rounding of scores through lse. */
static const double FORWARD_TOLERANCE = 4e-6, BACKWARD_TOLERANCE = 3e-5;

typedef struct ShapeRow {
    AttentionShape s;
    bool rope_shared;
} ShapeRow;

static const ShapeRow SHAPES[] = {
    {{2, 2, 12, 8, 12, 0.22f}, true},    /* MLA of the golden fixtures */
    {{4, 4, 32, 16, 32, 0.14f}, true},   /* MLA of the tiny recipes */
    {{1, 1, 128, 64, 128, 0.07f}, true}, /* one head of V2-Lite */
    {{6, 2, 0, 24, 24, 0.2f}, false},    /* GQA, one width */
    {{7, 1, 0, 64, 64, 0.125f}, false},  /* GQA, an odd group */
    {{3, 3, 10, 6, 70, 0.25f}, false},   /* odd widths, a rope key per head */
    {{2, 1, 34, 0, 2, 0.17f}, false},    /* no rope part */
};
enum { SHAPE_COUNT = sizeof SHAPES / sizeof *SHAPES };
static const int LENGTHS[] = {1, 63, 64, 0, 65, 130, 7, -1};

typedef struct Result {
    float *o, *lse;
    CaseInputs din;
} Result;

/* Forward and backward; outputs start as garbage that a sum would keep. */
static Result run_case(Backend *b, const Ops *ops, const AttentionCase *c)
{
    size_t rows = (size_t)(c->N * c->s.H);
    Result r = {malloc((rows * (size_t)c->s.Dv + 1) * sizeof(float)), malloc((rows + 1) * sizeof(float)),
                case_inputs(c, 777.0f)};
    ops->attention_fwd(b, c->s, case_output(c, r.o), r.lse, c->in.view, case_sequences(c));
    ops->attention_bwd(b, c->s, r.din.view, case_output(c, c->dout), case_output(c, r.o), r.lse, c->in.view,
                       case_sequences(c));
    return r;
}

static void result_free(Result *r)
{
    free(r->o);
    free(r->lse);
    case_inputs_free(&r->din);
}

static void assert_same_bits(const AttentionCase *c, const Result *a, const Result *b)
{
    assert_memory_equal(a->o, b->o, (size_t)(c->N * c->s.H * c->s.Dv) * sizeof(float));
    assert_memory_equal(a->lse, b->lse, (size_t)(c->N * c->s.H) * sizeof(float));
    assert_memory_equal(a->din.q, b->din.q, a->din.q_floats * sizeof(float));
    assert_memory_equal(a->din.kv, b->din.kv, a->din.kv_floats * sizeof(float));
    assert_memory_equal(a->din.rope, b->din.rope, a->din.rope_floats * sizeof(float));
}

/* guards: floats equal to CASE_GUARD are no values. */
static void assert_close(const char *what, const float *got, const double *want, size_t n, double tolerance,
                         bool guards)
{
    for (size_t i = 0; i < n; i++)
        if (!(guards && got[i] == CASE_GUARD) && !(fabs(got[i] - want[i]) <= tolerance * (1 + fabs(want[i]))))
            fail_msg("%s[%zu] is %.9g, should be %.9g", what, i, got[i], want[i]);
}

static void matches_definition(void **state)
{
    (void)state;
    const Ops *ops;
    Backend *b = case_backend(NULL, 2, &ops);
    for (int k = 0; k < SHAPE_COUNT; k++) {
        AttentionCase c = case_make(SHAPES[k].s, SHAPES[k].rope_shared, LENGTHS, 1u + (uint32_t)k);
        size_t outputs = (size_t)(c.N * c.s.H * c.s.Dv), rows = (size_t)(c.N * c.s.H);
        double *o = malloc(outputs * sizeof *o), *lse = malloc(rows * sizeof *lse);
        case_forward(&c, o, lse);
        CaseGradients g = case_backward(&c);
        Result r = run_case(b, ops, &c);
        assert_close("o", r.o, o, outputs, FORWARD_TOLERANCE, false);
        assert_close("lse", r.lse, lse, rows, FORWARD_TOLERANCE, false);
        assert_close("dq", r.din.q, g.q, r.din.q_floats, BACKWARD_TOLERANCE, true);
        assert_close("dk, dv", r.din.kv, g.kv, r.din.kv_floats, BACKWARD_TOLERANCE, true);
        assert_close("dk_rope", r.din.rope, g.rope, r.din.rope_floats, BACKWARD_TOLERANCE, true);
        assert_true(case_guards_whole(&c, &r.din));
        case_gradients_free(&g);
        result_free(&r);
        case_free(&c);
        free(o);
        free(lse);
    }
    ops->close(b);
}

static double loss(const AttentionCase *c)
{
    size_t outputs = (size_t)(c->N * c->s.H * c->s.Dv);
    double *o = malloc(outputs * sizeof *o), *lse = malloc((size_t)(c->N * c->s.H) * sizeof *lse), sum = 0;
    case_forward(c, o, lse);
    for (size_t i = 0; i < outputs; i++) sum += o[i] * c->dout[i];
    free(o);
    free(lse);
    return sum;
}

static void differences(const AttentionCase *c, float *x, const double *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float keep = x[i], up = keep + 0x1p-10f, down = keep - 0x1p-10f;
        if (keep == CASE_GUARD) continue;
        x[i] = up;
        double above = loss(c);
        x[i] = down;
        double slope = (above - loss(c)) / ((double)up - down);
        x[i] = keep;
        assert_true(fabs(slope - want[i]) < 1e-5);
    }
}

/* The reference's own gradients are those of its forward. */
static void reference_gradients(void **state)
{
    (void)state;
    const int lengths[] = {3, 5, -1};
    AttentionCase c = case_make((AttentionShape){4, 2, 3, 2, 3, 0.5f}, true, lengths, 9);
    CaseGradients g = case_backward(&c);
    differences(&c, c.in.q, g.q, c.in.q_floats);
    differences(&c, c.in.kv, g.kv, c.in.kv_floats);
    differences(&c, c.in.rope, g.rope, c.in.rope_floats);
    case_gradients_free(&g);
    case_free(&c);
}

static void same_bits_for_threads_and_instruction_sets(void **state)
{
    (void)state;
    const Ops *ops;
    const char *isas[] = {"avx512", "avx2", "plain", "emulated"};
    const int few[] = {130, 1, -1}, *lists[] = {LENGTHS, few};
    for (int k = 0; k < SHAPE_COUNT; k++) {
        AttentionCase c = case_make(SHAPES[k].s, SHAPES[k].rope_shared, lists[k % 2], 20u + (uint32_t)k);
        Backend *b = case_backend(NULL, 1, &ops);
        Result first = run_case(b, ops, &c);
        ops->close(b);
        for (int i = 0; i < 4; i++) {
            if (!(b = case_backend(isas[i], 2, &ops))) continue;
            Result r = run_case(b, ops, &c);
            assert_same_bits(&c, &first, &r);
            result_free(&r);
            ops->close(b);
        }
        result_free(&first);
        case_free(&c);
    }
}

/* Rows of sequence `seq` of `all` are the rows of `alone`. */
static void assert_rows(const AttentionCase *all, int seq, const float *a, const float *alone, size_t row)
{
    size_t first = (size_t)all->offsets[seq], rows = (size_t)all->offsets[seq + 1] - first;
    assert_memory_equal(a + first * row, alone, rows * row * sizeof(float));
}

/* Every sequence by itself gives the rows it gives in company. */
static void same_bits_alone(void **state)
{
    (void)state;
    const Ops *ops;
    Backend *b = case_backend(NULL, 2, &ops);
    AttentionCase c = case_make(SHAPES[1].s, true, LENGTHS, 31);
    Result all = run_case(b, ops, &c);
    for (int seq = 0; seq < c.nseq; seq++) {
        AttentionCase one = c;
        size_t first = (size_t)c.offsets[seq];
        one.nseq = 1;
        one.offsets[1] = one.N = c.offsets[seq + 1] - c.offsets[seq];
        one.in.view.q = heads_from(one.in.view.q, first * one.in.view.q.row);
        one.in.view.k = heads_from(one.in.view.k, first * one.in.view.k.row);
        one.in.view.k_rope = heads_from(one.in.view.k_rope, first * one.in.view.k_rope.row);
        one.in.view.v = heads_from(one.in.view.v, first * one.in.view.v.row);
        one.dout += first * (size_t)(c.s.H * c.s.Dv);
        Result r = run_case(b, ops, &one);
        assert_rows(&c, seq, all.o, r.o, (size_t)(c.s.H * c.s.Dv));
        assert_rows(&c, seq, all.lse, r.lse, (size_t)c.s.H);
        assert_rows(&c, seq, all.din.q, r.din.q, c.in.view.q.row);
        assert_rows(&c, seq, all.din.kv, r.din.kv, c.in.view.k.row);
        assert_rows(&c, seq, all.din.rope, r.din.rope, c.in.view.k_rope.row);
        result_free(&r);
    }
    result_free(&all);
    case_free(&c);
    ops->close(b);
}

/* What comes later in a sequence, NaN even, changes nothing of an earlier row, not by one bit. */
static void causal_to_the_bit(void **state)
{
    (void)state;
    const Ops *ops;
    Backend *b = case_backend(NULL, 2, &ops);
    const int lengths[] = {130, -1}, cuts[] = {1, 15, 16, 64, 100};
    for (int k = 0; k < 5; k++) {
        AttentionCase c = case_make(SHAPES[k].s, SHAPES[k].rope_shared, lengths, 40);
        Result before = run_case(b, ops, &c);
        for (size_t i = (size_t)cuts[k] * c.in.view.k.row; i < c.in.kv_floats; i++) c.in.kv[i] = NAN;
        for (size_t i = (size_t)cuts[k] * c.in.view.k_rope.row; i < c.in.rope_floats; i++) c.in.rope[i] = NAN;
        Result after = run_case(b, ops, &c);
        assert_memory_equal(before.o, after.o, (size_t)(cuts[k] * c.s.H * c.s.Dv) * sizeof(float));
        assert_true(isnan(after.o[cuts[k] * c.s.H * c.s.Dv]));
        result_free(&before);
        result_free(&after);
        case_free(&c);
    }
    ops->close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reference_gradients),
        cmocka_unit_test(matches_definition),
        cmocka_unit_test(same_bits_for_threads_and_instruction_sets),
        cmocka_unit_test(same_bits_alone),
        cmocka_unit_test(causal_to_the_bit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
