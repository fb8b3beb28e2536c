/* Every tolerance of the tests with its reason. One that would accept a zeroed tensor is no tolerance. */
#ifndef TESTS_TOLERANCES_H
#define TESTS_TOLERANCES_H

/* tests/golden: about ten times what the reference itself differs from its own float64 run (README, "Tolerances"). */
#define TOL_GOLDEN_LOGITS    1e-4 /* max abs; measured 1.4e-5 */
#define TOL_GOLDEN_LOGPROBS  5e-5 /* max abs; 5.7e-6 */
#define TOL_GOLDEN_NLL       1e-5 /* abs; 9.5e-7 */
#define TOL_GOLDEN_HIDDEN    1e-5 /* relative L2, router scores and weights too; 7.8e-7 */
#define TOL_GOLDEN_GRADIENT  3e-5 /* relative L2 of any tensor; 4.2e-6 */
#define TOL_GOLDEN_GRPO_LOSS 2e-6 /* abs; 2.4e-7 */
#define TOL_GOLDEN_RATIO     1e-5 /* relative L2; 1.4e-6 */
#define TOL_GOLDEN_WEIGHTS   3e-5 /* relative L2 after three AdamW steps; 3.0e-6 */
#define TOL_GOLDEN_BALANCE   5e-6 /* abs, of values near 1: a few roundings of float32 means */
#define TOL_SMOLLM2_LOGPROBS 3e-4 /* max abs, logits too; 3.7e-5 */

/* bf16: times what the reference implementation in bf16 is off by itself (tests/golden/CASE/bf16.json). Our residual
 * stream, norms' gains and gradients stay in f32: 0.7 is measured, 0.94 at most; the rest is room for sums in other orders. */
#define TOL_GOLDEN_BF16      1.2
#define TOL_GOLDEN_BF16_MOST 0.5 /* of a relative error allowed; a zeroed tensor is off by 1 */

/* Ops, |got - want| / max |want| of a tensor. */
#define TOL_ELEMENT   1e-6 /* a handful of f32 roundings and our exp / log (below 2 ulp = 2.4e-7) */
#define TOL_ROW_SUM   4e-6 /* an f32 sum of a few hundred terms: roundings of 6e-8 add up like a random walk */
#define TOL_TOKEN_SUM 1e-5 /* an f32 sum over thousands of tokens in blocks of 1,024 */
#define TOL_GRADIENT  1e-5 /* against central differences of f64: products amplify a rounding a few times */
#define TOL_LOG_PROB  2e-6 /* log p near 0 is a difference of numbers of size log V, whose rounding stays */

/* Whole model (tests/unit/test_model.c). */
#define TOL_LATENT_LOGPROBS 2e-5 /* max abs gap of the latent cache: float32 sums in another order */
#define TOL_LATENT_BF16_RMS 0.03 /* root mean square in bf16, as of the reference in bf16; measured 0.0096 */
#define TOL_DIFFERENCES     1e-2 /* relative: a float32 loss near 5 over a step of 6e-4, and h^2 terms */

#endif
