/* Look-ups in a recipe. */
#include "recipes/config/recipe.h"

#include <stdio.h>
#include <string.h>

const char *stage_kind_name(int k)
{
    static const char *const names[STAGE_KINDS] = {"pretrain",     "sft",     "rl", "rejection",
                                                   "reward_model", "distill", "dpo"};
    return (unsigned)k < STAGE_KINDS ? names[k] : NULL;
}

int recipe_stage_index(const Recipe *r, const char *name)
{
    for (int i = 0; i < r->n_stages; i++)
        if (!strcmp(r->stages[i].name, name)) return i;
    return -1;
}

const RecipeStage *recipe_stage(const Recipe *r, const char *name)
{
    int i = recipe_stage_index(r, name);
    return i < 0 ? NULL : &r->stages[i];
}

const RecipeStage *recipe_stage_of(const Recipe *r, const char *from)
{
    size_t n = strcspn(from, ".");
    if (strchr(from, '/')) return NULL;
    for (int i = 0; i < r->n_stages; i++)
        if (!strncmp(r->stages[i].name, from, n) && !r->stages[i].name[n]) return &r->stages[i];
    return NULL;
}

BalanceConfig recipe_balance(const Recipe *r, const ModelConfig *c)
{
    const RecipeBalance *b = &r->balance;
    if (c->topk == TOPK_NOAUX) return (BalanceConfig){.sequence = (float)b->sequence, .devices = 1, .limit = 1};
    return (BalanceConfig){.expert = (float)b->expert,
                           .device = (float)b->device,
                           .comm = (float)b->communication,
                           .devices = b->devices,
                           .limit = b->limit};
}

bool recipe_stage_rolls(const RecipeStage *s)
{
    return s->kind == STAGE_RL || (s->kind == STAGE_DISTILL && s->n_rival_lrs);
}

void recipe_rewards_text(const RecipeStage *s, char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (int i = 0; i < s->rl.rewards.n && used < size; i++) {
        const RewardSpec *r = &s->rl.rewards.list[i];
        used += (size_t)snprintf(out + used, size - used, "%s%s %g", i ? ", " : "", r->name, (double)r->weight);
    }
}

int recipe_samples(const RecipeStage *s)
{
    return s->samples > 0 ? s->samples : 4; /* sft has no such key */
}

int recipe_sample_tokens(const Recipe *r, const RecipeStage *s)
{
    return s->kind == STAGE_SFT ? r->eval.max_tokens : s->rl.max_tokens;
}

const RecipeTasks *recipe_tasks(const Recipe *r, const RecipeStage *s)
{
    return s->tasks.n ? &s->tasks : &r->tasks;
}

bool recipe_model_config(const RecipeModel *m, int vocab, int bos, int eos, ModelConfig *out, Status *st)
{
    ModelConfig c = m->config;
    c.V = vocab;
    c.bos = bos;
    c.eos = eos;
    if (!config_validate(&c, st)) return false;
    *out = c;
    return true;
}
