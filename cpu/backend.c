#include <sched.h>
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

enum { TEST_ROWS = 67, TEST_IN = 80, TEST_OUT = 96, TESTED_SHAPES = 4, TESTED_SIZE = 1 << 18 };

static void fill_pattern(float *p, size_t n, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        p[i] = (float)(int32_t)seed * 0x1p-31f;
    }
}

/* Rows in calls of `rows` rows, forward, against all in one call. */
static bool rows_agree(Backend *b, const float *x, Mat w, const float *whole, size_t rows, float *out)
{
    for (size_t n = 0; n + rows <= TEST_ROWS; n += rows) {
        cpu_linear_fwd(b, mat_f32(out, rows, w.rows), mat_f32((float *)x + n * w.cols, rows, w.cols), w, NULL, false);
        if (memcmp(out, whole + n * w.rows, rows * w.rows * sizeof(float)) != 0) {
            return false;
        }
    }
    return true;
}

/* Is a row independent of its neighbours where the weight is [out, in]? */
static bool shape_agrees(Backend *b, size_t out, size_t in)
{
    ArenaMark mark = cpu_mark(b, 0);
    float *x = cpu_scratch(b, 0, TEST_ROWS * in), *p = cpu_scratch(b, 0, out * in);
    float *whole = cpu_scratch(b, 0, TEST_ROWS * out), *part = cpu_scratch(b, 0, TEST_ROWS * out);
    fill_pattern(x, TEST_ROWS * in, 1);
    fill_pattern(p, out * in, 2);
    Mat w = mat_f32(p, out, in);
    cpu_linear_fwd(b, mat_f32(whole, TEST_ROWS, out), mat_f32(x, TEST_ROWS, in), w, NULL, false);
    static const size_t sizes[] = {1, 2, 3, 5, 8, 13, 16, 33};
    bool same = true;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        same = same && rows_agree(b, x, w, whole, sizes[i], part);
    }
    cpu_release(b, 0, mark);
    gemm_packs_close(b->packs); /* the test's weight lay in scratch */
    b->packs = gemm_packs_open();
    return same;
}

/* Start-up self-test: the provider of all shapes, and a few of the table's exceptions. */
static bool self_test(Backend *b)
{
    bool same = shape_agrees(b, TEST_OUT, TEST_IN);
    int tested = 0;
    for (size_t i = 0; i < b->gemm.count && tested < TESTED_SHAPES && same; i++) {
        const GemmEntry *e = &b->gemm.entries[i];
        if (e->dtype != DTYPE_F32 || e->op != GEMM_FWD || e->out * e->in > TESTED_SIZE) continue;
        same = shape_agrees(b, e->out, e->in);
        tested++;
    }
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

static void backend_weights_freed(Backend *b)
{
    gemm_packs_drop(b->packs);
}

static bool backend_keep_packed(Backend *b, bool keep)
{
    bool before = b->keep_packed;
    b->keep_packed = keep;
    return before;
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
    gemm_choice_close(b);
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

/* New threads may start on the processor of their maker and wait for it there, for 0.1 s and more. Where the team takes all
 * processors each thread goes to one of its own; what it may run on stays as it was. */
static void spread_threads(int threads)
{
#ifdef __linux__
#pragma omp parallel num_threads(threads)
    {
        cpu_set_t all, own;
        CPU_ZERO(&own);
        bool known = sched_getaffinity(0, sizeof all, &all) == 0 && CPU_COUNT(&all) == threads;
        for (int cpu = 0, left = omp_get_thread_num(); known && cpu < CPU_SETSIZE; cpu++)
            if (CPU_ISSET(cpu, &all) && left-- == 0) CPU_SET(cpu, &own);
        if (known && sched_setaffinity(0, sizeof own, &own) == 0) sched_setaffinity(0, sizeof all, &all);
    }
#else
    (void)threads;
#endif
}

static void fill_table(Backend *b)
{
    Ops *ops = b->ops;
    *ops = b->kernels->ops;
#define USE_LINEAR_OP(op) ops->op = cpu_##op;
    OPS_LINEAR(USE_LINEAR_OP)
#undef USE_LINEAR_OP
#define USE_BACKEND_OP(op) ops->op = backend_##op;
    OPS_BACKEND(USE_BACKEND_OP)
#undef USE_BACKEND_OP
    ops->abi = OPS_ABI;
}

static void name_machine(Backend *b)
{
    const GemmProvider *gemm = b->gemm.by_type[b->dtype];
    const char *table = b->gemm.table;
    bool matters = gemm->isa_matters || *table;
    snprintf(b->machine_kind, sizeof b->machine_kind, "%s-%s/v%d%s%s%s%s", gemm->name, dtype_name(b->dtype),
             KERNELS_VERSION, *table ? "/" : "", table, matters ? "/" : "", matters ? b->kernels->isa : "");
    snprintf(b->describe, sizeof b->describe, "cpu: %s kernels, %s matmul %s%s%s (%s), %d thread%s", b->kernels->isa,
             dtype_name(b->dtype), gemm->name, *table ? " and " : "", table,
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
    spread_threads(b->threads);
    b->kernels = choose_kernels(o->isa, st);
    if (!b->kernels || !gemm_choice_open(b, o->matmul, o->bf16, st)) {
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

int cpu_kernels_version(void)
{
    return KERNELS_VERSION;
}
