/* The gradient of one training step: forward, head and loss, backward. */
#ifndef CORE_TRAIN_H
#define CORE_TRAIN_H

#include "core/head.h"
#include "core/model.h"
#include "core/mtp.h"
#include "core/token_drop.h"

typedef struct TrainStep {
    Batch batch;
    Predictions predict;
    float inv_temperature;
    const Loss *loss;
    const BalanceConfig *balance; /* NULL: none */
    const Weights *reference;     /* exact KL to this policy, NULL: none */
    Engine *reference_engine;     /* its own, of the same backend and vocabulary (a teacher); NULL: the policy's */
    bool forward_kl;              /* KL(reference || policy) instead of KL(policy || reference) */
    float *reference_lp; /* [M] log-probs of the targets under it, there before the loss is evaluated; NULL: none */
    const RoutingGiven *given; /* choices of experts for the policy's forward; NULL: its own */
    bool entropy;              /* compute entropies even when the loss does not need them */
    TokenDrop *drop; /* NULL: every token has its experts. Of the policy's own forward, not of modules (core/mtp.h) */
    float mtp;       /* lambda of multi-token prediction; 0: its modules, where there are any, are left as they are */
} TrainStep;

/* Values of a step. Pointers are into the arena, valid until the engine's next call. */
typedef struct TrainOut {
    double loss;            /* sum of the rows' losses, in blocks */
    double aux;             /* balance losses, weighted */
    BalanceLosses balance;  /* of every layer and sequence; values NULL: none is on */
    HeadOut rows;           /* [M] */
    const Routing *routing; /* [L + mtp], of the batch; pointers NULL in dense layers */
    MtpOut mtp;             /* zeros without */
} TrainOut;

/* Resets the arena, the reference engine's too; overwrites g with the gradient of loss + aux + mtp.loss + mtp.aux. The
 * caller tells the backend when weights changed. */
void train_gradients(Engine *e, const Weights *w, const Weights *g, const TrainStep *task, TrainOut *out);

/* Forward and head without gradients: what `out`, arrays of the caller, asks for. The tape is valid until the engine's next call.
 * Resets the arena. */
void train_forward(Engine *e, const Weights *w, Batch batch, const Predictions *predict, float inv_temperature,
                   TapeKind kind, Tape *tape, HeadOut *out);

/* Log-probs (and entropies) of the predictions under w without gradients: lp [M], entropy [M] or NULL. Resets the arena. */
void train_log_probs(Engine *e, const Weights *w, Batch batch, const Predictions *predict, float inv_temperature,
                     float *lp, float *entropy);

#endif
