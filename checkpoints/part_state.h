/* The optimizer's state of a model on disk: a StateStore (core/state_store.h) over a StateFile. A record is a part's f32 weights
 * (of what is split the high halves of a row, then its low ones), first and second moments as the table stores them, of what is
 * trained. Two more
 * kinds: what changes without a gradient (selection biases, core/losses/balance.h), and the reference policy's weights. */
#ifndef CHECKPOINTS_PART_STATE_H
#define CHECKPOINTS_PART_STATE_H

#include "checkpoints/file_block.h"
#include "checkpoints/state_file.h"
#include "core/state_store.h"
#include "core/weight_block.h"

typedef struct PartState PartState;

/* The model whose weights lie in memory. table and weights: outlive the state. reference: it may get a reference policy. */
PartState *part_state_open(const char *path, const ParamTable *t, const WeightBlock *weights, bool reference,
                           Status *st);
void part_state_close(PartState *s);
StateStore *part_state_store(PartState *s);
/* The weights lie in this block, which is told when a part's are done with (NULL: they do not). */
void part_state_rests(PartState *s, FileBlock *block);
/* Waits for what an update left to be written. */
StateFile *part_state_file(PartState *s);
double part_state_waited(const PartState *s); /* seconds that updates waited for the disk */
/* Bytes on disk, and in memory while an update runs; *written: to the disk by an update. */
uint64_t part_state_disk(const ParamTable *t, bool reference, uint64_t *written);
size_t part_state_memory(const ParamTable *t);

/* The weights as they were committed take the place of the block's, and of `reference`'s (nothing in it: none). */
bool part_state_load(PartState *s, const WeightBlock *reference, Status *st);
bool part_state_has_reference(const PartState *s);
/* Before a commit: what changes without a gradient, and the reference when it is another (NULL: it is not, or there is none). */
bool part_state_rest(PartState *s, const WeightBlock *reference, Status *st);

#endif
