/* A backend whose memory the process may not touch: every block and arena is PROT_NONE but while an op or a copy runs,
 * and what an arena gives out is filled with NaN first; an op that is given a pointer to anything else aborts. So code
 * that touches the device's memory by itself, or forgets an upload, ends where it does. A download that is fetched later
 * is delivered when it is waited for, and NaN until then. Two head chunks are in flight. Results are the other backend's. */
#ifndef TESTS_UNIT_FAR_BACKEND_H
#define TESTS_UNIT_FAR_BACKEND_H

#include "core/ops/ops.h"

/* Puts itself between the caller and *ops with *b, which computes in the process's memory; its `close` closes that one
 * too. slice_rows: Device's. */
void far_open(const Ops **ops, Backend **b, size_t slice_rows);

#endif
