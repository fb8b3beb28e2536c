/* The output head, in chunks so that N x V is never stored: log-probs, entropy and KL of chosen rows, a loss on them, and its
 * gradient back to the hidden states. A reward model's head in the same place is scalar_head.h. */
#ifndef CORE_HEAD_H
#define CORE_HEAD_H

#include "core/engine.h"
#include "core/losses/loss.h"

/* The predictions of a batch: row rows[i] of the batch predicts targets[i]. Rows without a target cost nothing. */
typedef struct Predictions {
    int M;
    const int32_t *rows, *targets; /* [M] on the host, rows ascending */
} Predictions;

typedef struct HeadRun {
    Predictions predict;
    float inv_temperature;     /* log-probs are those of logits * inv_temperature */
    const Loss *loss;          /* NULL: log-probs only */
    const Weights *reference;  /* exact KL to this policy's logits, or NULL; it has the same vocabulary */
    const float *reference_xn; /* its final normed states [N, reference_C] */
    size_t reference_C;        /* its width; 0: the policy's own */
    bool forward_kl;           /* kl is KL(reference || policy); without: KL(policy || reference) */
} HeadRun;

/* On the host, [M] each; entropy, kl and ref_lp may be NULL (kl and ref_lp, the targets' log-probs under the reference, need
 * task.reference; with forward_kl there is no entropy). loss: the loss of each row; its total is the sum. */
typedef struct HeadOut {
    float *lp, *entropy, *kl, *ref_lp, *loss;
} HeadOut;

/* xn [N, C] final normed states. With g: adds the head's gradient to g and writes dxn [N, C]. */
void head_run(Engine *e, const Weights *w, const Weights *g, const HeadRun *task, const float *xn, size_t N, float *dxn,
              HeadOut *out);

/* logits [rows, V] = xn [rows, C] head^T, on the device. */
void head_logits(Engine *e, const Weights *w, float *logits, const float *xn, size_t rows);

/* dxn [N, C] = 0 but for rows[i], which get row i of dx, i < M. dx [M + 1, C] has a row to spare; rows is the
 * host's. */
void head_spread(Engine *e, float *dxn, float *dx, size_t N, const int32_t *rows, int M);

#endif
