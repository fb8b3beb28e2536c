/* oneDNN as a matmul provider: its row-major sgemm on one thread. The only file that sees dnnl.h. */
#include "cpu/internal.h"

#ifdef HAVE_ONEDNN
#include <dnnl.h>

/* Outside a team of ours the library would start its own: its thread count is OpenMP's default, which we never use. */
static void onednn_open(void)
{
    omp_set_num_threads(1);
}

static void onednn_sgemm(Backend *b, bool ta, bool tb, size_t M, size_t N, size_t K, const float *a, size_t lda,
                         const float *bp, size_t ldb, bool add, float *c, size_t ldc)
{
    if (M == 0 || N == 0) {
        return;
    }
    dnnl_status_t status =
        dnnl_sgemm(ta ? 'T' : 'N', tb ? 'T' : 'N', (dnnl_dim_t)M, (dnnl_dim_t)N, (dnnl_dim_t)K, 1.0f, a, (dnnl_dim_t)lda,
                   bp, (dnnl_dim_t)ldb, add ? 1.0f : 0.0f, c, (dnnl_dim_t)ldc);
    if (status != dnnl_success) {
#pragma omp critical(cpu_fault)
        fail(&b->fault, "oneDNN: a matmul of %zu x %zu x %zu failed with status %d; try --matmul native", M, N, K,
             (int)status);
    }
}

static const GemmProvider provider = {
    .name = "onednn",
    .isa_matters = true,
    .open = onednn_open,
    .sgemm = onednn_sgemm,
    BLAS_PROVIDER_CALLS,
};
#endif

const GemmProvider *gemm_onednn(void)
{
#ifdef HAVE_ONEDNN
    return &provider;
#else
    return NULL;
#endif
}
