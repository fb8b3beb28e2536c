/* HDF5 checkpoints. Layout (docs/formats.md 7): root attributes format, format_version, endianness, layout_sha256,
 * complete; /meta (attributes, and config_json, recipe, tokenizer, extra as bytes); /model/<HF name> f32, one dataset a
 * tensor (an import keeps bf16 ones as they are); /optim/m, /optim/v and /reference f32, whole blocks in the order of the
 * parameter table (layout_sha256 is of its names, places and sizes; moments that are not f32 are u8 and /meta's attribute
 * moments says how, core/moments.h); of a partly trained model they hold what has a
 * Param.state, and /optim/chosen u8 has a flag a parameter; /files/NAME and /tensors/NAME: the attachments;
 * /unit_tensors/NAME: an unfinished stage's own (meta.state).
 *
 * Where only a part of a model from a file is trained, /meta/base (JSON: path, tensors, sha256) names that file, its base; /model
 * holds the tensors that are not the base's, and attached tensors stay in the base.
 *
 * A checkpoint appears whole or not at all (durable.h). Its first 512 bytes are a block
 * that HDF5 skips and h5py reads over, the seal (seal.h). Loading compares all of it with what it must be, so no changed,
 * missing or added byte anywhere in the file passes. */
#ifndef CHECKPOINTS_CHECKPOINT_H
#define CHECKPOINTS_CHECKPOINT_H

#include "checkpoints/attachments.h"
#include "checkpoints/weight_source.h"
#include "core/params.h"

/* The file or folder that the tensors come from which a checkpoint does not hold (checkpoints/base.h). */
typedef struct ModelBase {
    char path[4096];
    int64_t tensors; /* in its file(s) */
    char sha256[65]; /* its fingerprint */
} ModelBase;

/* What a checkpoint holds besides the model: everything that resuming needs. Strings may be NULL. */
typedef struct CheckpointMeta {
    char stage[64]; /* name of the stage that wrote it */
    int stage_index;
    int64_t step;                                                   /* steps of the stage done */
    bool finished;                                                  /* the stage is over: this is RUN/stage */
    int64_t tokens_trained, tokens_sampled, optimizer_step, cursor; /* cursor: next index of the stage's data */
    double seconds;                                                 /* of work in this stage so far */
    uint32_t seed;
    char machine_kind[256];
    char precision[8]; /* dtype_name of the model in that stage; "": not said (an import, a file of version 0.1) */
    char *recipe;      /* resolved YAML */
    char *tokenizer;   /* tokenizer_serialize */
    size_t tokenizer_length;
    char *extra;          /* JSON of the stage's own state (RL: prompt index, history of warnings, ...) */
    Attachments attached; /* of a model that was imported */
    Attachments
        state; /* tensors of an unfinished stage beside the model's: PPO's critic. Read with CHECKPOINT_OPTIMIZER */
    ModelBase *base; /* NULL: the file holds every tensor */
    uint8_t *held;   /* with a base: [table.n] the tensors that the file holds */
} CheckpointMeta;

typedef struct Checkpoint {
    ModelConfig config;
    ParamTable table;
    float *weights; /* a block of table.total elements */
    void *m, *v;    /* of table.moment_total bytes, in the form table.moments; NULL when the file has none */
    float *
        reference; /* RL: those of the reference policy that have a Param.state, table.state_total elements; NULL when none */
    CheckpointMeta meta;
    bool has_f32, has_bf16; /* types of the tensors in the file */
    struct H5Reader *open;  /* CHECKPOINT_OPEN */
} Checkpoint;

/* Writes; m and v (as the table stores them), reference may be NULL. */
bool checkpoint_save(const char *path, const ModelConfig *config, const ParamTable *table, const float *weights,
                     const void *m, const void *v, const float *reference, const CheckpointMeta *meta, Status *st);

/* From a source: no more than one tensor is in memory. */
bool checkpoint_import(const char *path, const ModelConfig *config, const ParamTable *table, const WeightSource *source,
                       const CheckpointMeta *meta, Status *st);

/* The same with what training needs, NULL where there is none. */
typedef struct CheckpointBlocks {
    const void *m, *v;
    const WeightSource *reference; /* of what has a Param.state */
} CheckpointBlocks;
bool checkpoint_save_from(const char *path, const ModelConfig *config, const ParamTable *table,
                          const WeightSource *source, const CheckpointBlocks *blocks, const CheckpointMeta *meta,
                          Status *st);

/* What to read besides config, table and meta. OPEN: the file stays open for checkpoint_param_read. */
enum {
    CHECKPOINT_WEIGHTS = 1,
    CHECKPOINT_OPTIMIZER = 2,
    CHECKPOINT_ATTACHED = 4,
    CHECKPOINT_ALL = 7,
    CHECKPOINT_OPEN = 8
};

/* Verifies the whole file, whatever is read of it; fails with one sentence on anything truncated, flipped, foreign. Free with
 * checkpoint_free. Parts not asked for, or not in the file, are NULL or empty; tensors of the base are zeros in its blocks. */
Checkpoint *checkpoint_load(const char *path, unsigned parts, Status *st);
/* out[n * p->cols] = rows [row, row + n) of a parameter that an open file holds. From any thread. */
bool checkpoint_rows_read(const Checkpoint *c, const Param *p, size_t row, size_t n, float *out, Status *st);
/* Where it lies in the open file; false: only checkpoint_rows_read gets at it. From any thread. */
bool checkpoint_place(const Checkpoint *c, const Param *p, ParamPlace *out);
/* Whether the file itself holds parameter i of the table. */
static inline bool checkpoint_holds(const CheckpointMeta *m, int i)
{
    return !m->held || m->held[i];
}
void checkpoint_free(Checkpoint *c);

#endif
