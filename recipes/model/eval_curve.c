/* pass@k, votes and best-of-k of every k, of the samples of one problem. */
#include "recipes/model/eval_curve.h"

#include <math.h>
#include <stdlib.h>

#include "core/base/check.h"

const char *curve_kind_name(int k)
{
    static const char *const names[] = {"pass", "vote", "weighted", "best"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
}

int curve_points(int K)
{
    int n = 0;
    while (n < CURVE_POINTS && 1 << n <= K) n++;
    return n;
}

float curve_vote(const Problem *p, const CurveSample *s, const float *weight, int k)
{
    double *votes = calloc((size_t)k + 1, sizeof *votes);
    int best = -1;
    CHECK(votes != NULL);
    for (int i = 0; i < k; i++) {
        int first = 0; /* the first answer that says the same */
        while (s[i].answer && first < i && !(s[first].answer && task_agree(p, s[first].answer, s[i].answer))) first++;
        if (s[i].answer) votes[first] += weight ? (double)weight[i] : 1;
    }
    for (int i = 0; i < k; i++)
        if (votes[i] > 0 && (best < 0 || votes[i] > votes[best])) best = i;
    free(votes);
    /* A program was run on its tests already. */
    if (best >= 0 && p->row && p->verifier == VERIFIER_TESTS) return s[best].score;
    return best < 0 ? 0.0f : p->task->verify(p, s[best].answer).score;
}

/* The chance that k of K samples, c of them right, hold a right one. */
static double pass_at_k(int K, int c, int k)
{
    double none = 1;
    for (int i = 0; i < k && none > 0; i++) none *= fmax(0, (double)(K - c - i) / (K - i));
    return 1 - none;
}

float curve_best(const CurveSample *s, const float *rating, int K, int N)
{
    double sum = 0;
    for (int g = 0; g < K / N; g++) {
        int best = g * N;
        for (int i = best + 1; i < (g + 1) * N; i++)
            if (rating[i] > rating[best]) best = i;
        sum += (double)s[best].score;
    }
    return (float)(sum / (K / N));
}

void curve_problem(float out[][CURVE_KINDS], const Problem *p, const CurveSample *s, int K)
{
    float *weight = calloc((size_t)K, sizeof *weight), *likelihood = calloc((size_t)K, sizeof *likelihood);
    CHECK(weight != NULL && likelihood != NULL);
    int right = 0;
    for (int i = 0; i < K; i++) {
        right += s[i].score >= 1.0f;
        likelihood[i] = s[i].likelihood;
        weight[i] = expf(s[i].likelihood);
    }
    for (int i = 0; i < curve_points(K); i++) {
        int k = 1 << i, groups = K / k;
        double vote = 0, weighted = 0;
        for (int g = 0; g < groups; g++) {
            const CurveSample *of = s + (size_t)g * (size_t)k;
            vote += (double)curve_vote(p, of, NULL, k);
            weighted += (double)curve_vote(p, of, weight + g * k, k);
        }
        out[i][CURVE_PASS] = (float)pass_at_k(K, right, k);
        out[i][CURVE_VOTE] = (float)(vote / groups);
        out[i][CURVE_WEIGHTED] = (float)(weighted / groups);
        out[i][CURVE_BEST] = curve_best(s, likelihood, K, k);
    }
    free(weight);
    free(likelihood);
}
