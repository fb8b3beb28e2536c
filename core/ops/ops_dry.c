/* A table of ops that computes nothing and counts memory. */
#include "core/ops/ops_dry.h"

#include <stdlib.h>

#include "core/base/check.h"

#pragma GCC diagnostic ignored "-Wunused-parameter" /* every parameter of a row of op_costs_list.h */

struct Backend {
    Ops ops;
};

#define dry_router_fwd   nothing_router_fwd
#define dry_sort_experts nothing_sort_experts
#define dry_sum_squares  nothing_sum_squares
#define OP(op, parameters, arguments, cost)                                                                            \
    static void dry_##op parameters                                                                                    \
    {                                                                                                                  \
    }
#include "core/ops/op_costs_list.h"
#undef OP
#undef dry_router_fwd
#undef dry_sort_experts
#undef dry_sum_squares

/* What core reads: every token goes to experts 0 .. K - 1. */
static void dry_router_fwd(Backend *b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits,
                           const float *bias)
{
    nothing_router_fwd(b, s, scores, idx, weights, logits, bias);
    for (size_t i = 0; i < weights.rows * (size_t)s.K; i++) idx[i] = (int32_t)(i % (size_t)s.K);
}

static void dry_sort_experts(Backend *b, int32_t *offsets, int32_t *slot, int32_t *rows, const int32_t *idx, int n,
                             int E, int K)
{
    nothing_sort_experts(b, offsets, slot, rows, idx, n, E, K);
    for (int e = 0; e <= E; e++) offsets[e] = n * (e < K ? e : K);
}

static void dry_sum_squares(Backend *b, double *sum, const float *x, size_t n)
{
    nothing_sum_squares(b, sum, x, n);
    *sum = 0;
}

static const char *dry_describe(const Backend *b)
{
    return "none: it computes nothing";
}

static const char *dry_machine_kind(const Backend *b)
{
    return "none";
}

static bool dry_rows_independent(const Backend *b)
{
    return false;
}

static bool dry_fault(Backend *b, Status *st)
{
    return true;
}

static void dry_weights_changed(Backend *b)
{
}

static void dry_weights_freed(Backend *b)
{
}

static bool dry_keep_packed(Backend *b, bool keep)
{
    return false;
}

static size_t dry_bytes(const Backend *b)
{
    return 0;
}

static void dry_close(Backend *b)
{
    free(b);
}

static const Ops dry_ops = {.abi = OPS_ABI,
#define ENTRY(op) .op = dry_##op,
                            OPS(ENTRY)
#undef ENTRY
};

Backend *ops_dry_open(const Ops **ops, const Device *like)
{
    Backend *b = malloc(sizeof *b);
    CHECK(b != NULL);
    b->ops = dry_ops;
    /* It stands for the CPU, which has none: what they take is not its memory. */
#define NO_OP(op) b->ops.op = NULL;
    OPS_FUSED(NO_OP)
#undef NO_OP
    b->ops.device = device_of_host(like->slice_rows);
    b->ops.device.in_flight = like->in_flight;
    *ops = &b->ops;
    return b;
}
