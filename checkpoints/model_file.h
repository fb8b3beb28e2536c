/* One opener for whatever stands for a model on the command line: an r1 checkpoint, RUN/stage, a Hugging Face folder, a
 * .gguf file, or a known model's name (its config alone). */
#ifndef CHECKPOINTS_MODEL_FILE_H
#define CHECKPOINTS_MODEL_FILE_H

#include "checkpoints/checkpoint.h"
#include "checkpoints/gguf/gguf.h"
#include "checkpoints/hf/hf.h"
#include "data/tokenizer/tokenizer.h"

typedef enum { MODEL_CHECKPOINT, MODEL_HF, MODEL_GGUF, MODEL_KNOWN } ModelOrigin;

/* What to read besides config and table. IN_PLACE: weights stay in their file, for model_param_read or model_read_weights. */
enum { MODEL_WEIGHTS = 1, MODEL_OPTIMIZER = 2, MODEL_TOKENIZER = 4, MODEL_ATTACHMENTS = 8, MODEL_IN_PLACE = 16 };

typedef struct LoadedModel {
    ModelOrigin origin;
    char path[4096]; /* what was opened: the checkpoint of RUN/stage, ... */
    ModelConfig config;
    ParamTable table;
    float *weights; /* table.total elements, 64-byte aligned; NULL when not asked for, and for a name */
    float *
        adapters; /* of a model whose weights are in its file, given adapters (checkpoints/lora.h): theirs; NULL: none */
    float *score;               /* [C] of a scalar head that its file has not (model_add_score); NULL: none */
    Tokenizer *tokenizer;       /* NULL when there is none */
    char tokenizer_fault[1024]; /* why a tokenizer that is there could not be read; "" otherwise */
    Checkpoint *checkpoint;     /* the rest of an r1 checkpoint (its weights have moved here); NULL otherwise */
    Attachments attached;       /* what an export carries along; may point into what `source` maps */
    int file_tensors; /* tensors in the file(s), and their types as the file calls them: "BF16", "Q4_K, F32" */
    char file_types[128];
    int layers;     /* what was asked for: 0 all */
    StFile *source; /* MODEL_HF, MODEL_GGUF: what is still mapped */
    GgufFile *gguf;
    struct LoadedModel
        *base; /* with WEIGHTS or IN_PLACE: what has the tensors that a checkpoint does not hold; NULL: it holds all */
} LoadedModel;

/* Opens `name` with `parts` of MODEL_*. Tensors are checked for presence and shape even when weights are not asked for;
 * a checkpoint is always verified whole. A model whose tokenizer is missing or unreadable opens all the same. */
LoadedModel *model_open(const char *name, unsigned parts, Status *st);
/* The same, of a folder or a .gguf file cut to its first layers (0: all), then norm and head; base: where the base of a
 * checkpoint that holds only what was trained lies now (NULL: where it was). */
LoadedModel *model_open_as(const char *name, int layers, const char *base, unsigned parts, Status *st);
/* Reads the weights of a model that was opened without (MODEL_IN_PLACE). */
bool model_read_weights(LoadedModel *m, Status *st);
/* A model whose weights are in its file becomes a reward model as it starts: its trunk under a scalar head from the seed, which
 * alone is in memory, as params_init has it. */
void model_add_score(LoadedModel *m, uint32_t seed);
/* The open file that m->attached may point into, the caller's from now on (st_close); NULL: there is none. */
StFile *model_take_source(LoadedModel *m);
void model_close(LoadedModel *m);

/* Parameters one by one, from the mapping or from m->weights, so that a copy from file to file never holds a model in
 * memory: out[p->count] = the parameter; its bf16 words as they lie in a folder's file, or NULL. */
bool model_param_read(const LoadedModel *m, const Param *p, float *out, Status *st);
/* Where it lies in a folder's or a checkpoint's file; false: not as plain numbers side by side. */
bool model_param_place(const LoadedModel *m, const Param *p, ParamPlace *out);
const void *model_param_bf16(const LoadedModel *m, const Param *p);
/* The same as a source. */
WeightSource model_source(const LoadedModel *m);
/* False, naming the first tensor of m->weights that holds NaN or an infinity; and the same of rows of a parameter. */
bool model_finite(const LoadedModel *m, Status *st);
bool model_rows_finite(const LoadedModel *m, const Param *p, size_t row, size_t n, const float *w, Status *st);
/* The sentence of it: element `at` of a parameter has this value. False. */
bool model_not_finite(const LoadedModel *m, const Param *p, size_t at, float value, Status *st);
/* False, with a sentence, for a known model's name. */
bool model_has_weights(const LoadedModel *m, const char *name, Status *st);

/* The path of the checkpoint that RUN/stage means; false (no sentence) when name is none. */
bool model_stage_path(const char *name, char *path, size_t size);

#endif
