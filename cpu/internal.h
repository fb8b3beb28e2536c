/* Inside of the CPU backend: what cpu/ and cpu/kernels/ share. Nobody else includes this.
 *
 * cpu/ (top level) is compiled once. cpu/kernels/ is compiled once per table of kernels (R1_ISA = avx512bf16, avx512,
 * avx2, plain) over three vector layers (kernels/simd/vec_*.h: the first two share one); each copy is joined into one object
 * whose only global symbol is cpu_kernels_<isa>: names inside are shared, not suffixed. */
#ifndef CPU_INTERNAL_H
#define CPU_INTERNAL_H

#include <omp.h>

#include "core/base/arena.h"
#include "core/base/check.h"
#include "core/ops/ops.h"
#include "cpu/matmul/choice.h"
#include "cpu/matmul/packs.h"
#include "cpu/team.h"

/* Device.slice_rows: what one op writes of so many rows is still in the cache when the next one reads it. */
enum { SLICE_ROWS = 2 * TOKEN_BLOCK };

/* The most rows of a piece of a matrix product, or rows of dw. */
enum { PIECE_ROWS = 384 };

static inline size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

static inline size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Each thread's scratch on cache lines of its own. */
typedef struct ThreadScratch {
    _Alignas(64) Arena arena;
} ThreadScratch;

struct Backend {
    DType dtype; /* CpuOptions.dtype */
    int threads; /* the most of a team */
    Team team;
    Ops *ops;
    const struct KernelTable *kernels;
    GemmChoice gemm;     /* what linear_* and grouped_* run on */
    bool gemm_invariant; /* the f32 providers passed the start-up self-test (native: by construction) */
    void *onednn;        /* what cpu/matmul/onednn.c keeps */
    PackCache *packs;
    bool keep_packed;       /* forward products make packed copies and keep them */
    ThreadScratch *scratch; /* [threads] */
    Status fault;
    char describe[160], machine_kind[64];
};

/* Threads for a job of about `work` multiply-adds (or elements times their cost): 1 when a team would cost more than it
 * saves, else what team.h says, at most b->threads. Asked once an op, by the thread that starts ops. For
 * `#pragma omp parallel num_threads(cpu_team(b, work))`. */
static inline int cpu_team(Backend *b, double work)
{
    return work < 24e3 ? 1 : team_size(&b->team, work);
}

/* Runs a call that shares its loop by `#pragma omp for` on a team of `size`; one thread does without a region, which costs as
 * much as the norm of a row. */
#define ON_TEAM(size, call)                                                                                            \
    do {                                                                                                               \
        int on_team_size = (size);                                                                                     \
        if (on_team_size == 1) {                                                                                       \
            call;                                                                                                      \
        } else {                                                                                                       \
            _Pragma("omp parallel num_threads(on_team_size)") call;                                                    \
        }                                                                                                              \
    } while (0)

/* Scratch of thread `thread` (omp_get_thread_num(), 0 outside a region): 64-byte aligned, uninitialised, valid until
 * cpu_release to a mark taken before. Nests. Allocates only when a size is larger than ever seen. */
static inline ArenaMark cpu_mark(Backend *b, int thread)
{
    return arena_mark(&b->scratch[thread].arena);
}

static inline float *cpu_scratch(Backend *b, int thread, size_t floats)
{
    return arena_alloc(&b->scratch[thread].arena, floats * sizeof(float));
}

static inline void cpu_release(Backend *b, int thread, ArenaMark mark)
{
    arena_release(&b->scratch[thread].arena, mark);
}

static inline void check_f32(Mat m)
{
    CHECK_EQ(m.dtype, DTYPE_F32);
    CHECK(m.stride >= m.cols || m.rows <= 1);
}

/* Prototypes cpu_<op> with exactly the signatures of Ops. */
#define CPU_PROTOTYPE(op) OP_PROTOTYPE(cpu_, op)
OPS_COMPUTE(CPU_PROTOTYPE)
#undef CPU_PROTOTYPE

/* One instruction set's kernels. `ops` has the members of OPS_KERNEL filled, the rest NULL. */
typedef struct KernelTable {
    const char *isa;
    Ops ops;
    const GemmProvider *native;      /* f32 */
    const GemmProvider *widen, *dot; /* bf16 */
    bool dot_is_fast;                /* this instruction set has a bf16 dot product */
    /* sum[j] += (in blocks of TOKEN_BLOCK rows) sum_n x[n][j] for columns [from, to). One thread. */
    void (*column_sums)(float *sum, Mat x, size_t from, size_t to);
    /* Scratch bytes of attention_bwd, for sequences of at most `longest` rows: of each thread, and once for all of them. */
    size_t (*attention_bwd_scratch)(AttentionShape s, size_t longest);
    size_t (*attention_bwd_shared)(AttentionShape s, size_t tokens, size_t longest);
} KernelTable;

extern const KernelTable cpu_kernels_avx512bf16, cpu_kernels_avx512, cpu_kernels_avx2, cpu_kernels_plain;

#endif
