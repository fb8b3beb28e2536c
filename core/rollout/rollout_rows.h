/* The rows of one forward of a rollout: prompts in one ragged batch, or one row for every sequence that is decoded. */
#ifndef CORE_ROLLOUT_ROWS_H
#define CORE_ROLLOUT_ROWS_H

#include "core/block.h"
#include "core/head.h"

/* Arrays in the engine's host arena, written by the caller. */
typedef struct RolloutRows {
    int n, nseq;        /* rows; prompts (0: a decode step) */
    int32_t *ids, *pos; /* [n] */
    Mat tokens;       /* [., 1] on the device: row i's token is the 32 bits at tokens[ids[i]]; no rows: it is ids[i] */
    CacheRow *cached; /* [n] sequence i's pages begin at i * tiles */
    int32_t *pages;   /* [nseq or n][tiles]; rows may share a table, and the rest is zeros then */
    int tiles;
    int32_t *offsets; /* [nseq + 1] */
    int32_t *ends;    /* [nseq] the last row of each prompt */
    int32_t *routes;  /* on the device, as in Rows; NULL: not kept */
} RolloutRows;

RolloutRows rollout_rows(Engine *e, int n, int nseq, int tiles);

/* Row i of a decode step: a token, its position, and the page table of its sequence. */
void rollout_row(RolloutRows *r, int i, int32_t id, int pos, const int32_t *pages, int tiles);

/* The same rows where ops read them; n page tables. */
Rows rollout_rows_there(Engine *e, const RolloutRows *r, KvCache *cache);
/* Writes the rows to the cache and returns their final normed states in the arena, [n, C]. */
float *rollout_states(Engine *e, const Weights *w, const RolloutRows *r, KvCache *cache);
/* Logits in the arena, of every prompt's last row [nseq, V], or of all rows [n, V], from the states of all rows. */
float *rollout_logits(Engine *e, const Weights *w, const RolloutRows *r, const float *xn);

/* A name for the calls of a decode step (rollout_states, rollout_logits, sample): equal when every argument that is passed by
 * value is, the arrays' addresses among them. there: where the rows lie; they are deterministic in an arena. */
uint64_t rollout_key(const Engine *e, const Weights *w, const Rows *there, const KvCache *cache, SampleArgs sampling);

#endif
