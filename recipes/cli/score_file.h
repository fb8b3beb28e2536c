/* The tensors of `r1 score --out`, named as tests/golden/README.md names them. s counts sequences, l layers:
 *   ids.s [T]  logits.s [T, V]  logprobs.s [T - 1]  nll []  hidden.l [T, C]  router.l.logits, .scores [T, E], .indices,
 *   .weights [T, K] (hidden and router: sequence 0)  grad.NAME (of nll + aux)
 *   and with balance losses: aux, total [], expert.l, device.l, comm.l, sequence.l [sequences] of those that are on. */
#ifndef RECIPES_SCORE_FILE_H
#define RECIPES_SCORE_FILE_H

#include "checkpoints/hf/safetensors.h"
#include "core/model.h"
#include "core/batches.h"
#include "core/policy.h"

enum { SCORE_LOGITS = 1, SCORE_LOGPROBS = 2, SCORE_HIDDEN = 4, SCORE_ROUTER = 8, SCORE_GRAD = 16, SCORE_PARTS = 5 };
extern const char *const score_part_names[SCORE_PARTS]; /* bit i is [i] */

typedef struct ScoreResult {
    Policy *policy;
    const BatchBuilder *batch; /* every token but the first of a sequence predicted */
    unsigned parts;
    const BalanceConfig *balance; /* NULL: none */
    Tape tape;                    /* kept with hidden states for hidden, router and balance */
    float *lp;                    /* [batch->m] */
    bool balanced;                /* losses holds the balance losses of the tape */
    BalanceLosses losses;
    double nll, aux;
    StWriter *writer;
} ScoreResult;

/* Declares every tensor; then the data of the forward (tape and lp must be valid), then the policy's gradients. */
bool score_file_open(ScoreResult *r, const char *path, Status *st);
bool score_file_forward(ScoreResult *r, Status *st);
bool score_file_gradients(ScoreResult *r, Status *st);
/* Finishes the file, or leaves nothing behind when ok is false. */
bool score_file_close(ScoreResult *r, bool ok, Status *st);

#endif
