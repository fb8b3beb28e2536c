/* A Hugging Face model folder: config.json <-> ModelConfig, weights in, weights out. */
#ifndef CHECKPOINTS_HF_H
#define CHECKPOINTS_HF_H

#include "core/params.h"
#include "checkpoints/attachments.h"
#include "checkpoints/hf/safetensors.h"
#include "checkpoints/weight_source.h"
#include "data/json.h"
#include "data/tokenizer/tokenizer.h"

/* config_validate, and no more tensors than a table of a sane size holds: for configs of strangers. */
bool config_loadable(const ModelConfig *c, Status *st);
/* config.json's object -> config (validated). Unknown model_type fails, naming the known ones. Accepts both spellings
 * of the rope keys (rope_scaling + rope_theta, rope_parameters), `gready`, missing q_lora_rank (1536) against an
 * explicit null. */
bool hf_config_parse(const Json *object, ModelConfig *out, Status *st);
/* The other way: keys in the order of released configs. */
Json *hf_config_json(const ModelConfig *c);
bool hf_config_read(const char *folder, ModelConfig *out, Status *st);

/* A config that says tied over a file whose lm_head.weight is not the embedding: the file holds, the model is not tied (as
 * transformers has it). */
void hf_untie(const StFile *f, ModelConfig *c);
/* Modules of multi-token prediction that lie whole in the file become parameters (c->mtp). Those in FP8, in part, or with an
 * embedding or head of their own are carried along as they are. */
void hf_find_mtp(const StFile *f, ModelConfig *c);
/* What released files hold twice for module k: copy 0 is the embedding, 1 the head. */
enum { HF_MTP_COPIES = 2 };
void hf_mtp_copy_name(const ModelConfig *c, int k, int copy, char name[96]);
/* Fails naming the first tensor that the model has no use for. Known buffers, MTP layers (carried along) and a
 * tied model's copy of the embedding are no such tensors. */
bool hf_all_used(const StFile *f, const char *folder, const ModelConfig *c, const ParamTable *t, Status *st);

/* Fills weights (table->total elements, zeroed padding) from the folder's safetensors; a missing tensor or a wrong
 * shape fails with its name. lm_head of a tied model is ignored. */
bool hf_weights_read(const char *folder, const ModelConfig *c, const ParamTable *t, float *weights, Status *st);
/* The same from a file that is open already; weights NULL: only checks that every tensor is there with its shape.
 * Experts fused by transformers 5 and FP8 blocks (DeepSeek-V3) are understood. */
bool hf_weights_fill(const StFile *f, const char *folder, const ModelConfig *c, const ParamTable *t, float *weights,
                     Status *st);
/* One parameter of the table: w[p->count]; NULL: only checks. */
bool hf_param_read(const StFile *f, const char *folder, const ModelConfig *c, const Param *p, float *w, Status *st);
/* Rows [row, row + n) of it; false without a sentence: FP8 blocks, read it whole. */
bool hf_rows_read(const StFile *f, const ModelConfig *c, const Param *p, size_t row, size_t n, float *w, Status *st);
/* Its bf16 words as they lie in the mapping (at any address), or NULL when the file holds another type. */
const void *hf_param_bf16(const StFile *f, const ModelConfig *c, const Param *p);

/* Where its data lie as they are, so that they can be read without the mapping. False: only hf_param_read understands it (FP8
 * blocks, other types). */
bool hf_param_place(const StFile *f, const ModelConfig *c, const Param *p, ParamPlace *out);

/* What an export carries along: the folder's small files, and the tensors of layers behind the last (MTP). FP8 tensors
 * become BF16. The attachments point into f for the others. */
bool hf_attach(const StFile *f, const char *folder, const ModelConfig *c, Attachments *out, Status *st);

/* Makes the folder of an export; one that holds something already is refused. */
bool hf_make_folder(const char *folder, Status *st);
/* A folder that transformers loads: config.json (last), generation_config.json, model.safetensors or shards of at most
 * shard_bytes (0: 5 GB) with their index, the tokenizer's files as they came. dtype: ST_F32, ST_F16 or ST_BF16; the
 * router's selection bias stays F32. Weights are read a few rows at a time. The folder is made; one that holds something
 * already is refused. tokenizer and attached may be NULL. */
bool hf_write(const char *folder, const ModelConfig *c, const ParamTable *t, WeightSource weights, StDtype dtype,
              uint64_t shard_bytes, const Tokenizer *tokenizer, const Attachments *attached, Status *st);

#endif
