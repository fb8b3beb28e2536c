/* The start-up self-test of matmul providers. */
#ifndef CPU_SELF_TEST_H
#define CPU_SELF_TEST_H

#include "core/ops/ops.h"

/* Is a row's product independent of the other rows of the call (Ops.rows_independent)? Tried with the f32 provider of all shapes
 * and the first of the table's exceptions. */
bool self_test(Backend *b);

#endif
