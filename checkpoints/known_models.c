/* The released models known by name. */
#include "checkpoints/known_models.h"

#include <stddef.h>
#include <strings.h>

#define DEEPSEEK_YARN(scale)                                                                                           \
    {                                                                                                                  \
        .theta = 10000.0f, .interleaved = true, .scaling = ROPE_YARN, .factor = 40.0f, .beta_fast = 32.0f,             \
        .beta_slow = 1.0f, .mscale = (scale), .mscale_all_dim = (scale), .has_mscale = true,                           \
        .has_mscale_all_dim = true, .original_positions = 4096                                                         \
    }

/* What a model shares with all of its family. */
#define DEEPSEEK                                                                                                       \
    .attention = ATTENTION_MLA, .Rkv = 512, .Dn = 128, .Dr = 64, .Dv = 128, .moe_freq = 1, .eps = 1e-6f,               \
    .max_positions = 163840, .init_std = 0.02f
#define DENSE                                                                                                          \
    .attention = ATTENTION_GQA, .moe_freq = 1, .n_group = 1, .topk_group = 1, .routed_scale = 1.0f, .tied = true

static const struct {
    const char *name;
    ModelConfig config;
} models[] = {
    {"deepseek-v2",
     {.arch = ARCH_DEEPSEEK_V2,
      DEEPSEEK,
      .V = 102400,
      .C = 5120,
      .L = 60,
      .H = 128,
      .Hkv = 128,
      .Rq = 1536,
      .F = 12288,
      .E = 160,
      .S = 2,
      .K = 6,
      .moe_F = 1536,
      .first_dense = 1,
      .topk = TOPK_GROUP_MAX,
      .score = SCORE_SOFTMAX,
      .n_group = 8,
      .topk_group = 3,
      .routed_scale = 16.0f,
      .rope = DEEPSEEK_YARN(0.707f),
      .bos = 100000,
      .eos = 100001}},
    {"deepseek-v2-lite",
     {.arch = ARCH_DEEPSEEK_V2,
      DEEPSEEK,
      .V = 102400,
      .C = 2048,
      .L = 27,
      .H = 16,
      .Hkv = 16,
      .Rq = 0,
      .F = 10944,
      .E = 64,
      .S = 2,
      .K = 6,
      .moe_F = 1408,
      .first_dense = 1,
      .topk = TOPK_GREEDY,
      .score = SCORE_SOFTMAX,
      .n_group = 1,
      .topk_group = 1,
      .routed_scale = 1.0f,
      .rope = DEEPSEEK_YARN(0.707f),
      .bos = 100000,
      .eos = 100001}},
    {"deepseek-v3",
     {.arch = ARCH_DEEPSEEK_V3,
      DEEPSEEK,
      .V = 129280,
      .C = 7168,
      .L = 61,
      .H = 128,
      .Hkv = 128,
      .Rq = 1536,
      .F = 18432,
      .E = 256,
      .S = 1,
      .K = 8,
      .moe_F = 2048,
      .first_dense = 3,
      .topk = TOPK_NOAUX,
      .score = SCORE_SIGMOID,
      .n_group = 8,
      .topk_group = 4,
      .norm_topk = true,
      .routed_scale = 2.5f,
      .rope = DEEPSEEK_YARN(1.0f),
      .bos = 0,
      .eos = 1,
      .mtp_layers = 1}},
    {"qwen2.5-0.5b",
     {.arch = ARCH_QWEN2,
      DENSE,
      .V = 151936,
      .C = 896,
      .L = 24,
      .H = 14,
      .Hkv = 2,
      .Dr = 64,
      .Dv = 64,
      .qkv_bias = true,
      .F = 4864,
      .eps = 1e-6f,
      .rope = {.theta = 1000000.0f},
      .max_positions = 32768,
      .init_std = 0.02f,
      .bos = 151643,
      .eos = 151643}},
    {"qwen2.5-1.5b",
     {.arch = ARCH_QWEN2,
      DENSE,
      .V = 151936,
      .C = 1536,
      .L = 28,
      .H = 12,
      .Hkv = 2,
      .Dr = 128,
      .Dv = 128,
      .qkv_bias = true,
      .F = 8960,
      .eps = 1e-6f,
      .rope = {.theta = 1000000.0f},
      .max_positions = 131072,
      .init_std = 0.02f,
      .bos = 151643,
      .eos = 151643}},
    {"qwen3-0.6b",
     {.arch = ARCH_QWEN3,
      DENSE,
      .V = 151936,
      .C = 1024,
      .L = 28,
      .H = 16,
      .Hkv = 8,
      .Dr = 128,
      .Dv = 128,
      .qk_norm = true,
      .F = 3072,
      .eps = 1e-6f,
      .rope = {.theta = 1000000.0f},
      .max_positions = 40960,
      .init_std = 0.02f,
      .bos = 151643,
      .eos = 151645}},
    {"smollm2-135m",
     {.arch = ARCH_LLAMA,
      DENSE,
      .V = 49152,
      .C = 576,
      .L = 30,
      .H = 9,
      .Hkv = 3,
      .Dr = 64,
      .Dv = 64,
      .F = 1536,
      .eps = 1e-5f,
      .rope = {.theta = 100000.0f},
      .max_positions = 8192,
      .init_std = 0.041666666666666664f,
      .bos = 0,
      .eos = 0}},
};
enum { MODELS = sizeof models / sizeof *models };

const char *known_model_name(int i)
{
    return i >= 0 && i < MODELS ? models[i].name : NULL;
}

bool known_model(const char *name, ModelConfig *out)
{
    for (int i = 0; i < MODELS; i++)
        if (!strcasecmp(models[i].name, name)) {
            *out = models[i].config;
            return true;
        }
    return false;
}
