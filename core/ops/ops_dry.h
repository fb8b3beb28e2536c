/* A backend that computes nothing: a step on it takes its memory, and its ops can be counted (core/ops/ops_clocked.h). */
#ifndef CORE_OPS_DRY_H
#define CORE_OPS_DRY_H

#include "core/ops/ops.h"

/* Memory is the process's. Nothing is written but what core reads: token n goes to experts 0 .. K - 1. like: the
 * device whose slices of rows and head chunks in flight it has. */
Backend *ops_dry_open(const Ops **ops, const Device *like);

#endif
