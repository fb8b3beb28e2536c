/* Where the time goes: a table of ops that passes every call on to another one and writes down seconds, FLOPs and bytes. What it
 * costs is two clock readings a call; results are the other table's. */
#ifndef CORE_OPS_CLOCKED_H
#define CORE_OPS_CLOCKED_H

#include "core/ops/ops.h"

/* One op at one weight shape (matrix products), or one op. FLOPs and bytes: core/ops/op_costs.h. */
typedef struct OpTime {
    const char *op;
    size_t out, in; /* rows and columns of the weight; 0: not a matrix product */
    long calls;
    double seconds, flops, read, written;
} OpTime;

typedef struct OpPhase {
    const char *name;
    double seconds;
} OpPhase;

typedef struct OpTimes OpTimes;

/* Puts itself between the caller and *ops with *b, which it replaces. Its `close` closes that backend too. */
OpTimes *ops_clocked_open(const Ops **ops, Backend **b);

/* The clock goes to this phase ("rollout", a literal) from now on, and NULL to none; returns the one before. t may be NULL. */
const char *ops_clocked_phase(OpTimes *t, const char *phase);
/* All phases so far, in the order of their first; a view. */
const OpPhase *ops_clocked_phases(OpTimes *t, int *n);

void ops_clocked_reset(OpTimes *t);
/* Several runs of the same calls: ops_clocked_next_run ends each one, and ops_clocked_fastest leaves every entry's fastest. */
void ops_clocked_next_run(OpTimes *t);
void ops_clocked_fastest(OpTimes *t);
/* The entries since the reset, in the order of their first call; a view. At most OP_TIMES. */
enum { OP_TIMES = 128 };
const OpTime *ops_clocked_list(const OpTimes *t, int *n);
/* The same with the shapes of an op added up, the longest first. Returns how many it wrote to out[max]. */
int ops_clocked_by_op(const OpTimes *t, OpTime *out, int max);

#endif
