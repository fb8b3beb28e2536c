/* MODEL of a command line, opened ready to compute. */
#ifndef RECIPES_OPEN_MODEL_H
#define RECIPES_OPEN_MODEL_H

#include "checkpoints/checkpoint.h"
#include "checkpoints/model_file.h"
#include "core/policy.h"
#include "recipes/model/machine.h"
#include "recipes/model/placing.h"

typedef struct OpenModel {
    Machine machine;
    Policy *policy;
    Placing placing;   /* pool NULL: all weights are in memory */
    LoadedModel *file; /* what came with it: tokenizer (NULL: none), checkpoint; its weights are the policy's */
} OpenModel;

/* The row of a command's options that names an adapter for open_model. */
#define ADAPTER_OPTION(o)                                                                                              \
    {                                                                                                                  \
        "--adapter", "DIR", OPTION_TEXT, &(o).adapter, 0, 0, "adds the LoRA adapter that peft wrote to this folder"    \
    }

/* Bytes beside the weights that open_model counts with: of sampling a few sequences, caches, logits, the process. Those who
 * compute more say so. */
enum { OPEN_MODEL_WORK = 400000000 };

/* Reads the model (checkpoints/model_file.h says what a name may be) and opens the machine, in the precision that was given or
 * else in that of the run which made the checkpoint. Free with open_model_close. */
bool open_model(OpenModel *m, const char *name, const RuntimeOptions *o, Status *st);
/* The same in two steps: the file and the machine; then its weights, where `work` bytes are needed beside them. Weights that do
 * not fit into the budget then stay on disk as far as they must, which is said on standard error. */
bool open_model_file(OpenModel *m, const char *name, const RuntimeOptions *o, Status *st);
bool open_model_weights(OpenModel *m, size_t work, Status *st);
/* Two models at once, each to be freed with open_model_close. Where not all weights of both fit into the budget, each has a part
 * of it by its size. */
bool open_model_pair(OpenModel *a, const char *name_a, OpenModel *b, const char *name_b, const RuntimeOptions *o,
                     Status *st);
/* Places them in any case. */
bool open_model_placed(OpenModel *m, size_t work, Status *st);
void open_model_close(OpenModel *m);

/* The precision in which a checkpoint was trained: as the file says, in files of version 0.1 as its recipe says. */
DType open_model_precision(const CheckpointMeta *meta);

/* Fails for a reward model, which has no words to say. */
bool open_model_speaks(const OpenModel *m, const char *name, Status *st);
/* Fails when the model has no tokenizer, saying why or what works without. */
bool open_model_reads_text(const OpenModel *m, const char *name, Status *st);

/* TOKENIZER of a command line: a folder, a tokenizer.json, or a model that carries one. */
Tokenizer *open_tokenizer(const char *name, Status *st);

#endif
