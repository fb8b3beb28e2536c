/* The keys of a written GGUF file: general ones, and those of its architecture. */

#include "checkpoints/gguf/gguf_names.h"
#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/gguf/gguf_write.h"

static void put_general(GgufKeys *k, const char *model_name, GgufTarget target)
{
    /* llama.cpp's own enumeration of file types, not ggml's. */
    static const uint32_t file_types[] = {
        [GGUF_WRITE_F32] = 0, [GGUF_WRITE_F16] = 1, [GGUF_WRITE_BF16] = 32, [GGUF_WRITE_Q8_0] = 7};
    gguf_key_text(k, "general.architecture", k->arch);
    gguf_key_text(k, "general.type", "model");
    gguf_key_text(k, "general.name", model_name);
    gguf_key_u32(k, "general.file_type", file_types[target]);
    gguf_key_u32(k, "general.quantization_version", 2);
}

static void put_sizes(GgufKeys *k, const ModelConfig *c)
{
    gguf_key_u32(k, ".block_count", (uint32_t)c->L);
    gguf_key_u32(k, ".context_length", (uint32_t)c->max_positions);
    gguf_key_u32(k, ".embedding_length", (uint32_t)c->C);
    gguf_key_u32(k, ".feed_forward_length", (uint32_t)c->F);
    gguf_key_u32(k, ".attention.head_count", (uint32_t)c->H);
    gguf_key_f32(k, ".attention.layer_norm_rms_epsilon", c->eps);
    gguf_key_f32(k, ".rope.freq_base", c->rope.theta);
    gguf_key_u32(k, ".rope.dimension_count", (uint32_t)c->Dr);
    gguf_key_u32(k, ".vocab_size", (uint32_t)c->V);
}

static void put_scaling(GgufKeys *k, const ModelConfig *c)
{
    const RopeConfig *r = &c->rope;
    if (r->scaling == ROPE_YARN || r->scaling == ROPE_LINEAR) {
        gguf_key_text(k, ".rope.scaling.type", rope_scaling_name(r->scaling));
        gguf_key_f32(k, ".rope.scaling.factor", r->factor);
    }
    if (r->scaling != ROPE_YARN) return; /* llama3: a tensor of factors, gguf_write.c */
    gguf_key_u32(k, ".rope.scaling.original_context_length", (uint32_t)r->original_positions);
    if (r->beta_fast != 32.0f) gguf_key_f32(k, ".rope.scaling.yarn_beta_fast", r->beta_fast);
    if (r->beta_slow != 1.0f) gguf_key_f32(k, ".rope.scaling.yarn_beta_slow", r->beta_slow);
    if (c->attention == ATTENTION_MLA)
        gguf_key_f32(k, ".rope.scaling.yarn_log_multiplier", (float)(0.1 * (double)r->mscale_all_dim));
}

static void put_grouped_attention(GgufKeys *k, const ModelConfig *c)
{
    gguf_key_u32(k, ".attention.head_count_kv", (uint32_t)c->Hkv);
    gguf_key_u32(k, ".attention.key_length", (uint32_t)c->Dr);
    gguf_key_u32(k, ".attention.value_length", (uint32_t)c->Dv);
}

static void put_latent_attention(GgufKeys *k, const ModelConfig *c)
{
    /* The loader takes depths 26 and 27 for models without the rank; elsewhere it wants the key, 0 for none. */
    if (c->Rq || (c->L != 26 && c->L != 27)) gguf_key_u32(k, ".attention.q_lora_rank", (uint32_t)c->Rq);
    gguf_key_u32(k, ".attention.kv_lora_rank", (uint32_t)c->Rkv);
    gguf_key_u32(k, ".attention.head_count_kv", 1);
    gguf_key_u32(k, ".attention.key_length", (uint32_t)(c->Rkv + c->Dr));
    gguf_key_u32(k, ".attention.value_length", (uint32_t)c->Rkv);
    gguf_key_u32(k, ".attention.key_length_mla", (uint32_t)config_qk_dim(c));
    gguf_key_u32(k, ".attention.value_length_mla", (uint32_t)c->Dv);
}

static void put_experts(GgufKeys *k, const ModelConfig *c)
{
    gguf_key_u32(k, ".leading_dense_block_count", (uint32_t)(c->E ? c->first_dense : c->L));
    gguf_key_u32(k, ".expert_feed_forward_length", (uint32_t)c->moe_F);
    gguf_key_u32(k, ".expert_count", (uint32_t)c->E);
    gguf_key_u32(k, ".expert_used_count", (uint32_t)c->K);
    gguf_key_u32(k, ".expert_shared_count", (uint32_t)c->S);
    gguf_key_f32(k, ".expert_weights_scale", c->routed_scale);
    if (c->norm_topk) gguf_key_bool(k, ".expert_weights_norm", true);
    gguf_key_u32(k, ".expert_gating_func", c->score == SCORE_SIGMOID ? 2 : 1);
    if (c->topk == TOPK_GREEDY) return;
    gguf_key_u32(k, ".expert_group_count", (uint32_t)c->n_group);
    gguf_key_u32(k, ".expert_group_used_count", (uint32_t)c->topk_group);
}

/* What the format has no key for must not be lost in silence. */
static bool expressible(const ModelConfig *c, Status *st)
{
    if (c->head == HEAD_SCALAR)
        return fail(st, "a reward model's scalar head has no place in GGUF: export it with --format hf");
    if (c->attention == ATTENTION_GQA && arch_has_experts(c->arch))
        return fail(st, "a %s model is not written as GGUF: export it with --format hf", arch_name(c->arch));
    if (c->arch == ARCH_QWEN3 && c->qkv_bias)
        return fail(st, "attention_bias of a qwen3 has no place in GGUF: export it with --format hf");
    if (c->E && c->moe_freq != 1)
        return fail(st, "moe_layer_freq %d has no place in GGUF: export with --format hf", c->moe_freq);
    if (c->rope.scaling == ROPE_DYNAMIC)
        return fail(st, "rope_scaling of type dynamic has no place in GGUF: export with --format hf");
    if (c->rope.scaling == ROPE_YARN && c->rope.attention_factor > 0)
        return fail(st, "YaRN's attention_factor has no place in GGUF: export with --format hf");
    if (c->attention == ATTENTION_MLA && !c->rope.interleaved)
        return fail(st, "rope_interleave false has no place in GGUF: export with --format hf");
    if (c->attention == ATTENTION_MLA && c->rope.scaling == ROPE_YARN && c->rope.mscale != c->rope.mscale_all_dim)
        return fail(st,
                    "rope_scaling with mscale other than mscale_all_dim has no place in GGUF: export with --format hf");
    return true;
}

bool gguf_put_keys(GgufKeys *k, const char *model_name, const ModelConfig *c, GgufTarget target, const Tokenizer *t,
                   Status *st)
{
    if (!expressible(c, st)) return false;
    k->arch = gguf_arch(c->arch);
    put_general(k, model_name, target);
    put_sizes(k, c);
    put_scaling(k, c);
    if (c->attention == ATTENTION_GQA) put_grouped_attention(k, c);
    else {
        put_latent_attention(k, c);
        put_experts(k, c);
    }
    return gguf_put_tokenizer(k, c, t, st);
}
