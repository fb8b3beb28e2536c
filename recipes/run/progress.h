/* The progress line. On a terminal one line that is rewritten (stage, bar, step, reward, pass@1, tokens/s, time left); in a file
 * or a pipe a plain line every few seconds. */
#ifndef RECIPES_PROGRESS_H
#define RECIPES_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct Progress Progress;

typedef struct ProgressStep {
    int64_t step;
    double loss, reward, pass1, tokens_per_s; /* NAN: not shown */
} ProgressStep;

/* out is usually stderr; not closed. quiet: only notes are written. */
Progress *progress_new(FILE *out, bool quiet);
void progress_free(Progress *p);

/* A stage begins at `step` of `total` (0: unknown). */
void progress_stage(Progress *p, const char *stage, int64_t step, int64_t total);
void progress_step(Progress *p, const ProgressStep *s);
/* The stage is over: its last line stays, with the time it took. */
void progress_stage_end(Progress *p);
/* A whole line of its own (a warning, an evaluation), without tearing the progress line. */
void progress_note(Progress *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "1:05", "2:03:04" or "?" for seconds; out has room for 24 bytes. */
const char *progress_time(double seconds, char *out);

#endif
