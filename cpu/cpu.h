/* The CPU backend's door: one function that opens it. */
#ifndef CPU_CPU_H
#define CPU_CPU_H

#include "core/ops/ops.h"

typedef struct CpuOptions {
    int threads;        /* 0: as many as processors the process may use */
    bool adapting;      /* fewer of them while other processes want the processors (team.h) */
    DType dtype;        /* of the models that run on it: what machine_kind and rows_independent speak of */
    const char *matmul; /* "native", "onednn", "openblas", or a table's path (cpu/matmul/choice.c); NULL: native */
    const char
        *isa; /* "avx512bf16", "avx512", "avx2", "plain"; NULL: as R1_ISA of the environment says, or the best here */
    const char *bf16; /* bf16 products by "dot" or "widen" (kernels/gemm/native.c); NULL: the faster one here */
} CpuOptions;

/* Opens the backend and gives its op table. Fails when a name is unknown, not built in, or not possible on this CPU. */
Backend *cpu_open(const CpuOptions *options, const Ops **ops, Status *st);

/* What a backend is made of: its threads, and its instruction set ("avx2"). */
int cpu_threads(const Backend *b);
const char *cpu_isa(const Backend *b);

/* What a table calls the products of a weight: y = x w^T, dx = dy w, dw += dy^T x. */
extern const char *const cpu_product_names[3];

/* Comma-separated matmul providers of this build, best first ("native, onednn, openblas"). */
const char *cpu_matmul_providers(void);
/* The same with the versions of their libraries ("native, oneDNN 2.7.3, OpenBLAS 0.3.21"). */
const char *cpu_matmul_libraries(void);
/* Raised when kernels give other bits than before; machine_kind names it. */
int cpu_kernels_version(void);

#endif
