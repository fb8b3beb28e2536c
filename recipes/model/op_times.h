/* Where the time goes: a backend that passes every op on to another one and writes down seconds, FLOPs and bytes. What
 * it costs is two clock readings a call; results are the other backend's. */
#ifndef RECIPES_OP_TIMES_H
#define RECIPES_OP_TIMES_H

#include <stdio.h>

#include "core/ops.h"
#include "recipes/model/machine.h"

/* One op at one weight shape (matrix products), or one op. FLOPs and bytes are what the op's formula needs when every
 * argument is read or written once: attention scores computed again in backward do not count. */
typedef struct OpTime {
    const char *op;
    size_t out, in; /* rows and columns of the weight; 0: not a matrix product */
    long calls;
    double seconds, flops, read, written;
} OpTime;

typedef struct OpTimes OpTimes;

/* Times the ops of backend b from now on: use op_times_ops with op_times_backend in their place. Its `close` closes b
 * too. With ops NULL nothing is computed and nothing but the router's choice is written: a model's step then only
 * counts, and only takes the memory it would take (recipes/plan/plan.c). */
OpTimes *op_times_open(const Ops *ops, Backend *b);
const Ops *op_times_ops(void);
Backend *op_times_backend(OpTimes *t);

/* Puts itself between core and the backend of an opened machine: m->times, ops and backend. */
void op_times_machine(Machine *m);

/* The clock goes to this phase ("rollout", a literal) from now on, and NULL to none; returns the one before. t may be NULL. */
const char *op_times_phase(OpTimes *t, const char *phase);
/* Phases, then ops: seconds, share, and what an op reached. */
void op_times_print(OpTimes *t, FILE *out);

void op_times_reset(OpTimes *t);
/* Several runs of the same calls: op_times_next_run ends each one, and op_times_fastest leaves every entry's fastest. */
void op_times_next_run(OpTimes *t);
void op_times_fastest(OpTimes *t);
/* The entries since the reset, in the order of their first call; a view. */
const OpTime *op_times_list(const OpTimes *t, int *n);
/* The same with the shapes of an op added up, the longest first. Returns how many it wrote to out[max]. */
int op_times_by_op(const OpTimes *t, OpTime *out, int max);

#endif
