/* A backend that computes nothing: a step on it takes its memory, and its ops can be counted (core/ops_clocked.h). */
#ifndef CORE_OPS_DRY_H
#define CORE_OPS_DRY_H

#include "core/ops.h"

/* Nothing is written but the router's choice: token n goes to experts 0 .. K - 1. */
Backend *ops_dry_open(const Ops **ops);

#endif
