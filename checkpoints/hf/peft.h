/* Low-rank adapters as the PEFT library keeps them (docs/lora.md): a folder with adapter_config.json and
 * adapter_model.safetensors, whose keys are "base_model.model." + the module + ".lora_A.weight" [r, in] and
 * ".lora_B.weight" [out, r]. */
#ifndef CHECKPOINTS_PEFT_H
#define CHECKPOINTS_PEFT_H

#include "checkpoints/hf/safetensors.h"
#include "checkpoints/weight_source.h"

typedef struct Peft Peft;

/* Whether the folder holds an adapter. */
bool peft_is(const char *folder);
/* Opens an adapter of a model with this config (its own `lora` apart) and checks every key and shape; *lora: what it is,
 * its targets being those of the modules that it has. Fails, naming the key, on what is no plain LoRA: DoRA, ranks or
 * alphas by module, biases, whole modules beside it. */
Peft *peft_open(const char *folder, const ModelConfig *base, LoraConfig *lora, Status *st);
void peft_close(Peft *p);
/* The base model that the adapter names; "" where it names none. */
const char *peft_base(const Peft *p);
/* Fills the adapters of a table with the lora of peft_open, of which `adapters` is the first one's place. Modules that the file
 * lacks get A = B = 0: they add nothing, and no gradient reaches them. Returns their number in *missing. */
bool peft_fill(const Peft *p, const ParamTable *t, float *adapters, int *missing, Status *st);

/* Writes the adapters of a model to a folder (new or empty); those of zeros alone are left out.
 * base: what base_model_name_or_path shall be. dtype: ST_F32, ST_F16 or ST_BF16. */
bool peft_write(const char *folder, const ModelConfig *c, const ParamTable *t, WeightSource weights, StDtype dtype,
                const char *base, Status *st);

#endif
