/* One self-contained HTML page of an ablation (no network, no scripts). */
#ifndef RECIPES_ABLATE_PAGE_H
#define RECIPES_ABLATE_PAGE_H

#include <stdio.h>

#include "recipes/ablate/results.h"

/* The whole page as text; free(). command: what a person types to repeat it. */
char *ablate_page(const Results *r, const char *command);

/* Its parts, for pages that hold several ablations (r1 paper): verdict line and forest of a metric; the matrix of
 * arms and metrics; curves with seed bands; answers where arms differ. */
void ablate_forest(FILE *out, const Results *r, int metric);
void ablate_matrix(FILE *out, const Results *r);
void ablate_curves(FILE *out, const Results *r);
void ablate_answers(FILE *out, const Results *r);

/* Opening and end of a page with this title. */
void ablate_page_head(FILE *out, const char *title);
void ablate_page_foot(FILE *out, const char *by);

#endif
