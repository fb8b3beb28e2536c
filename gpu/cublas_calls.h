/* The part of cuBLAS's interface that is used, by its names and values (cublas_api.h), so that a build needs no header
 * and no library of it: libcublas alone has hundreds of megabytes. gpu/emu/cublas.cc has the same functions. Where the
 * header is installed, gpu/emu/cublas_types.c compares all of it with that. */
#ifndef GPU_CUBLAS_CALLS_H
#define GPU_CUBLAS_CALLS_H

#include <cuda_runtime_api.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cublasContext *CublasHandle;
enum {
    CUBLAS_N = 0,                 /* CUBLAS_OP_N */
    CUBLAS_T = 1,                 /* CUBLAS_OP_T */
    CUBLAS_F32 = 0,               /* CUDA_R_32F */
    CUBLAS_BF16 = 14,             /* CUDA_R_16BF */
    CUBLAS_SUMS_F32 = 68,         /* CUBLAS_COMPUTE_32F */
    CUBLAS_ALGORITHM = -1,        /* CUBLAS_GEMM_DEFAULT */
    CUBLAS_NO_REDUCED_SUMS = 0x10 /* CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION */
};

/* All give cublasStatus_t: 0 is success. */
typedef struct CublasCalls {
    int (*create)(CublasHandle *handle);
    int (*destroy)(CublasHandle handle);
    int (*set_stream)(CublasHandle handle, cudaStream_t stream);
    int (*set_workspace)(CublasHandle handle, void *workspace, size_t bytes);
    int (*set_math_mode)(CublasHandle handle, int mode);
    int (*get_version)(CublasHandle handle, int *version);
    int (*gemm_batched)(CublasHandle handle, int op_a, int op_b, int m, int n, int k, const void *alpha, const void *a,
                        int a_type, int lda, long long a_step, const void *b, int b_type, int ldb, long long b_step,
                        const void *beta, void *c, int c_type, int ldc, long long c_step, int count, int compute,
                        int algorithm);
} CublasCalls;

/* In the order of CublasCalls: NVIDIA's name, and the library's symbol for it. */
#define CUBLAS_SYMBOLS(OF)                                                                                             \
    OF(cublasCreate, "cublasCreate_v2")                                                                                \
    OF(cublasDestroy, "cublasDestroy_v2")                                                                              \
    OF(cublasSetStream, "cublasSetStream_v2")                                                                          \
    OF(cublasSetWorkspace, "cublasSetWorkspace_v2")                                                                    \
    OF(cublasSetMathMode, "cublasSetMathMode")                                                                         \
    OF(cublasGetVersion, "cublasGetVersion_v2")                                                                        \
    OF(cublasGemmStridedBatchedEx, "cublasGemmStridedBatchedEx")

#if defined(R1_EMULATED)
extern const CublasCalls emu_cublas;
#endif

#ifdef __cplusplus
}
#endif
#endif
