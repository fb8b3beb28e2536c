/* A Hugging Face model folder: config.json <-> ModelConfig, weights in, weights out. */
#ifndef CHECKPOINTS_HF_H
#define CHECKPOINTS_HF_H

#include "core/params.h"
#include "checkpoints/safetensors.h"
#include "data/json.h"

/* config.json's object -> config (validated). Unknown model_type fails, naming the known ones. Accepts both spellings of the
 * rope keys (rope_scaling + rope_theta, rope_parameters), `gready`, missing q_lora_rank (1536) against an explicit null. */
bool hf_config_parse(const Json *object, ModelConfig *out, Status *st);
/* The other way: keys in the order of released configs. */
Json *hf_config_json(const ModelConfig *c);
bool hf_config_read(const char *folder, ModelConfig *out, Status *st);

/* Fills weights (table->total elements, zeroed padding) from the folder's safetensors; a missing tensor or a wrong shape fails
 * with its name. lm_head of a tied model is ignored. */
bool hf_weights_read(const char *folder, const ModelConfig *c, const ParamTable *t, float *weights, Status *st);
/* The same from a file that is open already. Experts fused by transformers 5 and FP8 blocks (DeepSeek-V3) are understood. */
bool hf_weights_fill(const StFile *f, const char *folder, const ModelConfig *c, const ParamTable *t, float *weights, Status *st);

#endif
