/* What evaluations ask of a needle's problem: how long, how deep. */
#ifndef DATA_TASKS_NEEDLE_H
#define DATA_TASKS_NEEDLE_H

enum { NEEDLE_LEVELS = 12 };

/* Digits of the haystack at a level. */
int needle_length(int level);
/* Where the needle lies, 0 the start, 1 the end. */
double needle_depth(const char *prompt);

#endif
