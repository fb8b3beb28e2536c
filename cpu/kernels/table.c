/* The one door of an instruction set's kernels: cpu_kernels_<R1_ISA>. */
#include "cpu/kernels/table.h"

#define PASTE_(a, b) a##b
#define PASTE(a, b)  PASTE_(a, b)
#define TEXT_(a)     #a
#define TEXT(a)      TEXT_(a)

#define OP_ENTRY(name) .name = cpu_##name,

const KernelTable PASTE(cpu_kernels_, R1_ISA) = {
    .isa = TEXT(R1_ISA),
    .ops = {OPS_KERNEL(OP_ENTRY)},
    .native = &gemm_native,
    .widen = &gemm_widen,
    .dot = &gemm_dot,
#if defined(__AVX512BF16__)
    .dot_is_fast = true,
#endif
    .column_sums = column_sums,
    .attention_bwd_scratch = attention_bwd_scratch,
    .attention_bwd_shared = attention_bwd_shared,
};
