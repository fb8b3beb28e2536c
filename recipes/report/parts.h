/* The sections of a report, each in a file of its own; report.c puts them on a page. Nothing is written for a section without
 * data. */
#ifndef RECIPES_REPORT_PARTS_H
#define RECIPES_REPORT_PARTS_H

#include <stdio.h>

#include "recipes/report/data.h"
#include "recipes/report/html.h"

enum { REPORT_COLUMNS = 32 };

void report_marks(FILE *out, const ReportRun *runs, int n);  /* pass@1 by stage */
void report_tables(FILE *out, const ReportRun *runs, int n); /* the stage table */
void report_student(FILE *out, const ReportRun *r);          /* distilled against RL, with cost */
void report_reward_models(FILE *out, const ReportRun *r);    /* held-out accuracy */
void report_curves(FILE *out, const ReportRun *runs, int n);
void report_rows(FILE *out, const ReportRun *r);    /* what became of the rows of files */
void report_reasons(FILE *out, const ReportRun *r); /* failed verdicts by stage */
void report_needles(FILE *out, const ReportRun *r); /* by length and depth */
void report_samples(FILE *out, const ReportRun *r);
void report_warnings(FILE *out, const ReportRun *runs, int n);

#endif
