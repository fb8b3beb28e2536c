/* What the steps of a policy larger than memory read: numbers in metrics.jsonl, and a note when a step is far off the plan. */
#ifndef RECIPES_DISK_LOG_H
#define RECIPES_DISK_LOG_H

#include "checkpoints/pool.h"
#include "recipes/run/run.h"

/* Before a step. Zeros: all weights of the policy are in memory. */
typedef struct DiskLog {
    PoolCounts before;
    int64_t tokens; /* trained so far */
} DiskLog;

DiskLog disk_log_begin(const UnitRun *u);
/* After it: `disk` {experts, gb, gb_per_s, waited_s, in_vain}, `stays` {experts, ring, layers_kept, chunk} (what is
 * in memory) and `planned` {train_s, of_s, sample_s, sample_of_s} into metrics: seconds by kept rates and those
 * that it took, of forward and backward, and of the decode steps before them, as many as there were. A stage's
 * first step whose forward and backward take over 25 % more or less than kept rates say is noted; without kept
 * rates there is no `planned`. */
void disk_log_end(const DiskLog *d, UnitRun *u, Json *metrics);

#endif
