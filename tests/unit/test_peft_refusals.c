/* Adapter folders that are no plain LoRA of this model are refused in a sentence that names the key: one row each. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hf/peft.h"
#include "core/base/check.h"
#include "data/json.h"
#include "tests/unit/scratch.h"

static ModelConfig model(void)
{
    return (ModelConfig){.arch = ARCH_LLAMA,
                         .attention = ATTENTION_GQA,
                         .V = 30,
                         .L = 2,
                         .C = 16,
                         .H = 2,
                         .Hkv = 1,
                         .Dr = 8,
                         .Dv = 8,
                         .F = 24,
                         .eps = 1e-6f,
                         .rope = {.theta = 10000.0f},
                         .max_positions = 64,
                         .n_group = 1,
                         .topk_group = 1,
                         .moe_freq = 1,
                         .routed_scale = 1.0f};
}

#define Q    "base_model.model.model.layers.0.self_attn.q_proj."
#define DOWN "base_model.model.model.layers.1.mlp.down_proj."
static const char plain[] = "{\"peft_type\": \"LORA\", \"r\": 2, \"lora_alpha\": 4, \"target_modules\": [\"q_proj\"]}";

typedef struct Tensor {
    const char *name;
    uint64_t rows, cols;
} Tensor;

static const Tensor of_q[] = {{Q "lora_A.weight", 2, 16}, {Q "lora_B.weight", 16, 2}};

/* adapter_config.json with one more member (NULL: as it is), and the tensors. */
static void put(const char *member, const Tensor *tensors, int n)
{
    char text[1024];
    Status st = {0};
    float zeros[1024] = {0};
    if (member) snprintf(text, sizeof text, "{%s, %s", member, plain + 1);
    else snprintf(text, sizeof text, "%s", plain);
    scratch_put("adapter_config.json", text, strlen(text));
    StWriter *w = st_writer_open(scratch_path("adapter_model.safetensors"), &st);
    assert_non_null(w);
    for (int i = 0; i < n; i++)
        st_writer_add(w, tensors[i].name, ST_F32, 2, (uint64_t[]){tensors[i].rows, tensors[i].cols});
    for (int i = 0; i < n; i++) assert_true(st_writer_data(w, tensors[i].name, zeros, &st));
    assert_true(st_writer_close(w, &st));
}

static bool opens(LoraConfig *l, Status *st)
{
    ModelConfig c = model();
    Peft *p = peft_open(scratch_folder(), &c, l, st);
    bool ok = p != NULL;
    peft_close(p);
    return ok;
}

static void test_keys(void **state)
{
    (void)state;
    static const struct {
        const char *member, *words; /* NULL: it is read */
    } rows[] = {
        {NULL, NULL},
        {"\"use_dora\": true", "use_dora (DoRA scales the rows"},
        {"\"rank_pattern\": {\"q_proj\": 4}", "rank_pattern (ranks differ"},
        {"\"alpha_pattern\": {\"q_proj\": 4}", "alpha_pattern (alphas differ"},
        {"\"modules_to_save\": [\"lm_head\"]", "modules_to_save (whole modules"},
        {"\"target_parameters\": [\"mlp.experts.gate_up_proj\"]", "target_parameters (parameters are wrapped"},
        {"\"bias\": \"all\"", "bias (biases were trained"},
        {"\"bias\": \"lora_only\"", "bias (biases were trained"},
        {"\"lora_bias\": true", "lora_bias (B has a bias"},
        {"\"fan_in_fan_out\": true", "fan_in_fan_out (the base's weights"},
        {"\"layer_replication\": [[0, 2], [1, 2]]", "layer_replication (layers of the base"},
        {"\"trainable_token_indices\": [1, 2]", "trainable_token_indices (rows of the embedding"},
        {"\"use_qalora\": true", "use_qalora (inputs are pooled"},
        {"\"alora_invocation_tokens\": [5]", "alora_invocation_tokens (the adapter acts only"},
        {"\"arrow_config\": {\"top_k\": 2}", "arrow_config (several adapters"},
        {"\"init_lora_weights\": \"pissa_niter_4\"", "pissa_niter_4, which changed the base"},
        {"\"init_lora_weights\": \"olora\"", "olora, which changed the base"},
        {"\"init_lora_weights\": \"corda\"", "corda, which changed the base"},
        {"\"init_lora_weights\": \"loftq\"", "loftq, which changed the base"},
        {"\"init_lora_weights\": \"lora_ga\"", "lora_ga, which changed the base"},
        /* Off, or without effect on the function. */
        {"\"use_dora\": false, \"rank_pattern\": {}, \"modules_to_save\": null, \"bias\": \"none\"", NULL},
        {"\"init_lora_weights\": \"gaussian\", \"lora_dropout\": 0.1, \"inference_mode\": true", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        LoraConfig l;
        Status st = {0};
        put(rows[i].member, of_q, 2);
        bool ok = opens(&l, &st);
        if (ok != !rows[i].words) fail_msg("%s: %s", rows[i].member, ok ? "was read" : st.text);
        if (!ok) assert_true(says(&st, rows[i].words));
        else assert_true(l.rank == 2 && l.alpha == 4.0f && !l.rslora && l.targets == 1u << LORA_Q_PROJ);
    }
}

/* A config as it stands. */
static void refused_config(const char *text, const char *words)
{
    LoraConfig l;
    Status st = {0};
    put(NULL, of_q, 2);
    scratch_put("adapter_config.json", text, strlen(text));
    assert_false(opens(&l, &st));
    assert_true(says(&st, words));
}

static void test_configs(void **state)
{
    (void)state;
    refused_config("{\"peft_type\": \"IA3\", \"r\": 2}", "peft_type is IA3; only LORA");
    refused_config("{\"r\": 2}", "peft_type is none; only LORA");
    refused_config("[1, 2]", "is no object");
    refused_config("{\"peft_type\": \"LORA\", \"r\": 0}", "r is 0, no possible rank");
    refused_config("{\"peft_type\": \"LORA\", \"r\": -3}", "r is -3, no possible rank");
    refused_config("{\"peft_type\": \"LORA\", \"r\": 100000}", "r is 100000, no possible rank");
    refused_config("{\"peft_type\": \"LORA\", \"r\": \"two\"}", "r");
    refused_config("{\"peft_type\": \"LORA\", \"r\": 2", "adapter_config.json");
    refused_config("{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 4}", "but r = 4 and the base make it");
    LoraConfig l;
    Status st = {0};
    remove(scratch_path("adapter_model.safetensors"));
    assert_false(opens(&l, &st));
    assert_true(says(&st, "is missing; an adapter_model.bin must be saved as safetensors"));
    st = (Status){0};
    remove(scratch_path("adapter_config.json"));
    assert_false(opens(&l, &st));
    assert_true(says(&st, "has no adapter_config.json"));
}

static void test_tensors(void **state)
{
    (void)state;
    static const struct {
        Tensor tensors[2];
        int n;
        const char *words; /* NULL: it is read */
    } rows[] = {
        {{{Q "lora_A.weight", 2, 16}, {Q "lora_B.weight", 16, 2}}, 2, NULL},
        {{{DOWN "lora_A.weight", 2, 24}, {DOWN "lora_B.weight", 16, 2}}, 2, NULL},
        {{{Q "lora_A.weight", 3, 16}, {Q "lora_B.weight", 16, 2}},
         2,
         "has shape [3, 16], but r = 2 and the base make it [2, 16]"},
        {{{Q "lora_A.weight", 2, 18}, {Q "lora_B.weight", 16, 2}}, 2, "has shape [2, 18]"},
        {{{Q "lora_A.weight", 2, 16}, {Q "lora_B.weight", 2, 16}},
         2,
         "has shape [2, 16], but r = 2 and the base make it [16, 2]"},
        {{{Q "lora_A.weight", 2, 16}},
         1,
         "has no partner base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"},
        {{{Q "lora_B.weight", 16, 2}},
         1,
         "has no partner base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"},
        {{{Q "lora_magnitude_vector", 1, 16}}, 1, "is no adapter of a matrix of this model"},
        {{{"base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight", 2, 16}}, 1, "is it of another base?"},
        {{{"base_model.model.model.layers.0.self_attn.kv_b_proj.lora_A.weight", 2, 16}}, 1, "is it of another base?"},
        {{{"base_model.model.model.layers.0.input_layernorm.lora_A.weight", 2, 16}}, 1, "is no adapter of a matrix"},
        {{{"base_model.model.lm_head.lora_A.weight", 2, 16}}, 1, "(the embedding and the head have none here)"},
        {{{"base_model.model.model.embed_tokens.lora_embedding_A", 2, 30}},
         1,
         "(the embedding and the head have none here)"},
        {{{"model.layers.0.self_attn.q_proj.lora_A.weight", 2, 16}}, 1, "is no adapter of a matrix of this model"},
        {{{NULL, 0, 0}}, 0, "holds no tensors"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        LoraConfig l;
        Status st = {0};
        put(NULL, rows[i].tensors, rows[i].n);
        bool ok = opens(&l, &st);
        if (ok != !rows[i].words) fail_msg("row %zu: %s", i, ok ? "was read" : st.text);
        if (!ok) assert_true(says(&st, rows[i].words));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_configs),
        cmocka_unit_test(test_tensors),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
