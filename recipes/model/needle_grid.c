/* Needles found, by length and depth. */
#include "recipes/model/needle_grid.h"

#include <stdio.h>
#include <string.h>

void needle_grid_add(NeedleGrid *g, const JudgedText *judged)
{
    const Problem *p = judged->problem;
    if (!p->task || strcmp(p->task->name, "needle")) return;
    int depth = (int)(needle_depth(p->prompt) * NEEDLE_DEPTHS);
    if (depth >= NEEDLE_DEPTHS) depth = NEEDLE_DEPTHS - 1;
    g->tried[p->level][depth]++;
    g->found[p->level][depth] += judged->verdict.score >= 1.0f;
    g->all++;
}

static bool has_level(const NeedleGrid *g, int level)
{
    long n = 0;
    for (int d = 0; d < NEEDLE_DEPTHS; d++) n += g->tried[level][d];
    return n > 0;
}

void needle_grid_print(const NeedleGrid *g)
{
    if (!g->all) return;
    printf("needles found, %% by digits (rows) and depth (columns, of samples):\n%8s", "");
    for (int d = 0; d < NEEDLE_DEPTHS; d++)
        printf("  %3d-%3d %%", 100 * d / NEEDLE_DEPTHS, 100 * (d + 1) / NEEDLE_DEPTHS);
    printf("\n");
    for (int level = 1; level <= NEEDLE_LEVELS; level++) {
        if (!has_level(g, level)) continue;
        printf("%8d", needle_length(level));
        for (int d = 0; d < NEEDLE_DEPTHS; d++) {
            long n = g->tried[level][d];
            if (n) printf("  %9.1f", 100.0 * (double)g->found[level][d] / (double)n);
            else printf("  %9s", "-");
        }
        printf("\n");
    }
}

Json *needle_grid_json(const NeedleGrid *g)
{
    if (!g->all) return NULL;
    Json *o = json_new_object(), *lengths = json_new_array(), *found = json_new_array(), *tried = json_new_array();
    for (int level = 1; level <= NEEDLE_LEVELS; level++) {
        if (!has_level(g, level)) continue;
        Json *shares = json_new_array(), *counts = json_new_array();
        for (int d = 0; d < NEEDLE_DEPTHS; d++) {
            long n = g->tried[level][d];
            json_append(shares, n ? json_new_number((double)g->found[level][d] / (double)n) : json_new_null());
            json_append(counts, json_new_int(n));
        }
        json_append(lengths, json_new_int(needle_length(level)));
        json_append(found, shares);
        json_append(tried, counts);
    }
    json_set(o, "lengths", lengths);
    json_set(o, "found", found);
    json_set(o, "tried", tried);
    return o;
}
