/* A keeper (core/keeper.h) of a model that is larger than the memory it may use: parts that stay in memory, and a ring of slots
 * through which the other routed experts pass.
 *
 * What is read when depends on what core said and never on time: reading ahead fills slots that are free, a part that is needed
 * takes, if none is free, the slot of what will be used last. So the bytes read are a closed form (docs/placement.md) and a guess
 * that was wrong costs time, never an answer. */
#ifndef CHECKPOINTS_POOL_H
#define CHECKPOINTS_POOL_H

#include "checkpoints/part_source.h"

typedef struct PoolPlan {
    int slots; /* of the ring, at least 2 */
    const uint8_t
        *pinned;         /* [parts] experts that stay; whatever is no expert stays anyway, and so must a trained one */
    WeightBlock trained; /* what lies apart (Param.apart), by Param.state; nothing: none does */
    bool strict;         /* a slot that nobody may use is NaN and has no access rights */
} PoolPlan;

/* Sweeps of a kind (core/keeper.h), and the seconds from their beginning to the last part that was done. */
typedef struct PoolSweeps {
    long n;
    double seconds;
    uint64_t bytes; /* read since they began */
} PoolSweeps;

typedef struct PoolCounts {
    long needed;          /* experts with rows that core asked for */
    long hits;            /* of them those that were pinned */
    long reads, vain;     /* experts read since the pool was opened; of them those that nobody asked for in the end */
    uint64_t bytes;       /* read for them */
    double waited;        /* seconds core waited */
    PoolSweeps sweeps[3]; /* [Sweep] */
} PoolCounts;

typedef struct Pool Pool;

/* The views of w (weights_new) show the parts of `below` from now on, which must outlive the pool, as w must. Reads what stays;
 * false: it could not. Close with pool_close, after what computes. */
Pool *pool_open(const ParamTable *t, Weights *w, Form form, PartSource *below, const PoolPlan *plan, Status *st);
void pool_close(Pool *p);
/* `also` (weights_new) shows them too from now on, with other values of what lies apart: the reference policy. */
void pool_show_also(Pool *p, Weights *also, const WeightBlock *trained);
PoolCounts pool_counts(const Pool *p);
size_t pool_bytes(const Pool *p); /* of memory */

/* Memory for `slots` slots of experts, and of a part that stays. */
size_t pool_slot_bytes(const ParamTable *t, const PartSource *below);
size_t pool_part_bytes(const PartSource *below, int part);

#endif
