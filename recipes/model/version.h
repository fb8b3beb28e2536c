/* What this program is: `r1 --version`, and the head of a run's summary. */
#ifndef RECIPES_VERSION_H
#define RECIPES_VERSION_H

#include <stdio.h>

#define R1_VERSION "0.2"

extern const char
    r1_commit[]; /* of the sources, "+" behind it when they were changed since; "unknown" outside git (Makefile) */

/* Version and commit; kernels, compiler; every library with the version that runs. */
void version_print(FILE *out);

#endif
