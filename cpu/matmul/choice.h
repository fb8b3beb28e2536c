/* Which provider multiplies what: one for all products of a type, and a table of exceptions by operation and shape. */
#ifndef CPU_MATMUL_CHOICE_H
#define CPU_MATMUL_CHOICE_H

#include "core/base/status.h"
#include "cpu/matmul/provider.h"

typedef enum { GEMM_FWD, GEMM_BWD_X, GEMM_BWD_W, GEMM_OPS } GemmOp;

typedef struct GemmEntry {
    DType dtype; /* of w and x */
    GemmOp op;
    size_t out, in;
    const GemmProvider *provider;
} GemmEntry;

typedef struct GemmChoice {
    const GemmProvider *by_type[2]; /* by DType */
    GemmEntry *entries;             /* sorted; NULL: no table */
    size_t count;
    char table[24];              /* "table-" and the hash of the entries; "" without any */
    const GemmProvider *open[8]; /* those whose `open` was called */
    int opened;
} GemmChoice;

/* matmul: a provider's name or a table's path (NULL: the first provider of the build); bf16: "dot", "widen" or NULL. */
bool gemm_choice_open(Backend *b, const char *matmul, const char *bf16, Status *st);
void gemm_choice_close(Backend *b);
/* Never by the number of rows: a row's bits must not depend on its neighbours. */
const GemmProvider *gemm_of(const Backend *b, DType dtype, GemmOp op, size_t out, size_t in);

#endif
