/* Calls and sums of a linear layer. */
#include "tests/unit/linear_case.h"

#include <math.h>
#include <string.h>

void linear_run_fwd(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const LinearCase *c = t->in;
    Mat y = c->y_bf16 ? lab_bf16(t, out, 0, c->w.rows) : lab_mat(t, out, 0);
    ops->linear_fwd(b, y, c->x, c->w, c->bias, c->add);
}

void linear_run_bwd_x(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const LinearCase *c = t->in;
    ops->linear_bwd_x(b, lab_mat(t, out, 0), c->dy, c->w, c->add);
}

void linear_run_bwd_w(const Ops *ops, Backend *b, const LabTrial *t, float *out)
{
    const LinearCase *c = t->in;
    ops->linear_bwd_w(b, lab_mat(t, out, 0), lab_at(t, out, 1), c->dy, c->x);
}

float linear_chain(bool dot, const float *a, size_t a_k, const float *b, size_t b_k, size_t K)
{
    float sum = 0.0f;
    for (size_t k = 0; k < K; k++) {
        size_t at = dot ? k ^ 1 : k;
        sum = at < K ? fmaf(a[at * a_k], b[at * b_k], sum) : sum;
        if (dot && k % 2 == 0 && at >= K) sum = fmaf(a[k * a_k], b[k * b_k], sum);
    }
    return sum;
}

void linear_expect(const char *what, float got, float want, size_t i, size_t j)
{
    if (memcmp(&got, &want, sizeof got) != 0) {
        fail_msg("%s (%zu, %zu): %.9g, want exactly %.9g", what, i, j, (double)got, (double)want);
    }
}
