/* The report: one self-contained HTML page (no network, no scripts, light and dark) of one run or several. It reads what runs
 * wrote: summary.json, metrics.jsonl, samples.jsonl, recipe.yaml. A run in progress gives the page of what is there. */
#ifndef RECIPES_REPORT_H
#define RECIPES_REPORT_H

#include "core/base/status.h"

enum { REPORT_RUNS = 8 };

/* Writes the page of n run folders (1 .. REPORT_RUNS) to `out`; NULL: FOLDER/report.html, for several FIRST/compare.html.
 * Fails when a folder is no run. */
bool report_write(const char *const *folders, int n, const char *out, Status *st);

#endif
