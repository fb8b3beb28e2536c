/* The clock of `r1 run -v` and `r1 bench`: a machine's ops timed (core/ops/ops_clocked.h), and the table that is printed. */
#ifndef RECIPES_OP_TIMES_H
#define RECIPES_OP_TIMES_H

#include <stdio.h>

#include "core/ops/ops_clocked.h"
#include "recipes/model/machine.h"

/* Puts the clock between core and the backend of an opened machine: m->times, ops and backend. */
void op_times_machine(Machine *m);
/* Phases, then ops: seconds, share, and what an op reached. */
void op_times_print(OpTimes *t, FILE *out);

#endif
