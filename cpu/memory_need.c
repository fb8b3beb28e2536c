/* What packed weights and scratch will take. */
#include "cpu/memory_need.h"

#include "cpu/internal.h"

size_t cpu_packed_bytes(const Backend *b, DType dtype, size_t out, size_t in, bool keep_packed)
{
    const GemmProvider *g = gemm_of(b, dtype, GEMM_FWD, out, in);
    return gemm_packs(g, keep_packed) ? g->pack_bytes(out, in) : 0;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Kernels beside products and attention: rows of a router, of a sampler, lists of pieces. */
enum { OTHER = 1 << 19 };

/* Rows of a piece of n rows in all. */
static size_t piece_rows(size_t n)
{
    size_t pieces = ceil_div(n, PIECE_ROWS);
    return pieces ? ceil_div(n, pieces) : 0;
}

static size_t product_scratch(const Backend *b, DType dtype, size_t rows, size_t inner)
{
    const GemmProvider *g = b->gemm.by_type[dtype];
    return g->scratch && inner ? g->scratch(piece_rows(rows), inner) : 0;
}

size_t cpu_scratch_bytes(const Backend *b, const ScratchWork *w)
{
    const KernelTable *k = b->kernels;
    size_t head = product_scratch(b, w->dtype, w->predicted, w->vocab);
    size_t product = larger(head, product_scratch(b, w->dtype, w->tokens, w->widest));
    size_t attention = k->attention_bwd_scratch(w->attention, w->longest);
    size_t shared = k->attention_bwd_shared(w->attention, w->tokens, w->longest);
    size_t threads = (size_t)b->threads;
    return larger(product, attention + shared) + (threads - 1) * larger(product, attention) + threads * OTHER;
}
