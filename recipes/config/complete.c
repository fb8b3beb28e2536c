/* The built-in stages, and what a name says by itself. */
#include "recipes/config/complete.h"

#include <string.h>

#include "core/losses/grpo.h"

/* The stages of the R1 paper: a recipe that names one needs to say only what differs. */
typedef struct BuiltInStage {
    const char *name, *kind, *from, *sample_from, *reward_models, *model;
} BuiltInStage;

static const BuiltInStage built_in[] = {
    {"base", "pretrain", NULL, NULL, NULL, NULL},
    {"zero", "rl", "base", NULL, NULL, NULL},
    {"cold_start", "sft", "base", NULL, NULL, NULL},
    {"rl_reason", "rl", "cold_start", NULL, NULL, NULL},
    {"reject_sft", "rejection", "base", "rl_reason", NULL, NULL},
    {"reward_models", "reward_model", "reject_sft", NULL, NULL, NULL},
    {"rl_all", "rl", "reject_sft", NULL, "reward_models", NULL},
    {"student_base", "pretrain", NULL, NULL, NULL, "student"},
    {"distill", "distill", "student_base", "rl_all", NULL, NULL},
};

static void put_missing(Node *map, const char *key, const char *value)
{
    if (value && !node_get(map, key)) node_put(map, key, node_new(NODE_SCALAR, value, map->where));
}

static const char *text_of(const Node *map, const char *key)
{
    const Node *n = node_get(map, key);
    return n && n->kind == NODE_SCALAR && n->text[0] ? n->text : NULL;
}

static void complete_rewards(Node *owner)
{
    Node *list = node_get(owner, "rewards");
    for (int i = 0; list && list->kind == NODE_LIST && i < list->n; i++)
        if (list->items[i]->kind == NODE_MAP) put_missing(list->items[i], "kind", text_of(list->items[i], "name"));
}

static void complete_tasks(Node *owner, const char *key)
{
    Node *list = node_get(owner, key);
    for (int i = 0; list && list->kind == NODE_LIST && i < list->n; i++) {
        Node *t = list->items[i];
        if (t->kind == NODE_MAP && !text_of(t, "file")) put_missing(t, "task", text_of(t, "name"));
    }
}

static void complete_stage(Node *stage)
{
    const char *name = text_of(stage, "name"), *kind = text_of(stage, "kind");
    for (size_t i = 0; name && i < sizeof built_in / sizeof *built_in; i++) {
        const BuiltInStage *b = &built_in[i];
        if (strcmp(b->name, name) || (kind && strcmp(kind, b->kind))) continue;
        put_missing(stage, "kind", b->kind);
        put_missing(stage, "from", b->from);
        put_missing(stage, "sample_from", b->sample_from);
        put_missing(stage, "reward_models", b->reward_models);
        put_missing(stage, "model", b->model);
    }
    const char *loss = text_of(stage, "loss");
    for (int k = 0; loss && grpo_kind_name(k); k++)
        if (!strcmp(loss, grpo_kind_name(k)) && grpo_divides_by_std((GrpoKind)k))
            put_missing(stage, "std_normalise", "true");
    complete_rewards(stage);
    complete_tasks(stage, "tasks");
    complete_tasks(stage, "preferences");
}

static void drop_key(Node *map, const char *key)
{
    for (int i = 0; i < map->n; i++) {
        if (strcmp(map->items[i]->key, key)) continue;
        node_free(map->items[i]);
        memmove(map->items + i, map->items + i + 1, (size_t)(--map->n - i) * sizeof *map->items);
        return;
    }
}

/* Other attention under DeepSeek's blocks is another architecture by name: DeepSeekMoE's (V2's router), GLM-4.5's (V3's). */
static void complete_model(Node *model)
{
    static const char *const of_latent[] = {"q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim",
                                            "v_head_dim"};
    static const char *const plain[][2] = {{"deepseek_v2", "deepseek"}, {"deepseek_v3", "glm4_moe"}};
    const char *attention = model && model->kind == NODE_MAP ? text_of(model, "attention") : NULL;
    if (!attention || (strcmp(attention, "mha") && strcmp(attention, "gqa") && strcmp(attention, "mqa"))) return;
    const char *name = text_of(model, "architecture");
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++) {
        if (strcmp(name ? name : "deepseek_v2", plain[i][0])) continue;
        node_put(model, "architecture", node_new(NODE_SCALAR, plain[i][1], model->where));
        for (size_t k = 0; k < sizeof of_latent / sizeof *of_latent; k++) drop_key(model, of_latent[k]);
        return;
    }
}

void recipe_complete_tree(Node *tree)
{
    complete_model(node_get(tree, "model"));
    complete_model(node_get(tree, "student"));
    complete_rewards(tree);
    complete_tasks(tree, "tasks");
    complete_tasks(tree, "general");
    const Node *stages = node_get(tree, "stages");
    for (int i = 0; stages && stages->kind == NODE_LIST && i < stages->n; i++)
        if (stages->items[i]->kind == NODE_MAP) complete_stage(stages->items[i]);
}
