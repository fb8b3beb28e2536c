/* One opener for whatever stands for a model on the command line: an r1 checkpoint, RUN/stage, a Hugging Face folder, a
 * .gguf file, or a known model's name (its config alone). */
#ifndef CHECKPOINTS_MODEL_FILE_H
#define CHECKPOINTS_MODEL_FILE_H

#include "checkpoints/checkpoint.h"
#include "data/tokenizer.h"

typedef enum { MODEL_CHECKPOINT, MODEL_HF, MODEL_GGUF, MODEL_KNOWN } ModelOrigin;

/* What to read besides config and table. */
enum { MODEL_WEIGHTS = 1, MODEL_OPTIMIZER = 2, MODEL_TOKENIZER = 4, MODEL_ATTACHMENTS = 8 };

typedef struct LoadedModel {
    ModelOrigin origin;
    char path[4096];          /* what was opened: the checkpoint of RUN/stage, ... */
    ModelConfig config;
    ParamTable table;
    float *weights;           /* table.total elements, 64-byte aligned; NULL when not asked for, and for a name */
    Tokenizer *tokenizer;     /* NULL when there is none */
    char tokenizer_fault[1024]; /* why a tokenizer that is there could not be read; "" otherwise */
    Checkpoint *checkpoint;   /* the rest of an r1 checkpoint (its weights have moved here); NULL otherwise */
    Attachments attached;     /* what an export carries along; may point into what `source` maps */
    int file_tensors;         /* tensors in the file(s), and their types as the file calls them: "BF16", "Q4_K, F32" */
    char file_types[128];
    void *source;             /* an StFile that is still mapped */
} LoadedModel;

/* Opens `name` with `parts` of MODEL_*. Tensors are checked for presence and shape even when weights are not asked for;
 * a checkpoint is always verified whole. A model whose tokenizer is missing or unreadable opens all the same. */
LoadedModel *model_open(const char *name, unsigned parts, Status *st);
void model_close(LoadedModel *m);

/* The path of the checkpoint that RUN/stage means; false (no sentence) when name is none. */
bool model_stage_path(const char *name, char *path, size_t size);

#endif
