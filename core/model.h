/* Forward and backward of a whole model over a ragged batch, layer by layer. */
#ifndef CORE_MODEL_H
#define CORE_MODEL_H

#include "core/losses/balance_losses.h"
#include "core/block.h"

/* What a forward leaves behind. */
typedef enum {
    TAPE_NONE,    /* the final hidden states */
    TAPE_HIDDEN,  /* and the residual stream and routing of every layer (r1 score) */
    TAPE_BACKWARD /* and the interiors that fit in keep_bytes */
} TapeKind;

/* Lives in the engine's arenas, C arrays on the host, numbers on the device: valid until they are released below it. */
typedef struct Tape {
    Batch batch;
    TapeKind kind;
    const int32_t *pos, *ids, *offsets; /* [N], [N], [nseq + 1] on the device */
    float **
        x; /* [L + 1] residual stream before layer l, [N, C]; x[L] is the last; TAPE_NONE: only x[L]; TAPE_BACKWARD: from the
                       * lowest trained layer on */
    LayerActs *acts;  /* [L] */
    bool *kept;       /* [L] */
    Routing *routing; /* [L + mtp], pointers NULL in dense layers and in modules (core/mtp.h) that did not run */
    float *xn, *rstd; /* final norm: [N, C], [N] */
} Tape;

/* Computes the hidden states of a batch, whose arrays are the host's; nothing is written outside the arenas. */
void model_forward(Engine *e, const Weights *w, Batch batch, TapeKind kind, Tape *t);

/* dxn [N, C]: gradient by the final normed states (consumed). Adds the gradients of every trained parameter but the head's to
 * g; ends at the lowest layer that has one.
 * balance: the losses of this tape (model_balance), or NULL. */
void model_backward(Engine *e, const Weights *w, const Weights *g, Tape *t, float *dxn, const BalanceLosses *balance);

/* The balance losses of a tape's routing. False, with nothing done, where none is on or config is NULL. */
bool model_balance(Engine *e, const Tape *t, const BalanceConfig *config, BalanceLosses *out);
/* Its first half: true: balance_losses_finish is to follow. */
bool model_balance_ask(Engine *e, const Tape *t, const BalanceConfig *config, BalanceLosses *out);

/* Runs rows that attend through a cache (decode, or prefill when rows->offsets is set too): returns the final normed
 * states [n, C] in the arena. ids [n] on the device. */
float *model_forward_rows(Engine *e, const Weights *w, const int32_t *ids, const Rows *rows);

#endif
