/* Importance weights between the sampler's and the trainer's policy. */
#include "core/losses/correction.h"

#include <math.h>

#include "core/base/check.h"

const char *correction_name(int k)
{
    static const char *const names[] = {"none", "truncated", "masked"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

/* An infinite ratio is cut like any other that is too large. */
static double cut(double ratio, Correction how, double cap, int *n)
{
    if (how == CORRECTION_NONE) return 1.0;
    bool high = ratio > cap, low = how == CORRECTION_MASKED && ratio < 1.0 / cap;
    if (!high && !low) return ratio;
    ++*n;
    return how == CORRECTION_MASKED ? 0.0 : cap;
}

int correction_weights(float *weight, const float *trainer_lp, const float *sampler_lp, int n, GrpoKind kind,
                       Correction how, float cap)
{
    int count = 0;
    double sum = 0.0;
    CHECK(cap >= 1.0f);
    for (int i = 0; i < n; i++) {
        double d = (double)trainer_lp[i] - sampler_lp[i];
        sum += d;
        weight[i] = (float)cut(exp(d), how, cap, &count);
    }
    if (!grpo_of_outputs(kind) || n == 0) return count;
    count = 0;
    float w = (float)cut(exp(kind == GRPO_GSPO ? sum / n : sum), how, cap, &count);
    for (int i = 0; i < n; i++) weight[i] = w;
    return count * n;
}
