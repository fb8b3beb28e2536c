/* Dense bf16 products by cuBLAS, which is opened at run time. */
#ifndef GPU_GEMM_CUBLAS_H
#define GPU_GEMM_CUBLAS_H

#include "gpu/internal.h"
#include "gpu/kernels/gemm/gemm.h"

/* Opens the library for b; false and a sentence where it is not found or does not start. */
bool cublas_open(Backend *b, Status *st);
void cublas_close(Backend *b);
int cublas_version(const Backend *b); /* 0: not open */
/* As gemm_mma, but for calls of experts and those with a bias: false, and nothing is done. Equal from run to run on one card and
 * one version; a row's bits may depend on how many rows there are. */
bool gemm_cublas(Backend *b, GemmForm form, GemmCall g);

#endif
