/* PPO's advantages and value loss. */
#include "core/losses/ppo.h"

#include <math.h>

void ppo_gae(float *advantage, float *returns, const float *reward, const float *value, int n, double gamma,
             double lambda)
{
    double next = 0.0, after = 0.0; /* V(s_t+1), A_t+1 */
    for (int t = n - 1; t >= 0; t--) {
        double v = (double)value[t], delta = (double)reward[t] + gamma * next - v;
        after = delta + gamma * lambda * after;
        advantage[t] = (float)after;
        returns[t] = (float)(after + v);
        next = v;
    }
}

double ppo_rewards(float *reward, double score, const PpoPenalty *p, int n)
{
    double sum = 0.0;
    for (int t = 0; t < n; t++) {
        double kl = 0.0;
        if (p->beta != 0.0) {
            double d = fmax(-p->clamp, fmin(p->clamp, (double)p->ref_lp[t] - (double)p->lp[t]));
            kl = p->estimator == 1 ? -d : p->estimator == 2 ? 0.5 * d * d : expm1(d) - d;
        }
        reward[t] = (float)(-p->beta * kl + (t == n - 1 ? score : 0.0));
        sum += kl;
    }
    return sum;
}

void ppo_whiten(float *advantage, const float *weight, int n)
{
    double sum = 0.0, squares = 0.0;
    int count = 0;
    for (int i = 0; i < n; i++) {
        if (weight[i] == 0.0f) continue;
        sum += (double)advantage[i];
        count++;
    }
    if (count < 2) return;
    double mean = sum / count;
    for (int i = 0; i < n; i++)
        if (weight[i] != 0.0f) squares += ((double)advantage[i] - mean) * ((double)advantage[i] - mean);
    double scale = 1.0 / sqrt(squares / (count - 1) + 1e-8);
    for (int i = 0; i < n; i++)
        advantage[i] = weight[i] != 0.0f ? (float)(((double)advantage[i] - mean) * scale) : 0.0f;
}

int value_loss(float *loss, float *dvalue, const float *value, const ValueLoss *l, int n)
{
    int cut = 0;
    for (int i = 0; i < n; i++) {
        double w = (double)l->weight[i], v = (double)value[i], old = (double)l->old_value[i];
        double R = (double)l->returns[i], c = (double)l->clip, moved = v - old;
        bool outside = c > 0.0 && fabs(moved) > c;
        double clipped = outside ? old + (moved < 0.0 ? -c : c) : v;
        double plain = (v - R) * (v - R), held = (clipped - R) * (clipped - R);
        bool binds = outside && held > plain; /* v went too far, towards R */
        loss[i] = (float)(0.5 * w * (binds ? held : plain));
        dvalue[i] = (float)(binds ? 0.0 : w * (v - R));
        cut += binds && w != 0.0;
    }
    return cut;
}

double ppo_explained(const float *value, const float *returns, int n)
{
    double mean_r = 0.0, mean_e = 0.0, var_r = 0.0, var_e = 0.0;
    for (int i = 0; i < n; i++) {
        mean_r += (double)returns[i];
        mean_e += (double)returns[i] - (double)value[i];
    }
    mean_r /= n;
    mean_e /= n;
    for (int i = 0; i < n; i++) {
        double r = (double)returns[i] - mean_r, e = (double)returns[i] - (double)value[i] - mean_e;
        var_r += r * r;
        var_e += e * e;
    }
    return n && var_r > 0.0 ? 1.0 - var_e / var_r : (double)NAN;
}
