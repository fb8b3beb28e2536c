/* Paired differences: bootstrap over problems, posterior of the seeds' spread, Holm, verdicts. */
#include "recipes/ablate/stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/philox.h"

enum { GRID = 256, NEEDS_MOST = 1000, PROBLEMS_MOST = 1 << 20 };
static const double ALPHA = 0.05, PI = 3.14159265358979323846;

/* ---- Moments ---- */

static double mean_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum / n;
}

static double squares_about(const double *x, int n, double mean)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (x[i] - mean) * (x[i] - mean);
    return sum;
}

/* Of the differences inside a seed, all seeds pooled. */
static double problem_sd(const Paired *d, const double *means)
{
    double squares = 0;
    int freedom = 0;
    for (int s = 0; s < d->seeds; s++) {
        squares += squares_about(d->difference[s], d->n[s], means[s]);
        freedom += d->n[s] - 1;
    }
    return freedom > 0 ? sqrt(squares / freedom) : 0;
}

/* ---- The seeds' spread ---- */

/* The posterior of sigma on a grid of equal prior weight: values ascend, share is cumulative. */
typedef struct Posterior {
    double value[GRID], share[GRID];
} Posterior;

/* The value below which a half-normal deviate stays with probability u: erf(x / sqrt(2)) = u. */
static double half_normal(double u)
{
    double low = 0, high = 10;
    for (int k = 0; k < 50; k++) {
        double middle = (low + high) / 2;
        if (erf(middle / sqrt(2)) < u) low = middle;
        else high = middle;
    }
    return high;
}

/* noise: standard deviation that problems give a seed's mean. With variance V = noise^2 + sigma^2 the S means say
 * V^(-(S - 1) / 2) exp(-squares / (2 V)) (their common mean integrated out). */
static void seed_posterior(Posterior *p, double scale, double noise, double squares, int seeds)
{
    double most = -INFINITY, sum = 0, log_weight[GRID];
    for (int i = 0; i < GRID; i++) {
        p->value[i] = scale * half_normal((i + 0.5) / GRID);
        double variance = noise * noise + p->value[i] * p->value[i];
        log_weight[i] = variance > 0 ? -0.5 * (seeds - 1) * log(variance) - squares / (2 * variance) : 0;
        if (log_weight[i] > most) most = log_weight[i];
    }
    for (int i = 0; i < GRID; i++) p->share[i] = sum += exp(log_weight[i] - most);
    for (int i = 0; i < GRID; i++) p->share[i] /= sum;
}

static double quantile_of(const Posterior *p, double u)
{
    for (int i = 0; i < GRID; i++)
        if (u < p->share[i]) return p->value[i];
    return p->value[GRID - 1];
}

static double normal(Rng *r)
{
    double u = 1 - rng_double(r), v = rng_double(r);
    return sqrt(-2 * log(u)) * cos(2 * PI * v);
}

/* ---- Draws of the difference ---- */

static double resampled_mean(const double *x, int n, Rng *r)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[rng_below(r, (uint32_t)n)];
    return sum / n;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void draw(const Paired *d, const Posterior *p, uint32_t seed, double *out)
{
    for (int k = 0; k < STATS_DRAWS; k++) {
        Rng r = rng_stream(seed, RNG_EVAL, hash_name("bootstrap"), (uint64_t)k);
        double sum = 0, sigma = quantile_of(p, rng_double(&r)), shift = normal(&r);
        for (int s = 0; s < d->seeds; s++) sum += resampled_mean(d->difference[s], d->n[s], &r);
        out[k] = sum / d->seeds + sigma * shift / sqrt(d->seeds);
    }
    qsort(out, STATS_DRAWS, sizeof *out, ascending);
}

static double share_below(const double *sorted, double at)
{
    double count = 0;
    for (int i = 0; i < STATS_DRAWS; i++) count += sorted[i] < at ? 1 : sorted[i] > at ? 0 : 0.5;
    return (count + 0.5) / (STATS_DRAWS + 1);
}

Compared stats_compare(const Paired *d, uint32_t seed)
{
    CHECK(d->seeds >= 1 && d->seeds <= STATS_SEEDS);
    double means[STATS_SEEDS], *draws = malloc(STATS_DRAWS * sizeof *draws), weight = 0;
    Compared c = {.seeds = d->seeds};
    Posterior p;
    CHECK(draws);
    for (int s = 0; s < d->seeds; s++) {
        CHECK(d->n[s] >= 1);
        means[s] = mean_of(d->difference[s], d->n[s]);
        weight += 1.0 / d->n[s] / d->seeds;
        c.problems += d->n[s];
    }
    c.problems /= d->seeds;
    c.difference = mean_of(means, d->seeds);
    c.problem_sd = problem_sd(d, means);
    double squares = squares_about(means, d->seeds, c.difference), scale = STATS_SEED_SCALE * c.problem_sd;
    if (!(scale > 0)) scale = sqrt(squares / d->seeds); /* one problem, or all alike: only the seeds speak */
    seed_posterior(&p, scale, c.problem_sd * sqrt(weight), squares, d->seeds);
    c.seed_sd = quantile_of(&p, 0.5);
    draw(d, &p, seed, draws);
    c.low = draws[(int)(ALPHA / 2 * STATS_DRAWS)];
    c.high = draws[STATS_DRAWS - 1 - (int)(ALPHA / 2 * STATS_DRAWS)];
    double below = share_below(draws, 0);
    c.p = c.adjusted = fmin(1, 2 * fmin(below, 1 - below));
    free(draws);
    return c;
}

/* ---- Verdicts ---- */

void stats_holm(Compared *list, int n)
{
    bool *done = calloc((size_t)n + 1, sizeof *done);
    CHECK(done);
    double most = 0;
    for (int k = 0; k < n; k++) {
        int next = -1;
        for (int i = 0; i < n; i++)
            if (!done[i] && (next < 0 || list[i].p < list[next].p)) next = i;
        done[next] = true;
        most = fmax(most, fmin(1, (n - k) * list[next].p));
        list[next].adjusted = most;
    }
    free(done);
}

StatsVerdict stats_verdict(const Compared *c)
{
    if (c->adjusted >= ALPHA) return VERDICT_UNRESOLVED;
    return c->difference > 0 ? VERDICT_HIGHER : VERDICT_LOWER;
}

const char *stats_verdict_name(StatsVerdict v)
{
    return v == VERDICT_HIGHER ? "higher" : v == VERDICT_LOWER ? "lower" : "not resolved";
}

int stats_needs(const Compared *c)
{
    if (stats_verdict(c) != VERDICT_UNRESOLVED) return 0;
    double half = (c->high - c->low) / 2, size = fabs(c->difference);
    if (!(size > 0) || !(half > 0)) return -1;
    double ratio = fmax(half / size, 1.01), seeds = ceil(c->seeds * ratio * ratio);
    return seeds - c->seeds > NEEDS_MOST ? -1 : (int)seeds - c->seeds;
}

/* ---- Planning ---- */

/* Half the width that the interval will have: the 97.5 % quantile of a mixture of normals over the posterior that
 * the seeds give, whose means are taken to spread by one standard deviation more than is expected (chi-squared,
 * seeds - 1 degrees). */
static double expected_half_width(double problem_sd, double seed_sd, int seeds, int problems)
{
    double chi2 = seeds - 1 + sqrt(2 * (seeds - 1)), noise = problem_sd / sqrt(problems), low = 0,
           high = 100 * (problem_sd + seed_sd) + 1;
    Posterior p;
    seed_posterior(&p, STATS_SEED_SCALE * problem_sd, noise, chi2 * (noise * noise + seed_sd * seed_sd), seeds);
    for (int k = 0; k < 60; k++) {
        double at = (low + high) / 2, above = 0, before = 0;
        for (int i = 0; i < GRID; i++) {
            double sd = sqrt((noise * noise + p.value[i] * p.value[i]) / seeds);
            above += (p.share[i] - before) * erfc(at / sd / sqrt(2));
            before = p.share[i];
        }
        if (above > ALPHA) low = at;
        else high = at;
    }
    return high;
}

double stats_resolvable(double problem_sd, double seed_sd, int seeds, int problems)
{
    static const double NINE_OF_TEN = 1.2816; /* quantile of the normal distribution */
    double error = sqrt((seed_sd * seed_sd + problem_sd * problem_sd / problems) / seeds);
    return expected_half_width(problem_sd, seed_sd, seeds, problems) + NINE_OF_TEN * error;
}

int stats_problems(double problem_sd, double seed_sd, int seeds, double effect)
{
    int low = 1, high = 2;
    while (high < PROBLEMS_MOST && stats_resolvable(problem_sd, seed_sd, seeds, high) > effect) low = high, high *= 2;
    if (high >= PROBLEMS_MOST) return 0;
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (stats_resolvable(problem_sd, seed_sd, seeds, middle) > effect) low = middle;
        else high = middle;
    }
    return high;
}
