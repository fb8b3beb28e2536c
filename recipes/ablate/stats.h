/* Whether one arm of an ablation is better than another: differences paired by seed and problem, and an honest
 * interval.
 *
 * Model: the difference of problem i under seed s is d_si = D + u_s + e_si, with u_s of standard deviation sigma (two
 * trainings with other seeds do not give the same gain) and e_si of the problems and their samples. The interval of D
 * holds both:
 *   - problems are resampled with replacement inside every seed (bootstrap);
 *   - seeds are too few to resample (two or three say nothing about their spread), so sigma is drawn from its
 *     posterior given the spread of the seeds' means, under a half-normal prior of scale STATS_SEED_SCALE x the
 *     standard deviation of d_si (Gelman 2006, "Prior distributions for variance parameters"), and a mean of S normal
 *     deviates of that size is added.
 * Everything random is Philox under a given seed, so that the same numbers give the same verdict. */
#ifndef RECIPES_ABLATE_STATS_H
#define RECIPES_ABLATE_STATS_H

#include <stdbool.h>
#include <stdint.h>

#define STATS_SEED_SCALE                                                                                               \
    0.2 /* by calibration (tests/unit/test_stats.c): 0.1 calls 12 % of equal arms different, 0.3 1 % */
enum { STATS_DRAWS = 2000, STATS_SEEDS = 64 };

/* difference[s][i], i < n[s]: b - a of problem i under seed s (1 <= seeds <= STATS_SEEDS, n[s] >= 1). */
typedef struct Paired {
    int seeds;
    const int *n;
    const double *const *difference;
} Paired;

typedef struct Compared {
    double difference; /* mean over seeds of the means over problems */
    double low, high;  /* 95 % interval */
    double p;          /* two-sided: twice the share of draws on the other side of 0 */
    double adjusted;   /* p after stats_holm; p before it */
    double problem_sd; /* of d_si inside a seed */
    double seed_sd;    /* median of the posterior of sigma */
    int seeds, problems;
} Compared;

Compared stats_compare(const Paired *d, uint32_t seed);

/* Holm's step-down adjustment of n comparisons that are looked at together (Holm 1979): adjusted of the k-th
 * smallest p is max over j <= k of (n - j + 1) p_j, at most 1. */
void stats_holm(Compared *list, int n);

typedef enum { VERDICT_LOWER = -1, VERDICT_UNRESOLVED, VERDICT_HIGHER } StatsVerdict;
/* higher or lower: adjusted < 0.05. */
StatsVerdict stats_verdict(const Compared *c);
const char *stats_verdict_name(StatsVerdict v); /* "higher", "lower", "not resolved" */

/* How many more seeds would resolve a difference of the size seen, the spread staying what it is: half-widths fall as
 * 1 / sqrt(seeds). 0: resolved; -1: no number would (a difference of 0), or more than 1000. */
int stats_needs(const Compared *c);

/* Problems a seed with which a difference of `effect` is found in 9 of 10 comparisons, given the standard deviations
 * of the differences and of the seeds; 0: no number of problems does it with so few seeds. */
int stats_problems(double problem_sd, double seed_sd, int seeds, double effect);
/* The difference that is found in 9 of 10 comparisons. */
double stats_resolvable(double problem_sd, double seed_sd, int seeds, int problems);

#endif
