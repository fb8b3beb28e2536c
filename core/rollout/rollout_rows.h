/* The rows of one forward of a rollout: prompts in one ragged batch, or one row for every sequence that is decoded. */
#ifndef CORE_ROLLOUT_ROWS_H
#define CORE_ROLLOUT_ROWS_H

#include "core/engine.h"
#include "core/rollout/kv_cache.h"

/* Arrays in the engine's host arena, written by the caller. */
typedef struct RolloutRows {
    int n, nseq;        /* rows; prompts (0: a decode step) */
    int32_t *ids, *pos; /* [n] */
    CacheRow *cached;   /* [n] sequence i's pages begin at i * tiles */
    int32_t *pages;     /* [nseq or n][tiles] */
    int tiles;
    int32_t *offsets; /* [nseq + 1] */
    int32_t *ends;    /* [nseq] the last row of each prompt */
} RolloutRows;

RolloutRows rollout_rows(Engine *e, int n, int nseq, int tiles);

/* Writes the rows to the cache and returns logits in the arena: of every prompt's last row [nseq, V], or of all rows [n, V]. */
float *rollout_logits(Engine *e, const Weights *w, const RolloutRows *r, KvCache *cache);

#endif
