/* Opens the backend: instruction set, threads, matmul provider, op table. */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "cpu/cpu.h"
#include "cpu/internal.h"
#include "cpu/self_test.h"

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

/* The kernel may start a new thread on its creator's processor and leave it queued there for 0.1 s and more. Where the team
 * takes all processors each thread is moved to one of its own once; its affinity mask stays as it was. */
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
    ops->device = device_of_host(SLICE_ROWS);
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
    team_open(&b->team, b->threads, o->adapting);
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

int cpu_threads(const Backend *b)
{
    return b->threads;
}

const char *cpu_isa(const Backend *b)
{
    return b->kernels->isa;
}
