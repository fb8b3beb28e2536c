/* What the key table cannot say: references between stages, sizes of models and batches, balance losses. */
#include "recipes/config/check.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recipes/config/did_you_mean.h"
#include "recipes/model/effort.h"

/* ---- Derived values ---- */

/* Keys that an architecture lacks have the value that does nothing. */
static void derive_model(RecipeModel *m)
{
    ModelConfig *c = &m->config;
    bool mla = arch_is_latent(c->arch);
    c->attention = mla ? ATTENTION_MLA : ATTENTION_GQA;
    c->head = HEAD_LM;
    c->rope.interleaved = mla;
    c->bos = c->eos = -1;
    c->mtp = c->mtp_layers;
    if (mla || m->heads == HEADS_MHA) c->Hkv = c->H;
    if (m->heads == HEADS_MQA) c->Hkv = 1;
    if (mla) return;
    c->Dn = 0;
    c->Dv = c->Dr;
    c->qk_norm = c->arch == ARCH_QWEN3;
    if (c->arch != ARCH_GLM4_MOE) {
        c->n_group = c->topk_group = 1;
        c->routed_scale = 1;
    }
    if (c->arch != ARCH_DEEPSEEK) c->moe_freq = 1;
}

/* ---- Checks ---- */

/* The place of a key of a map, or of the map itself where the key is a default. */
static const char *place(const Node *map, const char *key)
{
    const Node *n = node_get(map, key);
    return n ? n->where : map->where;
}

static bool check_model(RecipeModel *m, const Node *tree, const char *key, Status *st)
{
    if (m->from[0]) {
        memset(&m->config, 0, sizeof m->config);
        return true;
    }
    int given = m->config.Hkv;
    derive_model(m);
    const Node *model = node_get(tree, key) ? node_get(tree, key) : tree;
    bool mla = m->config.attention == ATTENTION_MLA;
    if (mla != (m->heads == HEADS_MLA))
        return fail(st, "%s: %s.attention is %s, but %s has %s", place(model, "attention"), key,
                    mla ? "not mla" : "mla", arch_name(m->config.arch),
                    mla ? "no other" : "plain heads: mha, gqa or mqa");
    if (!mla && given != m->config.Hkv && node_get(model, "num_key_value_heads"))
        return fail(st, "%s: %s.num_key_value_heads is %d, but attention %s makes it %d: leave it out, or take gqa",
                    place(model, "num_key_value_heads"), key, given, m->heads == HEADS_MHA ? "mha" : "mqa",
                    m->config.Hkv);
    ModelConfig ignored;
    if (recipe_model_config(m, 1024, -1, -1, &ignored, st)) return true;
    return fail_prefix(st, "%s: %s", place(tree, key), key);
}

static bool check_task(const RecipeTask *t, const Node *node, bool general, Status *st)
{
    if (t->task[0] && t->file[0]) return fail(st, "%s: '%s' names a task and a file; keep one", node->where, t->name);
    if (t->file[0]) return true;
    const Task *task = task_find(t->task);
    if (!task) {
        char hint[80];
        Nearest near = nearest_start(t->task);
        for (int i = 0; i < task_count(); i++) nearest_try(&near, task_at(i)->name);
        return fail(st, "%s: there is no task '%s'%s (`r1 data --list`)", place(node, "task"), t->task,
                    nearest_hint(&near, hint, sizeof hint));
    }
    if (t->levels[0] < 1 || t->levels[1] > task->levels)
        return fail(st, "%s: task '%s' has levels 1 to %d, not [%d, %d]", place(node, "levels"), t->task, task->levels,
                    t->levels[0], t->levels[1]);
    if ((task->kind != KIND_REASONING) != general)
        return fail(st, "%s: task '%s' is a %s family; put it under `%s`", node->where, t->task,
                    general ? "reasoning" : "general", general ? "tasks" : "general");
    return true;
}

static bool check_tasks(const RecipeTasks *tasks, const Node *owner, const char *key, bool general, Status *st)
{
    const Node *list = node_get(owner, key);
    double sum = 0;
    for (int i = 0; i < tasks->n; i++) {
        if (!check_task(&tasks->list[i], list->items[i], general, st)) return false;
        sum += tasks->list[i].weight;
    }
    return !tasks->n || sum > 0 ? true : fail(st, "%s: the weights of `%s` sum to 0", list->where, key);
}

static bool name_is_good(const char *s)
{
    if (!isalnum((unsigned char)s[0])) return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_' && *s != '-') return false;
    return true;
}

static bool check_name(const Recipe *r, int i, const Node *node, Status *st)
{
    const char *name = r->stages[i].name;
    if (!name_is_good(name))
        return fail(st, "%s: stage name '%s' must be letters, digits, - and _", place(node, "name"), name);
    for (int j = 0; j < i; j++)
        if (!strcmp(r->stages[j].name, name)) return fail(st, "%s: two stages are called '%s'", node->where, name);
    return true;
}

/* "distill.rival2", "reward_models.helpful": a part that the stage makes. */
static bool check_part(const RecipeStage *stage, const char *ref, const char *where, Status *st)
{
    const char *dot = strchr(ref, '.');
    char *end = NULL;
    if (!dot) return true;
    long rival = !strncmp(dot, ".rival", 6) && isdigit((unsigned char)dot[6]) ? strtol(dot + 6, &end, 10) : 0;
    bool rewards = stage->kind == STAGE_REWARD_MODEL;
    if (rewards && (!strcmp(dot, ".helpful") || !strcmp(dot, ".safety"))) return true;
    if (stage->kind == STAGE_DISTILL && rival >= 1 && rival <= stage->n_rival_lrs && !*end) return true;
    if (stage->kind == STAGE_DISTILL)
        return fail(st, "%s: %s: stage '%s' makes %d rivals (rival_lrs), from %s.rival1 on", where, ref, stage->name,
                    stage->n_rival_lrs, stage->name);
    return fail(st, "%s: %s: stage '%s' makes %s", where, ref, stage->name,
                rewards ? "two models, .helpful and .safety" : "one model, which has its name");
}

/* A name must be an earlier stage (or a part of one), unless it is a path. */
static bool check_reference(const Recipe *r, int i, const Node *node, const char *key, const char *ref, bool reward,
                            Status *st)
{
    if (!ref[0] || strchr(ref, '/')) return true;
    size_t n = strcspn(ref, ".");
    const char *name = r->stages[i].name, *where = place(node, key);
    Nearest near = nearest_start(ref);
    char hint[80];
    for (int j = 0; j < r->n_stages; j++) {
        if (j < i) nearest_try(&near, r->stages[j].name);
        if (strncmp(r->stages[j].name, ref, n) || r->stages[j].name[n]) continue;
        if (j >= i) return fail(st, "%s: stage '%s' has %s: %s, which does not come before it", where, name, key, ref);
        bool is_reward = r->stages[j].kind == STAGE_REWARD_MODEL;
        if (is_reward == reward) return check_part(&r->stages[j], ref, where, st);
        return fail(st, "%s: stage '%s' has %s: %s, which trains %s", where, name, key, ref,
                    is_reward ? "reward models" : "no reward models");
    }
    if (!access(ref, F_OK)) return true;
    return fail(
        st,
        "%s: stage '%s' has %s: %s, but no earlier stage has this name%s; name one of this recipe, or another run's as "
        "RUN/%s",
        where, name, key, ref, nearest_hint(&near, hint, sizeof hint), ref);
}

static bool check_sources(const Recipe *r, int i, const Node *node, Status *st)
{
    const RecipeStage *s = &r->stages[i];
    if (!check_reference(r, i, node, "from", s->from, false, st) ||
        !check_reference(r, i, node, "sample_from", s->sample_from, false, st) ||
        !check_reference(r, i, node, "reward_models", s->reward_models, true, st) ||
        !check_reference(r, i, node, "critic_from", s->critic_from,
                         strstr(s->critic_from, ".helpful") || strstr(s->critic_from, ".safety"), st))
        return false;
    const RecipeModel *block = s->model == BLOCK_STUDENT ? &r->student : &r->model;
    if (s->model == BLOCK_STUDENT && !s->from[0] && !block->used)
        return fail(st, "%s: stage '%s' trains the student, but the recipe has no `student:` block", node->where,
                    s->name);
    if (r->lora.used && !s->from[0] && !block->from[0])
        return fail(
            st,
            "%s: stage '%s' would train adapters (`lora:`) of a model whose own weights are random and stay so; "
            "give model.from or the stage's from",
            node->where, s->name);
    bool fresh = s->kind == STAGE_PRETRAIN || s->kind == STAGE_SFT || s->kind == STAGE_DISTILL;
    if (!s->from[0] && !block->from[0] && !fresh)
        return fail(st, "%s: stage '%s' has no weights to start from; set from: to an earlier stage or RUN/stage",
                    node->where, s->name);
    if (!s->sample_from[0] && (s->kind == STAGE_REJECTION || s->kind == STAGE_DISTILL))
        return fail(st, "%s: stage '%s' needs sample_from: the policy whose samples it learns from", node->where,
                    s->name);
    if (s->kind == STAGE_SFT && s->seed_share > 0 && !s->sample_from[0])
        return fail(st, "%s: stage '%s' has a seed_share, so it needs sample_from", place(node, "seed_share"), s->name);
    return true;
}

static bool check_data(const Recipe *r, const RecipeStage *s, const Node *node, Status *st)
{
    if (!check_tasks(&s->tasks, node, "tasks", false, st)) return false;
    bool general = s->general_share > 0 || s->kind == STAGE_REWARD_MODEL ||
                   (s->kind == STAGE_REJECTION && s->general_ratio > 0) || (s->kind == STAGE_DPO && !s->preferences.n);
    if (!check_tasks(&s->preferences, node, "preferences", false, st)) return false;
    for (int i = 0; i < s->preferences.n; i++)
        if (!s->preferences.list[i].file[0])
            return fail(st, "%s: `preferences` are files of pairs ({file: pairs.jsonl}); '%s' is a task",
                        place(node, "preferences"), s->preferences.list[i].name);
    if (general && !r->general.n)
        return fail(st, "%s: stage '%s' draws general prompts, but the recipe's `general:` list is empty", node->where,
                    s->name);
    if (s->kind != STAGE_REWARD_MODEL && s->general_share < 1 && !recipe_tasks(r, s)->n)
        return fail(st, "%s: stage '%s' has no tasks: neither its own nor the recipe's `tasks:`", node->where, s->name);
    double styles = 0;
    for (int i = 0; i < STYLE_COUNT; i++) styles += s->styles[i];
    if (s->kind == STAGE_PRETRAIN && styles <= 0)
        return fail(st, "%s: the weights of stage '%s's styles sum to 0", place(node, "styles"), s->name);
    return true;
}

static bool check_rewards(RecipeStage *s, const Recipe *r, const Node *node, Status *st)
{
    if (!s->rl.rewards.n) s->rl.rewards = r->rewards;
    if (!s->rl.rewards.n)
        return fail(
            st,
            "%s: stage '%s' has no rewards: neither its own nor the recipe's; try rewards: {accuracy: 1, format: 0.1}",
            node->where, s->name);
    for (int i = 0; i < s->rl.rewards.n; i++) {
        const RewardSpec *w = &s->rl.rewards.list[i];
        bool model = w->kind == REWARD_HELPFUL_RM || w->kind == REWARD_SAFETY_RM;
        if (model && w->weight != 0 && !s->reward_models[0])
            return fail(st, "%s: stage '%s' has the reward %s, so it needs reward_models: the stage that trained it",
                        place(node, "rewards"), s->name, w->name);
        for (int j = 0; j < i; j++)
            if (!strcmp(s->rl.rewards.list[j].name, w->name))
                return fail(st, "%s: two rewards of stage '%s' are called '%s'; give one another name",
                            place(node, "rewards"), s->name, w->name);
    }
    return true;
}

/* Keys of PPO alone, and what it lets others not have. */
static bool check_ppo(const RecipeRl *rl, const RecipeStage *s, const Node *node, Status *st)
{
    bool ppo = rl->loss == GRPO_PPO;
    if (!ppo && s->critic_from[0])
        return fail(st, "%s: stage '%s' has critic_from, but only loss: ppo has a critic", place(node, "critic_from"),
                    s->name);
    if (!ppo && rl->kl_in_reward)
        return fail(
            st,
            "%s: stage '%s' has kl_in_reward, but a reward of every token is ppo's; the others take the KL as a "
            "term of the loss",
            place(node, "kl_in_reward"), s->name);
    if (!ppo && rl->group < 2)
        return fail(
            st,
            "%s: stage '%s' samples one completion a prompt, but the advantages of %s compare those of a group: "
            "take 2 or more, or loss: ppo",
            place(node, "group"), s->name, grpo_kind_name(rl->loss));
    if (rl->kl_in_reward && !(rl->beta > 0))
        return fail(st, "%s: stage '%s' has kl_in_reward, so it needs beta > 0: the penalty's weight",
                    place(node, "kl_in_reward"), s->name);
    if (rl->kl_in_reward && rl->kl == KL_EXACT)
        return fail(
            st, "%s: stage '%s' has kl_in_reward, whose estimate is of the sampled token: k1 (InstructGPT's), k2 or k3",
            place(node, "kl"), s->name);
    return true;
}

static bool check_rl(const Recipe *r, RecipeStage *s, const Node *node, Status *st)
{
    const RecipeRl *rl = &s->rl;
    if (!check_rewards(s, r, node, st)) return false;
    int64_t completions = (int64_t)rl->prompts * rl->group;
    if (completions > RECIPE_COMPLETIONS)
        return fail(st, "%s: stage '%s' samples %d x %d completions a step; at most %d are possible",
                    place(node, "prompts"), s->name, rl->prompts, rl->group, RECIPE_COMPLETIONS);
    if (!check_ppo(rl, s, node, st)) return false;
    if (rl->beta > 0 && rl->kl == KL_K1 && !rl->kl_in_reward)
        return fail(
            st,
            "%s: stage '%s' has kl: k1, whose expected gradient is 0 as a term of the loss, so that nothing holds the "
            "policy to the reference; take k3 (DeepSeek-R1's), k2 or exact",
            place(node, "kl"), s->name);
    if (rl->correction != CORRECTION_NONE && rl->cache == CACHE_EXACT && !rl->rollout_bf16)
        return fail(
            st,
            "%s: stage '%s' has a correction, but its sampler is its trainer (cache: exact, no rollout_bf16): there "
            "is nothing to correct",
            place(node, "correction"), s->name);
    if (rl->replay_routing && rl->cache == CACHE_EXACT && !rl->rollout_bf16)
        return fail(
            st,
            "%s: stage '%s' has replay_routing, but its sampler is its trainer (cache: exact, no rollout_bf16): they "
            "choose the same experts",
            place(node, "replay_routing"), s->name);
    if (rl->mini_batches > completions)
        return fail(st, "%s: stage '%s' has more mini_batches than its %d x %d completions",
                    place(node, "mini_batches"), s->name, rl->prompts, rl->group);
    const RecipeModel *m = s->model == BLOCK_STUDENT ? &r->student : &r->model;
    bool known = !m->from[0] && (m->used || m == &r->model);
    if (known && rl->cache == CACHE_LATENT && m->config.attention != ATTENTION_MLA)
        return fail(st, "%s: stage '%s' asks for the latent cache, which only MLA models (deepseek_*) have",
                    place(node, "cache"), s->name);
    if (known && rl->replay_routing && !m->config.E)
        return fail(st, "%s: stage '%s' replays choices of experts, but its model has none",
                    place(node, "replay_routing"), s->name);
    if (known && rl->draft > 0 && !m->config.mtp)
        return fail(st, "%s: stage '%s' drafts, but its model has no modules for it (num_nextn_predict_layers)",
                    place(node, "draft"), s->name);
    if (known && rl->max_tokens >= m->config.max_positions)
        return fail(st, "%s: stage '%s' samples up to %d tokens, but the model's max_position_embeddings is %d",
                    place(node, "max_tokens"), s->name, rl->max_tokens, m->config.max_positions);
    return true;
}

static bool check_drop(const Recipe *r, const RecipeStage *s, const RecipeModel *block, const Node *node, Status *st)
{
    if (s->kind == STAGE_RL)
        return fail(
            st,
            "%s: stage '%s' drops tokens, which rl cannot: what a token gets would depend on its batch, and the "
            "trainer's log-probs would not be the sampler's",
            place(node, "drop"), s->name);
    if (r->balance.devices < 2)
        return fail(
            st, "%s: stage '%s' drops tokens, so it needs balance.devices of 2 or more: one device has the mean load",
            place(node, "drop"), s->name);
    if (!block->from[0] && (!block->config.E || block->config.E % r->balance.devices))
        return fail(st,
                    "%s: stage '%s' drops tokens, but its model has no experts that %d devices (balance.devices) share",
                    place(node, "drop"), s->name, r->balance.devices);
    return true;
}

static bool check_stage(Recipe *r, int i, const Node *node, Status *st)
{
    RecipeStage *s = &r->stages[i];
    if (s->kind == STAGE_DISTILL) s->model = BLOCK_STUDENT;
    if (!check_name(r, i, node, st) || !check_sources(r, i, node, st) || !check_data(r, s, node, st)) return false;
    const RecipeModel *block = s->model == BLOCK_STUDENT ? &r->student : &r->model;
    if (s->drop_capacity > 0 && !check_drop(r, s, block, node, st)) return false;
    if (s->extend > 1 && !s->from[0] && !block->from[0])
        return fail(st, "%s: stage '%s' extends positions, so it needs from: the model whose positions those are",
                    place(node, "extend"), s->name);
    if (s->kind == STAGE_DISTILL && s->objective == OBJECTIVE_ON_POLICY && s->samples > batch_largest(&s->batch))
        return fail(st, "%s: stage '%s' samples %d completions a prompt, but an update has %d: raise batch",
                    place(node, "samples"), s->name, s->samples, batch_largest(&s->batch));
    bool steps = s->steps > 0 || s->epochs > 0;
    if (!steps) return fail(st, "%s: stage '%s' has neither steps nor epochs", node->where, s->name);
    if (s->kind == STAGE_SFT && s->stop_at_pass1[0] > 0 && !s->eval_every)
        return fail(st, "%s: stage '%s' stops at a measured pass@1, so it needs eval_every",
                    place(node, "stop_at_pass1"), s->name);
    return !recipe_stage_rolls(s) || check_rl(r, s, node, st);
}

/* DeepSeek-V2's devices: named for a model of this recipe, or one of its losses on. Models `from` elsewhere are checked when
 * their stage is planned. */
static bool check_balance(const Recipe *r, const RecipeModel *m, const Node *tree, Status *st)
{
    const Node *node = node_get(tree, "balance");
    BalanceConfig b = recipe_balance(r, &m->config);
    if (m->from[0] || !m->config.E) return true;
    if (m->config.topk != TOPK_NOAUX && m->config.E % b.devices)
        return fail(st, "%s: balance.devices is %d, but n_routed_experts is %d: it must be a multiple of them",
                    node ? place(node, "devices") : tree->where, b.devices, m->config.E);
    if (m->config.topk != TOPK_NOAUX && b.limit > b.devices)
        return fail(st, "%s: balance.limit is %d, but a token can reach only %d (balance.devices)",
                    node ? place(node, "limit") : tree->where, b.limit, b.devices);
    return balance_validate(&b, &m->config, st) || fail_prefix(st, "%s: balance", node ? node->where : tree->where);
}

/* Worked examples come from rows that a file keeps for training, apart from those that are judged. */
static bool check_shots(const Recipe *r, const Node *node, const Node *tree, Status *st)
{
    for (int i = 0; r->eval.shots > 0 && i < r->tasks.n; i++)
        if (r->tasks.list[i].file[0] && r->tasks.list[i].heldout == 0)
            return fail(
                st,
                "%s: eval.shots takes examples from rows that are not judged, but task %s holds none out (heldout: 0)",
                node ? place(node, "shots") : tree->where, r->tasks.list[i].name);
    return true;
}

static bool check_eval(const Recipe *r, const Node *tree, Status *st)
{
    const Node *node = node_get(tree, "eval");
    const RecipeEval *e = &r->eval;
    Effort effort;
    if (e->effort[0] && !effort_read(e->effort, e->max_tokens, &effort))
        return fail(st, "%s: eval.effort is low, medium, high, TOKENS or +TOKENS, not '%s'",
                    node ? place(node, "effort") : tree->where, e->effort);
    if (!check_shots(r, node, tree, st)) return false;
    if ((int64_t)e->n * e->k <= RECIPE_COMPLETIONS && (int64_t)e->quick_n * e->quick_k <= RECIPE_COMPLETIONS)
        return true;
    return fail(st, "%s: an evaluation of %d x %d (quick: %d x %d) samples; at most %d are possible",
                node ? place(node, "n") : tree->where, e->n, e->k, e->quick_n, e->quick_k, RECIPE_COMPLETIONS);
}

bool recipe_check(Recipe *r, const Node *tree, Status *st)
{
    if (!check_model(&r->model, tree, "model", st)) return false;
    if (r->student.used && !check_model(&r->student, tree, "student", st)) return false;
    if (!check_balance(r, &r->model, tree, st) || (r->student.used && !check_balance(r, &r->student, tree, st)))
        return false;
    if (!check_eval(r, tree, st)) return false;
    if (!check_tasks(&r->tasks, tree, "tasks", false, st) || !check_tasks(&r->general, tree, "general", true, st))
        return false;
    if (!r->n_stages) return fail(st, "%s: the recipe has no stages", tree->where);
    for (int i = 0; i < r->n_stages; i++)
        if (!check_stage(r, i, node_get(tree, "stages")->items[i], st)) return false;
    return true;
}
