/* Text and numbers of an HTML page. */
#ifndef RECIPES_REPORT_HTML_H
#define RECIPES_REPORT_HTML_H

#include <stdio.h>

extern const char report_style[]; /* recipes/report/style.css, embedded as the recipes are (recipes_to_c.sh) */

/* Text with & < > " escaped. */
void html_text(FILE *out, const char *text);

/* "12.3"; "12.3M", "4.56G"; a dash for NAN. */
void html_number(FILE *out, double v, int digits);
void html_count(FILE *out, double v);

#endif
