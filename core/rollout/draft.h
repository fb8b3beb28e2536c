/* Drafts: the first module of multi-token prediction guesses the next tokens of a sequence, and the model computes the rows of
 * all guesses at once (DeepSeek-V3, arXiv:2412.19437, sections 2.2 and 5.4.3; speculative decoding, arXiv:2211.17192). A guess
 * holds where the model itself samples it: the same random number goes to both, by position, so that tokens and log-probs are
 * those of a rollout without drafts, and a wrong guess costs time alone. */
#ifndef CORE_DRAFT_H
#define CORE_DRAFT_H

#include "core/rollout/kv_cache.h"
#include "core/rollout/rollout_rows.h"

enum { DRAFT_MOST = 8 }; /* guesses a step */

/* States of tokens that the module has not seen, of every slot and of the last tokens of prompts being started. */
typedef struct DraftStates {
    Engine *e;
    int most;      /* guesses a step */
    float *states; /* [slots][most + 1][C] on the device */
    float *prompt; /* [prompts][C] */
} DraftStates;

bool draft_open(DraftStates *d, Engine *e, int most, int slots, int prompts, Status *st);
void draft_close(DraftStates *d);

/* A sequence of which tokens are guessed. */
typedef struct DraftSequence {
    int slot;            /* of DraftStates */
    int pending;         /* its last rows that the module has not seen: states[slot][0 ..] */
    int at;              /* position of its last token */
    const int32_t *last; /* the last `pending` tokens, the last one at `at` */
    int wanted;          /* 1 .. most */
    const int32_t *pages;
    int tiles;
    const float *u;   /* [wanted] random numbers of the guessed positions */
    int32_t *guesses; /* [wanted] written */
} DraftSequence;

/* The module sees a prefill: whole prompts, ids and places as `rows`, xn [n, C] their states. Keeps the last state of prompt i at
 * prompt[row[i]]. */
void draft_prefill(DraftStates *d, const Weights *w, KvCache *cache, const RolloutRows *rows, const float *xn,
                   const int *row);
/* Guesses of n sequences. tiles_max: of a page table. */
void draft_guess(DraftStates *d, const Weights *w, KvCache *cache, DraftSequence *list, int n, int tiles_max,
                 SampleArgs sampling);

#endif
