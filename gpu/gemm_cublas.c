/* Dense bf16 products by cuBLAS: one handle, one stream, a workspace of ours, sums in f32, so that a run has the same
 * bits again on the same card and version (cuBLAS documentation, "Results reproducibility"). Which kernel cuBLAS takes
 * may depend on the number of rows: rows are not promised to be independent of the batch. */
#include "gpu/gemm_cublas.h"

#include <dlfcn.h>
#include <stdlib.h>

#include "gpu/cublas_calls.h"

enum { WORKSPACE = 32 << 20 };

typedef struct Cublas {
    CublasCalls calls;
    CublasHandle handle;
    void *workspace;
} Cublas;

#if defined(R1_EMULATED)
static bool find_calls(CublasCalls *calls, Status *st)
{
    (void)st;
    *calls = emu_cublas;
    return true;
}
#else
static bool find_calls(CublasCalls *calls, Status *st)
{
#define SYMBOL(name, symbol) symbol,
    static const char *const names[] = {CUBLAS_SYMBOLS(SYMBOL)};
#undef SYMBOL
    void *library = dlopen("libcublas.so.13", RTLD_NOW | RTLD_LOCAL);
    if (!library) library = dlopen("libcublas.so.12", RTLD_NOW | RTLD_LOCAL);
    if (!library)
        return fail(st, "libcublas.so.13 is not found (%s); put it on the library path or say --matmul mma", dlerror());
    void *found[sizeof names / sizeof *names];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        found[i] = dlsym(library, names[i]);
        if (!found[i]) return fail(st, "libcublas has no %s; say --matmul mma", names[i]);
    }
    memcpy(calls, found, sizeof found);
    return true;
}
#endif

int cublas_version(const Backend *b)
{
    const Cublas *c = b->cublas;
    int version = 0;
    return c && c->handle && !c->calls.get_version(c->handle, &version) ? version : 0;
}

bool cublas_open(Backend *b, Status *st)
{
    Cublas *c = calloc(1, sizeof *c);
    b->cublas = c;
    if (!c) return fail(st, "cuBLAS: out of memory");
    c->workspace = gpu_alloc(b, WORKSPACE);
    if (!c->workspace) return fail(st, "cuBLAS: no %d MB of device memory for its workspace", WORKSPACE >> 20);
    if (!b->stream) return true;
    if (!find_calls(&c->calls, st)) return false;
    if (c->calls.create(&c->handle) || c->calls.set_stream(c->handle, b->stream) ||
        c->calls.set_workspace(c->handle, c->workspace, WORKSPACE) ||
        c->calls.set_math_mode(c->handle, CUBLAS_NO_REDUCED_SUMS))
        return fail(st, "cuBLAS does not start on GPU %d; say --matmul mma", b->device);
    return true;
}

void cublas_close(Backend *b)
{
    Cublas *c = b->cublas;
    if (!c) return;
    if (c->handle) c->calls.destroy(c->handle);
    gpu_free(b, c->workspace);
    free(c);
    b->cublas = NULL;
}

/* Row-major c = op(a) op(b) is, by columns, c^T = op(b)^T op(a)^T: b is cuBLAS's first operand. */
bool gemm_cublas(Backend *b, GemmForm form, GemmCall g)
{
    if (g.offsets || g.bias) return false;
    if (g.M <= 0 || g.N <= 0 || g.K <= 0 || !gemm_operands(b, form, &g) || !b->stream) return true;
    const Cublas *c = b->cublas;
    float one = 1.0f, beta = form == GEMM_TN || g.add ? 1.0f : 0.0f;
    int wrong = c->calls.gemm_batched(
        c->handle, form == GEMM_NT ? CUBLAS_T : CUBLAS_N, form == GEMM_TN ? CUBLAS_T : CUBLAS_N, g.N, g.M, g.K, &one,
        g.b, CUBLAS_BF16, (int)g.ldb, (long long)g.b_step, g.a, CUBLAS_BF16, (int)g.lda, (long long)g.a_step, &beta,
        g.c, g.c_type == DTYPE_BF16 ? CUBLAS_BF16 : CUBLAS_F32, (int)g.ldc, (long long)g.c_step,
        g.batch > 0 ? g.batch : 1, CUBLAS_SUMS_F32, CUBLAS_ALGORITHM);
    if (wrong)
        fail(&b->fault, "GPU %d: cuBLAS failed with status %d on a product of %d x %d x %d", b->device, wrong, g.M, g.N,
             g.K);
    return true;
}
