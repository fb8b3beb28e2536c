/* What the writer and the reader of rollouts share: samples in memory, shards in a folder. */
#ifndef CHECKPOINTS_ROLLOUTS_SHARD_H
#define CHECKPOINTS_ROLLOUTS_SHARD_H

#include <dirent.h>

#include "checkpoints/rollouts/rollouts.h"

enum { SHARD_PATH = 4096, SHARD_TEXTS = 4 };

/* The text columns, in this order, and where a sample keeps them. */
typedef struct ShardText {
    const char *name;
    size_t field; /* offset of a const char * in RolloutSample */
} ShardText;
extern const ShardText shard_texts[SHARD_TEXTS];

/* Appends a copy. */
void rollout_push(RolloutTable *t, int *capacity, const RolloutSample *s);
void rollout_sample_free(const RolloutSample *s);

/* Path of a stage's shard; out has SHARD_PATH bytes. */
void shard_path(char *out, const char *folder, const char *stage, int64_t block);
/* "STAGE-000012.h5" -> 12 and the length of STAGE; -1 for anything else. */
int64_t shard_number(const char *name, size_t *stage_length);
/* Names in FOLDER/rollouts, sorted; their number, or -1 with a sentence. Free with shard_names_free. */
int shard_names(const char *folder, struct dirent ***names, Status *st);
void shard_names_free(struct dirent **names, int n);

/* Appends the shard's samples of steps first .. last; parts in the order of names, which are set too. */
bool shard_read(const char *path, int64_t first, int64_t last, RolloutTable *out, int *capacity, Status *st);

#endif
