/* One linear layer as the tests of linear_* see it, in f32 and in bf16: its operands as views, the three calls, and the order of
 * every sum. */
#ifndef TESTS_UNIT_LINEAR_CASE_H
#define TESTS_UNIT_LINEAR_CASE_H

#include "tests/unit/ops_lab.h"

/* The first member of a test's own struct, so that LabTrial.in leads to both. bias is not used where `add`. */
typedef struct LinearCase {
    Mat x, w, dy; /* [M, K], [N, K], [M, N] */
    const float *bias;
    bool add, y_bf16; /* y_bf16: output 0 of linear_run_fwd was made with lab_halves(N) columns */
} LinearCase;

/* LabTrial.run: output 0 is y, dx or dw; output 1 of the last is dbias. */
void linear_run_fwd(const Ops *ops, Backend *b, const LabTrial *t, float *out);
void linear_run_bwd_x(const Ops *ops, Backend *b, const LabTrial *t, float *out);
void linear_run_bwd_w(const Ops *ops, Backend *b, const LabTrial *t, float *out);

/* The contract's chain: FMAs over the inner index from 0 (a, b: element (i, k), (k, j) by strides). dot: of a pair the second
 * first, and an odd last one is paired with 0. */
float linear_chain(bool dot, const float *a, size_t a_k, const float *b, size_t b_k, size_t K);

/* Fails unless got has the bits of want. */
void linear_expect(const char *what, float got, float want, size_t i, size_t j);

#endif
