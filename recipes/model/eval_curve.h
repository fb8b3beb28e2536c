/* What more samples buy: curves over k out of one sampling of K completions a problem. */
#ifndef RECIPES_EVAL_CURVE_H
#define RECIPES_EVAL_CURVE_H

#include "data/task.h"

/* pass: at least one of k is right, 1 - C(K - c, k) / C(K, k) with c right ones (Chen et al. 2021, arXiv:2107.03374,
 * eq. 1). vote: the majority's answer (Wang et al. 2022, arXiv:2203.11171). weighted: the same, a vote counts exp(mean
 * log-prob). best: the completion of the highest mean log-prob. The last three are means over the K / k disjoint
 * groups of k. */
typedef enum { CURVE_PASS, CURVE_VOTE, CURVE_WEIGHTED, CURVE_BEST, CURVE_KINDS } CurveKind;
const char *curve_kind_name(int k); /* "pass", ...; NULL after the last */

enum { CURVE_POINTS = 13 }; /* k = 1, 2, 4, ... 4096, and no more than there are samples */

typedef struct CurveSample {
    const char *answer; /* NULL: none */
    float score;        /* the verdict's */
    float likelihood;   /* mean log-prob of its tokens */
} CurveSample;

/* Shares in 0 .. 1 at point i, k = 2^i; se over problems. */
typedef struct Curve {
    int n; /* points; 0: not asked for */
    double value[CURVE_POINTS][CURVE_KINDS], se[CURVE_POINTS][CURVE_KINDS];
} Curve;

/* Points that K samples give. */
int curve_points(int K);

/* One problem's values at all curve_points(K) points. */
void curve_problem(float out[][CURVE_KINDS], const Problem *p, const CurveSample *s, int K);

/* The score of the sample that is rated highest (of equal ones the first), a mean over the K / N disjoint groups of N. */
float curve_best(const CurveSample *s, const float *rating, int K, int N);

/* The score of the answer with the most votes: answers that say the same are one (task_agree), ties go to the one that
 * came first, and the winner's text is judged by itself, whatever stands around it in a sample. weight NULL: a vote
 * each. */
float curve_vote(const Problem *p, const CurveSample *s, const float *weight, int k);

#endif
