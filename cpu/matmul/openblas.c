/* OpenBLAS as a matmul provider, on one thread. The only file that sees cblas.h. */
#include <stdio.h>

#include "cpu/internal.h"

#ifdef HAVE_OPENBLAS
#include <cblas.h>

static void openblas_open(Backend *b)
{
    (void)b;
    openblas_set_num_threads(1);
}

static void openblas_sgemm(Backend *b, int thread, bool ta, bool tb, size_t M, size_t N, size_t K, const float *a,
                           size_t lda, const float *bp, size_t ldb, bool add, float *c, size_t ldc)
{
    (void)b, (void)thread;
    cblas_sgemm(CblasRowMajor, ta ? CblasTrans : CblasNoTrans, tb ? CblasTrans : CblasNoTrans, (int)M, (int)N, (int)K,
                1.0f, a, (int)lda, bp, (int)ldb, add ? 1.0f : 0.0f, c, (int)ldc);
}

BLAS_PROVIDER(openblas, openblas_open, NULL)
#endif

const GemmProvider *gemm_openblas(void)
{
#ifdef HAVE_OPENBLAS
    return &provider;
#else
    return NULL;
#endif
}

const char *openblas_library(void)
{
#ifdef HAVE_OPENBLAS
    static char text[32];
    char name[16] = "", version[16] = "";
    sscanf(openblas_get_config(), "%15s %15s", name, version); /* "OpenBLAS 0.3.21 NO_LAPACKE ..." */
    snprintf(text, sizeof text, "%.15s %.15s", name, version);
    return text;
#else
    return NULL;
#endif
}
