/* HDF5 checkpoints (the only place that sees HDF5 for checkpoints is checkpoint.c). Layout: spec formats.md section 7.1.
 *
 * A checkpoint appears whole or not at all: NAME.tmp.PID in the target folder, complete = 1 last, fsync, rename, fsync of the
 * folder. It carries a SHA-256 of every dataset and one of all attributes and metadata, so that any flipped byte that matters
 * is refused on load; and one of the file itself kept in a 64-byte user block... see checkpoint.c for the format. */
#ifndef CHECKPOINTS_CHECKPOINT_H
#define CHECKPOINTS_CHECKPOINT_H

#include "core/params.h"

/* What a checkpoint holds besides the model: everything that resuming needs. Strings may be NULL. */
typedef struct CheckpointMeta {
    char stage[64];          /* name of the stage that wrote it */
    int stage_index;
    int64_t step;            /* steps of the stage done */
    bool finished;           /* the stage is over: this is RUN/stage */
    int64_t tokens_trained, tokens_sampled, optimizer_step, cursor; /* cursor: next index of the stage's data */
    double seconds;          /* of work in this stage so far */
    uint32_t seed;
    char machine_kind[256];
    char *recipe;            /* resolved YAML */
    char *tokenizer;         /* tokenizer_serialize */
    size_t tokenizer_length;
    char *extra;             /* JSON of the stage's own state (RL: prompt index, history of warnings, ...) */
} CheckpointMeta;

typedef struct Checkpoint {
    ModelConfig config;
    ParamTable table;
    float *weights, *m, *v;  /* blocks of table.total elements; m, v NULL when the file has none */
    float *reference;        /* RL: weights of the reference policy, NULL when none */
    CheckpointMeta meta;
} Checkpoint;

/* Writes; m, v, reference may be NULL. */
bool checkpoint_save(const char *path, const ModelConfig *config, const ParamTable *table, const float *weights,
                     const float *m, const float *v, const float *reference, const CheckpointMeta *meta, Status *st);
/* Reads and verifies the whole file; fails with one sentence on anything truncated, flipped, foreign. Free with
 * checkpoint_free. with_optimizer false: m, v, reference are verified but not kept. */
Checkpoint *checkpoint_load(const char *path, bool with_optimizer, Status *st);
void checkpoint_free(Checkpoint *c);

#endif
