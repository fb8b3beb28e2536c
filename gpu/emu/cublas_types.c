/* gpu/cublas_calls.h against NVIDIA's own cublas_v2.h: symbols, values, every parameter. `make gpu` compiles it where that
 * header is installed. A call by our prototypes passes the same registers only while every enum is an int. */
#define cublasContext nvidia_context /* its handle is another opaque pointer */
#include <cublas_v2.h>
#undef cublasContext

#include "gpu/cublas_calls.h"

#define TEXT_OF(x)         #x
#define TEXT(x)            TEXT_OF(x)
#define SAME(name, symbol) _Static_assert(!__builtin_strcmp(TEXT(name), symbol), "the symbol of a cuBLAS function");
CUBLAS_SYMBOLS(SAME)

#define IS(ours, theirs) _Static_assert((int)(ours) == (int)(theirs), "a value of cuBLAS")
IS(CUBLAS_N, CUBLAS_OP_N);
IS(CUBLAS_T, CUBLAS_OP_T);
IS(CUBLAS_F32, CUDA_R_32F);
IS(CUBLAS_BF16, CUDA_R_16BF);
IS(CUBLAS_SUMS_F32, CUBLAS_COMPUTE_32F);
IS(CUBLAS_ALGORITHM, CUBLAS_GEMM_DEFAULT);
IS(CUBLAS_NO_REDUCED_SUMS, CUBLAS_DEFAULT_MATH | CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
IS(0, CUBLAS_STATUS_SUCCESS);

#define INT(type) _Static_assert(sizeof(type) == sizeof(int), "an enum of cuBLAS is passed as an int")
INT(cublasStatus_t);
INT(cublasOperation_t);
INT(cublasMath_t);
INT(cudaDataType);
INT(cublasComputeType_t);
INT(cublasGemmAlgo_t);

/* theirs, written with their enums; ours (CublasCalls) has an int for each. */
#define TAKES(function, ...)                                                                                           \
    _Static_assert(__builtin_types_compatible_p(__typeof__(&function), cublasStatus_t (*)(__VA_ARGS__)),               \
                   "the parameters of a cuBLAS function")
TAKES(cublasCreate, cublasHandle_t *);
TAKES(cublasDestroy, cublasHandle_t);
TAKES(cublasSetStream, cublasHandle_t, cudaStream_t);
TAKES(cublasSetWorkspace, cublasHandle_t, void *, size_t);
TAKES(cublasSetMathMode, cublasHandle_t, cublasMath_t);
TAKES(cublasGetVersion, cublasHandle_t, int *);
TAKES(cublasGemmStridedBatchedEx, cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void *,
      const void *, cudaDataType, int, long long, const void *, cudaDataType, int, long long, const void *, void *,
      cudaDataType, int, long long, int, cublasComputeType_t, cublasGemmAlgo_t);

/* The same parameters with our types, as gpu/gemm_cublas.c passes them: an int where theirs has an enum, else the same. */
#define OURS(member, ...)                                                                                              \
    _Static_assert(__builtin_types_compatible_p(__typeof__(((CublasCalls *)0)->member), int (*)(__VA_ARGS__)),         \
                   "a member of CublasCalls")
OURS(create, CublasHandle *);
OURS(destroy, CublasHandle);
OURS(set_stream, CublasHandle, cudaStream_t);
OURS(set_workspace, CublasHandle, void *, size_t);
OURS(set_math_mode, CublasHandle, int);
OURS(get_version, CublasHandle, int *);
OURS(gemm_batched, CublasHandle, int, int, int, int, int, const void *, const void *, int, int, long long, const void *,
     int, int, long long, const void *, void *, int, int, long long, int, int, int);
