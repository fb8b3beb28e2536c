/* OpenBLAS as a matmul provider, on one thread. The only file that sees cblas.h. */
#include <stdio.h>

#include "cpu/matmul/blas.h"

#ifdef HAVE_OPENBLAS
#include <cblas.h>

static void openblas_open(Backend *b)
{
    (void)b;
    openblas_set_num_threads(1);
}

static void openblas_sgemm(Backend *b, int thread, Mat c, Mat x, bool tx, Mat y, bool ty, bool add)
{
    (void)b, (void)thread;
    cblas_sgemm(CblasRowMajor, tx ? CblasTrans : CblasNoTrans, ty ? CblasTrans : CblasNoTrans, (int)c.rows, (int)c.cols,
                (int)(tx ? x.rows : x.cols), 1.0f, x.p, (int)x.stride, y.p, (int)y.stride, add ? 1.0f : 0.0f, c.p,
                (int)c.stride);
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
