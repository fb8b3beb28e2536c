#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/internal.h"

typedef struct IsaChoice {
    const char *name;
    const KernelTable *kernels;
    bool possible;
} IsaChoice;

enum { ISAS = 4 };

static void isa_choices(IsaChoice *out)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
    out[0] = (IsaChoice){"avx512bf16", &cpu_kernels_avx512bf16, bf16};
    out[1] = (IsaChoice){"avx512", &cpu_kernels_avx512, avx512};
    out[2] = (IsaChoice){"avx2", &cpu_kernels_avx2, avx2};
#else
    out[0] = (IsaChoice){"avx512bf16", NULL, false};
    out[1] = (IsaChoice){"avx512", NULL, false};
    out[2] = (IsaChoice){"avx2", NULL, false};
#endif
    out[3] = (IsaChoice){"plain", &cpu_kernels_plain, true};
}

static const KernelTable *choose_kernels(const char *wanted, Status *st)
{
    IsaChoice choices[ISAS];
    isa_choices(choices);
    const char *env = getenv("R1_ISA");
    if (!wanted && env && *env) wanted = env;
    for (int i = 0; i < ISAS; i++) {
        if (wanted ? strcmp(wanted, choices[i].name) == 0 : choices[i].possible) {
            if (!choices[i].possible) {
                fail(st, "instruction set %s: this CPU does not have it; try avx2 or plain", wanted);
            }
            return choices[i].possible ? choices[i].kernels : NULL;
        }
    }
    fail(st, "instruction set \"%s\" is unknown; try avx512bf16, avx512, avx2 or plain", wanted);
    return NULL;
}

enum { PROVIDERS = 3 };

/* Best first; those not built in are left out. */
static int providers(const GemmProvider **out, const KernelTable *kernels)
{
    const GemmProvider *all[PROVIDERS] = {kernels->native, gemm_onednn(), gemm_openblas()};
    int count = 0;
    for (int i = 0; i < PROVIDERS; i++) {
        if (all[i]) {
            out[count++] = all[i];
        }
    }
    return count;
}

const char *cpu_matmul_providers(void)
{
    static char text[64];
    const GemmProvider *all[PROVIDERS];
    int count = providers(all, &cpu_kernels_plain);
    text[0] = '\0';
    for (int i = 0; i < count; i++) {
        strcat(strcat(text, i ? ", " : ""), all[i]->name);
    }
    return text;
}

static bool choose_provider(Backend *b, const char *wanted, Status *st)
{
    const GemmProvider *all[PROVIDERS];
    int count = providers(all, b->kernels);
    for (int i = 0; i < count && !b->gemm; i++) {
        if (!wanted || strcmp(wanted, all[i]->name) == 0) {
            b->gemm = all[i];
        }
    }
    if (!b->gemm) {
        return fail(st, "matmul \"%s\" is not in this build; try one of: %s", wanted, cpu_matmul_providers());
    }
    if (b->gemm->open) {
        b->gemm_state = b->gemm->open(b->threads);
    }
    return true;
}

static bool choose_bf16(Backend *b, const char *wanted, Status *st)
{
    const KernelTable *k = b->kernels;
    b->gemm_bf16 = k->dot_is_fast ? k->dot : k->widen;
    if (!wanted) return true;
    b->gemm_bf16 = strcmp(wanted, k->dot->name) == 0 ? k->dot : k->widen;
    return strcmp(wanted, b->gemm_bf16->name) == 0 || fail(st, "bf16 products by \"%s\": try dot or widen", wanted);
}

enum { TEST_ROWS = 67, TEST_IN = 80, TEST_OUT = 96 };

static void fill_pattern(float *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)seed * 0x1p-31f;
    }
}

/* Rows in calls of `rows` rows, forward and backward, against all in one call. */
static bool rows_agree(Backend *b, const float *x, Mat w, const float *whole, size_t rows, float *out)
{
    for (size_t n = 0; n + rows <= TEST_ROWS; n += rows) {
        cpu_linear_fwd(b, mat_f32(out, rows, TEST_OUT), mat_f32((float *)x + n * TEST_IN, rows, TEST_IN), w, NULL, false);
        if (memcmp(out, whole + n * TEST_OUT, rows * TEST_OUT * sizeof(float)) != 0) {
            return false;
        }
    }
    return true;
}

/* Start-up self-test: is a row independent of its neighbours? */
static bool self_test(Backend *b)
{
    ArenaMark mark = cpu_mark(b, 0);
    float *x = cpu_scratch(b, 0, TEST_ROWS * TEST_IN), *p = cpu_scratch(b, 0, TEST_OUT * TEST_IN);
    float *whole = cpu_scratch(b, 0, TEST_ROWS * TEST_OUT), *out = cpu_scratch(b, 0, TEST_ROWS * TEST_OUT);
    fill_pattern(x, TEST_ROWS * TEST_IN, 1);
    fill_pattern(p, TEST_OUT * TEST_IN, 2);
    Mat w = mat_f32(p, TEST_OUT, TEST_IN);
    cpu_linear_fwd(b, mat_f32(whole, TEST_ROWS, TEST_OUT), mat_f32(x, TEST_ROWS, TEST_IN), w, NULL, false);
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 16, 33};
    bool same = true;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        same = same && rows_agree(b, x, w, whole, sizes[i], out);
    }
    cpu_release(b, 0, mark);
    gemm_packs_close(b->packs); /* the test's weight lay in scratch */
    b->packs = gemm_packs_open();
    return same;
}

static const char *backend_describe(const Backend *b)
{
    return b->describe;
}

static bool backend_rows_independent(const Backend *b)
{
    return b->dtype == DTYPE_BF16 || b->gemm_invariant; /* the bf16 products are ours: by construction */
}

static const char *backend_machine_kind(const Backend *b)
{
    return b->machine_kind;
}

static bool backend_fault(Backend *b, Status *st)
{
    if (!b->fault.failed) {
        return true;
    }
    fail(st, "%s", b->fault.text);
    status_clear(&b->fault);
    return false;
}

static void backend_weights_changed(Backend *b)
{
    gemm_packs_stale(b->packs);
}

static size_t backend_bytes(const Backend *b)
{
    size_t total = gemm_packs_bytes(b->packs);
    for (int i = 0; i < b->threads; i++) {
        total += arena_bytes(&b->scratch[i].arena);
    }
    return total;
}

static void backend_close(Backend *b)
{
    if (!b) {
        return;
    }
    if (b->gemm && b->gemm->close) {
        b->gemm->close(b->gemm_state);
    }
    for (int i = 0; b->scratch && i < b->threads; i++) {
        arena_free(&b->scratch[i].arena);
    }
    if (b->packs) {
        gemm_packs_close(b->packs);
    }
    free(b->scratch);
    free(b->ops);
    free(b);
}

static void fill_table(Backend *b)
{
    Ops *ops = b->ops;
    *ops = b->kernels->ops;
#define USE_LINEAR_OP(name) ops->name = cpu_##name;
    CPU_LINEAR_OPS(USE_LINEAR_OP)
#undef USE_LINEAR_OP
    ops->abi = OPS_ABI;
    ops->describe = backend_describe;
    ops->machine_kind = backend_machine_kind;
    ops->rows_independent = backend_rows_independent;
    ops->fault = backend_fault;
    ops->weights_changed = backend_weights_changed;
    ops->bytes = backend_bytes;
    ops->close = backend_close;
}

static void name_machine(Backend *b)
{
    const GemmProvider *gemm = b->dtype == DTYPE_F32 ? b->gemm : b->gemm_bf16;
    bool matters = gemm->isa_matters;
    snprintf(b->machine_kind, sizeof b->machine_kind, "%s-%s/v%d%s%s", gemm->name, dtype_name(b->dtype), KERNELS_VERSION,
             matters ? "/" : "", matters ? b->kernels->isa : "");
    snprintf(b->describe, sizeof b->describe, "cpu: %s kernels, %s matmul %s (%s), %d thread%s", b->kernels->isa,
             dtype_name(b->dtype), gemm->name,
             backend_rows_independent(b) ? "rows independent of the batch" : "rows depend on the batch: gap measured",
             b->threads, b->threads == 1 ? "" : "s");
}

static bool backend_init(Backend *b, const CpuOptions *o, Status *st)
{
    b->dtype = o->dtype;
    b->threads = o->threads > 0 ? o->threads : omp_get_num_procs();
    b->ops = calloc(1, sizeof(Ops));
    b->scratch = aligned_alloc(_Alignof(ThreadScratch), (size_t)b->threads * sizeof(ThreadScratch));
    b->packs = gemm_packs_open();
    if (!b->ops || !b->scratch) {
        return fail(st, "cpu backend: out of memory for %d threads", b->threads);
    }
    memset(b->scratch, 0, (size_t)b->threads * sizeof(ThreadScratch));
    b->kernels = choose_kernels(o->isa, st);
    if (!b->kernels || !choose_provider(b, o->matmul, st) || !choose_bf16(b, o->bf16, st)) {
        return false;
    }
    fill_table(b);
    b->gemm_invariant = self_test(b);
    name_machine(b);
    return true;
}

Backend *cpu_open(const CpuOptions *options, const Ops **ops, Status *st)
{
    CpuOptions defaults = {0};
    Backend *b = calloc(1, sizeof(Backend));
    if (!b) {
        fail(st, "cpu backend: out of memory");
        return NULL;
    }
    if (!backend_init(b, options ? options : &defaults, st)) {
        backend_close(b);
        return NULL;
    }
    *ops = b->ops;
    return b;
}
