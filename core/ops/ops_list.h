/* Every slot of the op table once. Tables, prototypes and wrappers derive from this list: an op that is in struct Ops and not
 * here does not compile (core/ops/ops.h), nor does one that is here and that a table lacks.
 * OPS_BACKEND: what a backend says and keeps; OPS_LINEAR and OPS_KERNEL: what it computes (cpu/linear.c, cpu/kernels/);
 * OPS_FUSED: several of those at once, NULL where a backend has no such op. */
#ifndef CORE_OPS_LIST_H
#define CORE_OPS_LIST_H

/* clang-format off */
#define OPS_BACKEND(OP)                                                                                                \
    OP(describe) OP(machine_kind) OP(rows_independent) OP(fault) OP(weights_changed) OP(weights_freed)                 \
    OP(keep_packed) OP(bytes) OP(close)

#define OPS_LINEAR(OP)                                                                                                 \
    OP(linear_fwd) OP(linear_bwd_x) OP(linear_bwd_w) OP(grouped_fwd) OP(grouped_bwd_x) OP(grouped_bwd_w)               \
    OP(heads_product)

#define OPS_KERNEL(OP)                                                                                                 \
    OP(embed_fwd) OP(embed_bwd) OP(rmsnorm_fwd) OP(rmsnorm_bwd) OP(headnorm_fwd) OP(headnorm_bwd) OP(rope)             \
    OP(swiglu_fwd) OP(swiglu_bwd) OP(attention_fwd) OP(attention_bwd) OP(cache_write) OP(attention_cached)             \
    OP(latent_write) OP(attention_latent) OP(router_fwd) OP(router_bwd) OP(sort_experts) OP(balance_sums)              \
    OP(balance_grad) OP(bias_update) OP(gather_rows) OP(scatter_add_rows) OP(combine_fwd) OP(combine_bwd) OP(add)      \
    OP(copy) OP(scale) OP(head_stats) OP(head_grad) OP(sample) OP(adamw) OP(moments_widen) OP(moments_narrow)              \
    OP(sum_squares) OP(fill)

#define OPS_FUSED(OP) OP(gate_up_fwd) OP(logits_fwd) OP(sum_squares_list)
/* clang-format on */

#define OPS_COMPUTE(OP) OPS_LINEAR(OP) OPS_KERNEL(OP)
#define OPS(OP)         OPS_BACKEND(OP) OPS_COMPUTE(OP) OPS_FUSED(OP)

/* Prototype PREFIX_op with exactly the signature of its slot. */
#define OP_PROTOTYPE(prefix, op) __typeof__(*((Ops *)0)->op) prefix##op;

#endif
