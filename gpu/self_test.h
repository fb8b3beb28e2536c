/* Start-up test of the tensor-core kernels. */
#ifndef GPU_SELF_TEST_H
#define GPU_SELF_TEST_H

#include "gpu/internal.h"

/* True: rows of products and of attention have the same bits alone and in a batch, in every tile, on this card. */
bool gpu_self_test(Backend *b);

#endif
