/* Multi-token prediction (DeepSeek-V3, arXiv:2412.19437, section 2.2). Module k = 1 .. D predicts the token k + 1 ahead, from
 * the hidden states one module less deep and the embedding of the token k ahead:
 *   h'^k_i = M_k [RMSNorm(Emb(t_i+k)) ; RMSNorm(h^k-1_i)]            (21) the embedding's half first, as in released weights
 *   h^k_1:T-k = TRM_k(h'^k_1:T-k)                                    (22) a block as the last layer's
 *   P^k_i+k+1 = OutHead(h^k_i)                                       (23) the model's embedding and head
 *   L^k = the mean over predicted tokens of -log P^k_i[t_i]          (24)
 *   L = lambda / D sum_k L^k                                         (25)
 * h^0 are the final normed states, and h^k goes on normed by shared_head.norm: what public code feeds the released weights.
 * A shift never leaves its sequence; positions are those of i. The gradient goes on into the model. */
#ifndef CORE_MTP_H
#define CORE_MTP_H

#include "core/head.h"
#include "core/model.h"

typedef struct MtpTask {
    Batch batch; /* the step's, on the host */
    const Predictions
        *predict; /* tokens that count: depth k loses those that are no k + 1 behind the start of theirs */
    float weight; /* lambda */
    const BalanceConfig *balance;
} MtpTask;

typedef struct MtpOut {
    double loss;      /* lambda / D sum_k L^k */
    double aux;       /* balance losses of the modules, weighted */
    double depth[64]; /* L^k of each module; 0 where no token is left */
} MtpOut;

/* Forward and backward of all modules on the tape of a forward. xn [N, C] its final normed states. Adds the modules' gradients,
 * and those of embedding and head, to g; adds the gradient by xn to dxn [N, C]. routing [L + D]: the modules' are put behind
 * the layers' (none where a depth has no token). */
void mtp_gradients(Engine *e, const Weights *w, const Weights *g, const MtpTask *task, const float *xn, float *dxn,
                   Routing *routing, MtpOut *out);

/* The first module on rows that attend through a cache (or, in prefill, whole sequences), for drafting: its normed states [n, C]
 * in the arena. ids: of the tokens after the rows'; h [n, C]: normed states, the model's or this module's. Both on the device. */
float *mtp_forward_rows(Engine *e, const Weights *w, const int32_t *ids, const float *h, const Rows *rows);

#endif
