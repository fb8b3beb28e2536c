/* Rollouts on disk: every sample of an RL stage, for people and notebooks (h5py reads all of it).
 *
 * FOLDER/rollouts/STAGE-000000.h5 holds the steps of block 0 (1 .. block), -000001 those of the next, ...; each is written
 * beside and renamed. FOLDER/rollouts.h5 is an index: group STAGE, external links "000000", ... In a shard, n samples, T tokens:
 *   step i64[n], prompt i64[n], sample i32[n], total f32[n], advantage f32[n], truncated u8[n],
 *   rewards/NAME f32[n] (NaN where a component does not apply),
 *   offsets i64[n + 1]: sample i is tokens [offsets[i], offsets[i + 1]) of
 *   ids i32[T], logprobs f32[T], entropy f32[T], ref_logprobs f32[T] (NaN without reference),
 *   prompt_text, completion, answer, reason u8[n, width]: UTF-8 padded with zeros; in numpy a[:].view("S%d" % width)[:, 0].
 * Attributes of the shard: stage, first_step, last_step. */
#ifndef CHECKPOINTS_ROLLOUTS_H
#define CHECKPOINTS_ROLLOUTS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/base/status.h"

enum { ROLLOUT_PARTS = 12 };

/* One sample. Views; a writer copies. */
typedef struct RolloutSample {
    int64_t step, prompt; /* prompt: global index of the stage's problems */
    int sample;           /* in its group */
    const char *prompt_text, *completion, *answer, *reason;
    const int32_t *ids;                             /* [n] of the completion */
    const float *logprobs, *entropy, *ref_logprobs; /* [n]; NULL: NaN */
    int n;
    float parts[ROLLOUT_PARTS]; /* by reward component; NaN: does not apply */
    float total, advantage;
    bool truncated;
} RolloutSample;

typedef struct RolloutWriter RolloutWriter;
/* Continues after step `resume` (0: from the start): shards of later blocks are removed, the block of `resume` is cut back to
 * it. names: reward components, n_names <= ROLLOUT_PARTS. block: steps of a shard. */
RolloutWriter *rollouts_open(const char *folder, const char *stage, const char *const *names, int n_names, int block,
                             int64_t resume, Status *st);
/* Keeps a copy until the next flush. Steps ascend; a step of a new block needs a flush before. */
void rollouts_add(RolloutWriter *w, const RolloutSample *s);
/* Writes the present block (whole) and the index: before a checkpoint, and when rollouts_block_ends(step). */
bool rollouts_flush(RolloutWriter *w, Status *st);
bool rollouts_block_ends(const RolloutWriter *w, int64_t step);
void rollouts_close(RolloutWriter *w); /* without flush */
/* Writes FOLDER/rollouts.h5 of the shards that are there. */
bool rollouts_index(const char *folder, Status *st);

/* What a shard holds, in memory. Free with rollout_table_free. */
typedef struct RolloutTable {
    RolloutSample *samples; /* their pointers belong to the table */
    int n;
    char names[ROLLOUT_PARTS][64];
    int n_names;
} RolloutTable;
/* All samples of a step (prompt < 0) or of its prompt number `prompt` (0-based, in the order of the step). Fails with what
 * there is: "stage zero has steps 1 to 200", "step 3 has prompts 0 to 15". */
bool rollouts_read(const char *folder, const char *stage, int64_t step, int prompt, RolloutTable *out, Status *st);
/* Every sample of a stage, in the order of its steps. */
bool rollouts_read_all(const char *folder, const char *stage, RolloutTable *out, Status *st);
void rollout_table_free(RolloutTable *t);

#endif
