/* Look-ups in a recipe. */
#include "recipes/config/recipe.h"

#include <stdio.h>
#include <string.h>

#include "checkpoints/hf/peft.h"
#include "recipes/config/did_you_mean.h"

const char *stage_kind_name(int k)
{
    static const char *const names[STAGE_KINDS] = {"pretrain",     "sft",     "rl", "rejection",
                                                   "reward_model", "distill", "dpo"};
    return (unsigned)k < STAGE_KINDS ? names[k] : NULL;
}

const char *objective_name(int k)
{
    static const char *const names[] = {"text", "forward_kl", "reverse_kl", "on_policy"};
    return (size_t)k < sizeof names / sizeof *names ? names[k] : NULL;
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

enum { LORA_ATTENTION = LORA_TARGETS, LORA_MLP, LORA_NAMES };

const char *recipe_lora_target_name(int k)
{
    static const char *const groups[] = {"attention", "mlp"};
    return k < LORA_TARGETS ? lora_target_name(k) : k < LORA_NAMES ? groups[k - LORA_TARGETS] : NULL;
}

/* The first target that the model lacks, with the nearest that it has. */
static bool fail_target(const ModelConfig *c, unsigned missing, Status *st)
{
    unsigned has = lora_targets_of(c);
    int which = 0;
    while (!(missing >> which & 1)) which++;
    Nearest near = nearest_start(lora_target_name(which));
    char list[256] = "", hint[80];
    for (int i = 0; i < LORA_TARGETS; i++) {
        if (!(has >> i & 1)) continue;
        nearest_try(&near, lora_target_name(i));
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", *list ? ", " : "", lora_target_name(i));
    }
    return fail(st, "lora.targets names %s, which this %s model does not have%s It has %s", lora_target_name(which),
                arch_name(c->arch), near.best ? nearest_hint(&near, hint, sizeof hint) : ".", list);
}

bool recipe_lora(const Recipe *r, ModelConfig *c, Status *st)
{
    const unsigned mlp = 1u << LORA_GATE_PROJ | 1u << LORA_UP_PROJ | 1u << LORA_DOWN_PROJ;
    const RecipeLora *l = &r->lora;
    if (!l->used) return true;
    if (l->from[0]) {
        Peft *p = peft_open(l->from, c, &c->lora, st);
        peft_close(p);
        return p && config_validate(c, st);
    }
    unsigned has = lora_targets_of(c), targets = l->targets & ((1u << LORA_TARGETS) - 1), groups = 0;
    if (targets & ~has) return fail_target(c, targets & ~has, st);
    if (l->targets >> LORA_ATTENTION & 1) groups |= ~(mlp | 1u << LORA_EXPERTS);
    if (l->targets >> LORA_MLP & 1) groups |= mlp;
    c->lora = (LoraConfig){l->rank, l->alpha, l->rslora, targets | (groups & has)};
    return config_validate(c, st);
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
