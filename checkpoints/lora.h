/* Low-rank adapters of models on disk: what a checkpoint says of them, a model given new ones, and a model with them merged. */
#ifndef CHECKPOINTS_LORA_H
#define CHECKPOINTS_LORA_H

#include "checkpoints/model_file.h"
#include "data/json.h"

/* The member "lora" of a checkpoint's config: {r, lora_alpha, use_rslora, targets}; nothing where there are none. */
void lora_config_write(Json *config, const LoraConfig *l);
/* Reads it into c->lora and checks it against the rest of c. */
bool lora_config_read(const Json *config, ModelConfig *c, Status *st);

/* m, which has no adapters, with new ones as l says: A of the seed, B 0. */
bool model_add_lora(LoadedModel *m, const LoraConfig *l, uint32_t seed, Status *st);
/* The same with the adapters of a folder that peft wrote (checkpoints/hf/peft.h); modules of one kind that it lacks are noted on
 * stderr and stay zero. Fails where m has adapters already. */
bool model_add_adapter(LoadedModel *m, const char *folder, Status *st);

/* The same model without adapters: its config, and as a source of the parameters of its table W + s B A in f32. */
ModelConfig lora_merged_config(const ModelConfig *c);
WeightSource merged_source(const LoadedModel *m);

#endif
