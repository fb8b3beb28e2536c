/* Low-rank adapters of a product (LoRA, Hu et al., arXiv:2106.09685, section 4.1), W frozen:
 *   y = x W^T + s (x A^T) B^T,   x [n, in], A [rank, in], B [out, rank], s as lora_scale says.
 * Backward, with dy: u = s x A^T; dB = dy^T u; du = s dy B; dA = du^T x; dx += du A. u is computed again, not kept: n rank in
 * multiplications beside n out in of the product itself.
 * Matrices that are one product (q | k | v, gate | up) have one A of all their rows: u of all parts is one product too. */
#ifndef CORE_LORA_H
#define CORE_LORA_H

#include "core/engine.h"

/* y += s (x A^T) B^T, in the columns of every part. */
void lora_fwd(Engine *e, const Lora *l, Mat y, Mat x);
/* dx += what comes through the adapters; gradients of A and B are added to g. */
void lora_bwd(Engine *e, const Lora *l, const Lora *g, Mat dx, Mat dy, Mat x);

/* The same for experts l[0 .. E): rows as in the grouped products of the op table. */
void lora_experts_fwd(Engine *e, const Lora *l, Mat y, Mat x, const int32_t *offsets, int E);
void lora_experts_bwd(Engine *e, const Lora *l, const Lora *g, Mat dx, Mat dy, Mat x, const int32_t *offsets, int E);

/* w with its layers' kv_b_merged = W + s B A, in the arena, for decoding from the latent cache, whose absorbed products read
 * kv_b itself. *w where no kv_b has an adapter. Tells the backend that weights were written. */
Weights lora_merge_latent(Engine *e, const Weights *w);

#endif
