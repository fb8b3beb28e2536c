/* Recipes: defaults, extends, --set, the resolved recipe, and a sentence with line and nearest name for every mistake. */
#include "tests/unit/unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/config/embedded.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/config/recipe_diff.h"
#include "recipes/config/recipe_help.h"
#include "recipes/config/recipe_load.h"
#include "recipes/config/recipe_notes.h"
#include "tests/unit/scratch.h"

static const char small[] = "seed: 7\n"
                            "model: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2}\n"
                            "tasks: {add: {levels: [2, 3], weight: 2}, sort5: {task: sort, levels: 5}}\n"
                            "general: {helpful: {}, refusal: 2}\n"
                            "rewards: {accuracy: 1, format: 0.5}\n"
                            "stages:\n"
                            "  base: {steps: 10}\n"
                            "  zero: {steps: 20}\n";

static Recipe *parse(const char *text)
{
    Status st = {0};
    Recipe *r = recipe_parse(text, "test.yaml", NULL, 0, &st);
    if (!r) print_message("%s\n", st.text);
    return r;
}

static Recipe *parse_set(const char *text, const char *set)
{
    Status st = {0};
    Recipe *r = recipe_parse(text, "test.yaml", &set, 1, &st);
    if (!r) print_message("%s\n", st.text);
    assert_non_null(r);
    return r;
}

static void values(void **state)
{
    (void)state;
    Recipe *r = parse(small);
    assert_non_null(r);
    assert_int_equal(r->seed, 7);
    assert_int_equal(r->model.config.C, 32);
    assert_int_equal(r->model.config.Hkv, 2);
    assert_int_equal(r->model.config.attention, ATTENTION_MLA);
    assert_false(r->student.used);
    assert_int_equal(r->tasks.n, 2);
    assert_string_equal(r->tasks.list[0].task, "add");
    assert_string_equal(r->tasks.list[1].name, "sort5");
    assert_int_equal(r->tasks.list[1].levels[1], 5);
    assert_true(r->general.list[1].weight == 2);
    assert_int_equal(r->n_stages, 2);
    const RecipeStage *zero = recipe_stage(r, "zero");
    assert_int_equal(zero->kind, STAGE_RL);
    assert_string_equal(zero->from, "base");
    assert_int_equal(zero->rl.rewards.n, 2);
    assert_int_equal(zero->rl.rewards.list[1].kind, REWARD_FORMAT);
    assert_true(zero->rl.rewards.list[1].weight == 0.5f);
    assert_true(zero->optim.lr == 3e-4 && r->stages[0].optim.lr == 2e-3);
    assert_int_equal(recipe_tasks(r, zero)->n, 2);
    assert_null(recipe_stage(r, "rl_all"));
    free(r);
}

static void resolved_reads_back(void **state)
{
    (void)state;
    for (int i = 0; i < embedded_recipes_count; i++) {
        Status st = {0};
        Recipe *r = recipe_load(embedded_recipes[i].name, NULL, 0, &st);
        if (!r) fail_msg("%s", st.text);
        char *text = recipe_write(r);
        Recipe *again = parse(text);
        assert_non_null(again);
        char *second = recipe_write(again);
        assert_string_equal(text, second);
        assert_memory_equal(r, again, sizeof *r);
        free(text);
        free(second);
        free(r);
        free(again);
    }
}

static void odd_texts_read_back(void **state)
{
    (void)state;
    char text[2000];
    snprintf(text, sizeof text, "%stitle: \"true\"\n", small);
    Recipe *r = parse(text);
    static const char *const titles[] = {"null", "3",         "",    "a \"b\" \\ c: [d] # e\n\tf \x01",
                                         "- x",  "数字 加法", "a: b"};
    for (size_t i = 0; i < sizeof titles / sizeof *titles; i++) {
        strcpy(r->title, titles[i]);
        char *written = recipe_write(r);
        Recipe *again = parse(written);
        assert_non_null(again);
        assert_string_equal(again->title, titles[i]);
        free(written);
        free(again);
    }
    free(r);
}

static void extends(void **state)
{
    (void)state;
    scratch_put("base.yaml", small, strlen(small));
    static const char child[] = "extends: base.yaml\n"
                                "stages: {zero: {steps: 5, rewards: {language: 0.25, format: 0}}}\n"
                                "tasks.add.weight: 9\n"
                                "tasks.mul: {levels: 1}\n";
    scratch_put("child.yaml", child, strlen(child));
    Status st = {0};
    Recipe *r = recipe_load(scratch_path("child.yaml"), NULL, 0, &st);
    if (!r) fail_msg("%s", st.text);
    assert_int_equal(r->n_stages, 2);
    assert_int_equal(r->stages[1].steps, 5);
    assert_int_equal(r->tasks.n, 3);
    assert_true(r->tasks.list[0].weight == 9 && r->tasks.list[0].levels[1] == 3);
    assert_int_equal(r->stages[1].rl.rewards.n, 2);
    free(r);

    static const char chosen[] = "extends: base.yaml\nstages: [{name: zero, from: other/base, group: 4}]\n";
    scratch_put("chosen.yaml", chosen, strlen(chosen));
    r = recipe_load(scratch_path("chosen.yaml"), NULL, 0, &st);
    if (!r) fail_msg("%s", st.text);
    assert_int_equal(r->n_stages, 1);
    assert_int_equal(r->stages[0].steps, 20);
    assert_int_equal(r->stages[0].rl.group, 4);
    assert_string_equal(r->stages[0].from, "other/base");
    free(r);

    static const char circle[] = "extends: circle.yaml\n";
    scratch_put("circle.yaml", circle, strlen(circle));
    assert_null(recipe_load(scratch_path("circle.yaml"), NULL, 0, &st));
    assert_true(says(&st, "circle"));
}

static void sets(void **state)
{
    (void)state;
    Recipe *r = parse_set(small, "zero.steps=50");
    assert_int_equal(r->stages[1].steps, 50);
    free(r);
    r = parse_set(small, "stages.1.group=2");
    assert_int_equal(r->stages[1].rl.group, 2);
    free(r);
    r = parse_set(small, "stages.zero.rewards=[accuracy, {kind: external, command: ./r.py, weight: 2}]");
    assert_int_equal(r->stages[1].rl.rewards.n, 2);
    assert_string_equal(r->stages[1].rl.rewards.list[1].name, "external");
    assert_string_equal(r->stages[1].rl.rewards.list[1].command, "./r.py");
    free(r);
    r = parse_set(small, "rewards.format.weight=0");
    assert_true(r->stages[1].rl.rewards.list[1].weight == 0);
    free(r);
    r = parse_set(small, "rewards.format=0.125");
    assert_true(r->stages[1].rl.rewards.list[1].weight == 0.125f);
    free(r);
    r = parse_set(small, "tasks.0.levels=4");
    assert_int_equal(r->tasks.list[0].levels[0], 4);
    free(r);
    r = parse_set(small, "stages=[base]");
    assert_int_equal(r->n_stages, 1);
    assert_int_equal(r->stages[0].steps, 10);
    free(r);
    r = parse_set(small, "seed=4294967295");
    assert_int_equal(r->seed, 4294967295u);
    free(r);
    r = parse_set(small, "zero.loss=grpo");
    assert_true(r->stages[1].rl.std_normalise);
    free(r);
    r = parse_set(small, "base.batch={from: 4, to: 64, over: 100}");
    assert_true(r->stages[0].batch.from == 4 && r->stages[0].batch.to == 64 && r->stages[0].batch.over == 100);
    char *written = recipe_write(r);
    assert_non_null(strstr(written, "    batch: {from: 4, to: 64, over: 100}\n"));
    free(written);
    free(r);
    r = parse_set(small, "base.batch=16");
    assert_true(r->stages[0].batch.from == 16 && r->stages[0].batch.to == 16 && r->stages[0].batch.over == 0);
    written = recipe_write(r);
    assert_non_null(strstr(written, "    batch: 16\n"));
    free(written);
    free(r);
    r = parse_set(small, "base.styles.clean=1");
    assert_true(r->stages[0].styles[STYLE_CLEAN] == 1 && r->stages[0].styles[STYLE_DIRECT] == 0.4);
    free(r);
}

/* What stands in a recipe about named things, and the rewards or tasks that it resolves to. The recipe it extends has
 * rewards accuracy 1, format 0.5 for stages that name none, and tasks add and sort5; its stage `paid` has its own of both. */
typedef struct Written {
    const char *text, *set, *stage, *rewards, *tasks;
} Written;

static const Written written[] = {
    {"", NULL, "zero", "accuracy 1, format 0.5", "add sort5"},
    {"", NULL, "paid", "accuracy 1, format 1, language 1", "mul1"},
    /* written out: nothing else is left, whichever way */
    {"stages: {paid: {rewards: {accuracy: 1, format: 0.5}}}", NULL, "paid", "accuracy 1, format 0.5", "mul1"},
    {"stages: {paid: {rewards: [accuracy, {kind: format, weight: 0.5}]}}", NULL, "paid", "accuracy 1, format 0.5",
     "mul1"},
    {"stages: [{name: paid, from: x/y, rewards: {accuracy: 1}}]", NULL, "paid", "accuracy 1", "mul1"},
    {"stages: {paid: {tasks: {add: {levels: 2}}}}", NULL, "paid", "accuracy 1, format 1, language 1", "add"},
    {"rewards: {accuracy: 2}", NULL, "zero", "accuracy 2", "add sort5"},
    {"rewards: {accuracy: 2}", NULL, "paid", "accuracy 1, format 1, language 1", "mul1"},
    {"tasks: {mul: {levels: 1}}", NULL, "zero", "accuracy 1, format 0.5", "mul"},
    {"", "paid.rewards={accuracy: 1}", "paid", "accuracy 1", "mul1"},
    {"", "stages.paid.rewards={accuracy: 1, format: 0.5}", "paid", "accuracy 1, format 0.5", "mul1"},
    {"", "rewards={length: 1}", "zero", "length 1", "add sort5"},
    {"", "tasks={mul: {levels: 1}}", "zero", "accuracy 1, format 0.5", "mul"},
    /* by path: one element, the rest stays */
    {"stages: {paid: {rewards.language: 0}}", NULL, "paid", "accuracy 1, format 1, language 0", "mul1"},
    {"stages.paid.rewards.language: 0", NULL, "paid", "accuracy 1, format 1, language 0", "mul1"},
    {"stages.paid.rewards.language.weight: 0.25", NULL, "paid", "accuracy 1, format 1, language 0.25", "mul1"},
    {"stages: {paid: {rewards.length: 2}}", NULL, "paid", "accuracy 1, format 1, language 1, length 2", "mul1"},
    {"stages: {paid: {rewards: {accuracy: 3}, rewards.length: 2}}", NULL, "paid", "accuracy 3, length 2", "mul1"},
    {"stages: {paid: {rewards.length: 2, rewards: {accuracy: 3}}}", NULL, "paid", "accuracy 3, length 2", "mul1"},
    {"tasks.mul: {levels: 1}", NULL, "zero", "accuracy 1, format 0.5", "add sort5 mul"},
    {"", "paid.rewards.language=0", "paid", "accuracy 1, format 1, language 0", "mul1"},
    {"", "stages.paid.rewards.1.weight=4", "paid", "accuracy 1, format 4, language 1", "mul1"},
    {"", "stages.paid.tasks.add.levels=2", "paid", "accuracy 1, format 1, language 1", "mul1 add"},
    /* by path where the stage has no list of its own: the recipe's, changed for this stage alone */
    {"stages: {zero: {rewards.format: 0}}", NULL, "zero", "accuracy 1, format 0", "add sort5"},
    {"", "zero.rewards.format=0", "zero", "accuracy 1, format 0", "add sort5"},
    {"", "zero.rewards.language=1", "zero", "accuracy 1, format 0.5, language 1", "add sort5"},
    {"", "zero.tasks.mul.levels=1", "zero", "accuracy 1, format 0.5", "add sort5 mul"},
    {"rewards: {accuracy: 2}", "zero.rewards.length=1", "zero", "accuracy 2, length 1", "add sort5"},
    {"", "zero.rewards.format=0", "third", "accuracy 1, format 0.5", "add sort5"},
};

static void named_lists(void **state)
{
    (void)state;
    char base[2000];
    snprintf(
        base, sizeof base,
        "%s  paid: {kind: rl, from: base, rewards: {accuracy: 1, format: 1, language: 1}, tasks: {mul1: {task: mul}}}\n"
        "  third: {kind: rl, from: base}\n",
        small);
    scratch_put("named.yaml", base, strlen(base));
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        const Written *w = &written[i];
        char text[500], rewards[200], tasks[200] = "";
        Status st = {0};
        snprintf(text, sizeof text, "extends: named.yaml\n%s\n", w->text);
        scratch_put("over.yaml", text, strlen(text));
        Recipe *r = recipe_load(scratch_path("over.yaml"), &w->set, w->set ? 1 : 0, &st);
        if (!r) fail_msg("%s %s: %s", w->text, w->set ? w->set : "", st.text);
        const RecipeStage *s = recipe_stage(r, w->stage);
        const RecipeTasks *t = recipe_tasks(r, s);
        recipe_rewards_text(s, rewards, sizeof rewards);
        for (int k = 0; k < t->n; k++)
            snprintf(tasks + strlen(tasks), sizeof tasks - strlen(tasks), "%s%s", k ? " " : "", t->list[k].name);
        if (strcmp(rewards, w->rewards) || strcmp(tasks, w->tasks))
            fail_msg("%s %s: %s has rewards %s and tasks %s", w->text, w->set ? w->set : "", w->stage, rewards, tasks);
        char *resolved = recipe_write(r);
        Recipe *again = parse(resolved);
        assert_non_null(again);
        assert_memory_equal(r, again, sizeof *r);
        free(resolved);
        free(again);
        free(r);
    }
}

typedef struct Mistake {
    const char *text, *words, *more;
} Mistake;

static void refused(const char *text, const char *set, const char *words, const char *more)
{
    Status st = {0};
    Recipe *r = recipe_parse(text, "test.yaml", &set, set ? 1 : 0, &st);
    if (r) fail_msg("accepted: %s %s", text, set ? set : "");
    if (!says(&st, words) || !says(&st, more)) fail_msg("for %s", set ? set : text);
}

/* Each is appended to the small recipe (9 lines with it). */
static void mistakes(void **state)
{
    (void)state;
    static const Mistake list[] = {
        {"sede: 3", "test.yaml:9: unknown key 'sede' in the recipe", "did you mean 'seed'?"},
        {"seed: 3", "test.yaml:9: key 'seed' appears twice", ""},
        {"zh_share: often", "test.yaml:9: zh_share must be a number from 0 to 1, not 'often'", ""},
        {"zh_share: 1.5", "from 0 to 1", "not '1.5'"},
        {"zh_share: \"0.5\"", "must be a number", ""},
        {"zh_share: nan", "must be a number", ""},
        {"zh_share:", "must be a number", ""},
        {"eval: {n: 2.5}", "eval.n must be an integer", "2.5"},
        {"eval: 3", "eval must be a mapping of keys", ""},
        {"eval: {n: 99999999999999999999}", "eval.n must be an integer", ""},
        {"tokenizer: {kind: charr}", "tokenizer.kind must be one of char, bpe, file", "did you mean 'char'?"},
        {"tokenizer: {kind: file}", "tokenizer needs the key 'path'", ""},
        {"tokenizer: {kind: char, vocab: 500}", "'vocab' is no key of tokenizer (kind char)", "remove it"},
        {"balance: {device: [1]}", "balance.device must be a number", "a list"},
        {"student: {from: x/base, hidden_size: 3}", "'hidden_size' may not be given beside it", "test.yaml:9"},
        {"student: {hidden_size: 64, n_routed_experts: 4, num_experts_per_tok: 5}", "test.yaml:9: student",
         "num_experts_per_tok"},
        {"a: [1, 2", "test.yaml:10: not valid YAML", ""},
        {"---\nseed: 2", "second document", ""},
        {"? [a]\n: 3", "a key must be one word", ""},
        {"title: [a]", "title must be text", "a list"},
        {"eval: &a {n: *a}", "too deep", "alias"},
        {"evl.n: 3", "test.yaml:9: unknown key 'evl.n' in the recipe", ""},
        {"eval.nn: 3", "test.yaml:9: unknown key 'nn' in eval", ""},
        {"stages.zero.rewards.langauge: 1", "stages.zero.rewards.langauge.kind must be one of accuracy",
         "did you mean 'language'?"},
        {"tasks.addd: {levels: 1}", "there is no task 'addd'", "did you mean 'add'?"},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char text[2000];
        snprintf(text, sizeof text, "%s%s\n", small, list[i].text);
        refused(text, NULL, list[i].words, list[i].more);
    }
}

static void mistakes_in_stages(void **state)
{
    (void)state;
    static const Mistake list[] = {
        {"zero.stpes=3", "unknown key 'stpes' in stages.zero (kind rl)", "did you mean 'steps'?"},
        {"zero.steps=0", "--set zero.steps=0: stages.zero.steps must be an integer 1 or more", ""},
        {"zero.group=1", "compare those of a group", "or loss: ppo"},
        {"zero.critic_from=base", "only loss: ppo has a critic", ""},
        {"zero.kl_in_reward=true", "a reward of every token is ppo's", ""},
        {"base.group=4", "'group' is no key of stages.base (kind pretrain)", ""},
        {"zeroo.steps=4", "'zeroo' is no key of the recipe and none of its stages", "did you mean 'zero'?"},
        {"stages.zeroo.steps=4", "no stage 'zeroo'", "did you mean 'zero'?"},
        {"zero.betas=[0.9]", "a list of 2 numbers", ""},
        {"zero.betas=0.9", "a list of 2 numbers", ""},
        {"zero", "write it as KEY=VALUE", ""},
        {"=3", "write it as KEY=VALUE", ""},
        {"zero.from=cold", "no earlier stage has this name", "RUN/cold"},
        {"zero.from=zero", "which does not come before it", ""},
        {"base.from=zero", "which does not come before it", ""},
        {"base.from=zero.rival1", "which does not come before it", ""},
        {"zero.from=bas.h5", "no earlier stage has this name", "RUN/bas.h5"},
        {"zero.from=", "has no weights to start from", ""},
        {"zero.rewards=[helpful_rm]", "needs reward_models", ""},
        {"zero.rewards=[good]", "stages.zero.rewards.good.kind must be one of accuracy", ""},
        {"zero.rewards=[{kind: external}]", "needs the key 'command'", ""},
        {"zero.rewards=[accuracy, accuracy]", "two rewards", "'accuracy'"},
        {"rewards=[]", "has no rewards", ""},
        {"zero.general_share=2", "from 0 to 1", ""},
        {"general=[]", "", ""},
        {"tasks.add.task=addd", "there is no task 'addd'", "did you mean 'add'?"},
        {"tasks.add.levels=[3, 2]", "[first, last]", ""},
        {"tasks.add.levels=99", "has levels 1 to", "not [99, 99]"},
        {"tasks.sort5.file=x.jsonl", "names a task and a file", ""},
        {"tasks.helpful.levels=1", "put it under `general`", ""},
        {"tasks=[]", "has no tasks", ""},
        {"zero.mini_batches=4096", "more mini_batches", ""},
        {"zero.max_tokens=5000", "max_position_embeddings", ""},
        {"stages=[]", "the recipe has no stages", ""},
        {"stages=[base, base]", "two stages are called 'base'", ""},
        {"stages=[{kind: rl}]", "no weights to start from", ""},
        {"stages=[mine]", "stages.mine needs the key 'kind'", ""},
        {"stages=[{name: a/b, kind: pretrain}]", "letters, digits", ""},
        {"stages=3", "stages must be a list", ""},
        {"stages=[[1]]", "must be a mapping of keys", ""},
        {"stages={base: 3}", "'base' must be a mapping of the stage's keys", ""},
        {"model.architecture=llama", "'kv_lora", ""},
        {"model.num_experts_per_tok=9", "test.yaml:2: model: ", "num_experts_per_tok"},
        {"base.model=student", "no `student:` block", ""},
        {"balance.devices=3", "balance.devices is 3, but n_routed_experts is 8", "a multiple"},
        {"balance.devices=16", "--set balance.devices=16: balance.devices is 16", "n_routed_experts is 8"},
        {"balance={devices: 2, limit: 3}", "balance.limit is 3", "only 2 (balance.devices)"},
        {"balance.devices=0", "from 1 to 4096", ""},
        {"zero={prompts: 1048576, group: 17}", "1048576 x 17 completions a step", "at most 16777216"},
        {"zero={prompts: 1048576, group: 4096, mini_batches: 2}", "1048576 x 4096 completions a step", ""},
        {"base.batch=1000000000", "an integer from 1 to 1048576", ""},
        {"base.batch={from: 4, to: 16}", "or {from, to, over}", "not a mapping"},
        {"base.batch={from: 4, to: 16, over: 0}", "or {from, to, over}", ""},
        {"base.batch={from: 4, to: 16, until: 3}", "or {from, to, over}", ""},
        {"eval.n=1000000000", "an evaluation of 1000000000 x 16", "at most 16777216"},
        {"zero.from=base.rival1", "stage 'base' makes one model, which has its name", ""},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        if (!strcmp(list[i].text, "general=[]")) {
            const char *set = "zero.general_share=0.5";
            char text[2000];
            snprintf(text, sizeof text, "%s", small);
            memcpy(strstr(text, "general: {helpful: {}, refusal: 2}"), "general: []                       ", 34);
            refused(text, set, "`general:` list is empty", "");
            continue;
        }
        if (!strcmp(list[i].text, "model.architecture=llama")) {
            refused(small, "model={architecture: llama, kv_lora_rank: 3}",
                    "'kv_lora_rank' is no key of model (architecture llama)", "");
            continue;
        }
        refused(small, list[i].text, list[i].words, list[i].more);
    }
}

/* What a reward is for unless it is said: the schema and data/reward say the same. */
static void kinds_of_rewards(void **state)
{
    (void)state;
    for (int k = 0; k < REWARD_KINDS; k++) {
        char text[400];
        snprintf(text, sizeof text, "extends: micro\nstages.rl_all.rewards: [{kind: %s%s}]\n",
                 reward_kind_name((RewardKind)k), k == REWARD_EXTERNAL ? ", command: x" : "");
        Recipe *r = parse(text);
        assert_non_null(r);
        assert_int_equal(recipe_stage(r, "rl_all")->rl.rewards.list[0].kinds, reward_default_kinds((RewardKind)k));
        free(r);
    }
}

/* A part of a stage that makes several models. */
static void parts_of_stages(void **state)
{
    (void)state;
    static const char more[] = "  cold: {kind: sft, from: base}\n"
                               "  rewarding: {kind: reward_model, from: base}\n"
                               "  teach: {kind: distill, from: base, sample_from: base, rival_lrs: [1e-3, 1e-4]}\n"
                               "  after: {kind: rl, from: teach.rival2}\n"
                               "student: {hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2}\n";
    char text[2000];
    snprintf(text, sizeof text, "%s%s", small, more);
    Recipe *r = parse(text);
    assert_non_null(r);
    assert_ptr_equal(recipe_stage_of(r, "teach.rival2"), recipe_stage(r, "teach"));
    assert_ptr_equal(recipe_stage_of(r, "teach"), recipe_stage(r, "teach"));
    assert_null(recipe_stage_of(r, "tea"));
    assert_null(recipe_stage_of(r, "other/teach.rival2"));
    free(r);
    refused(text, "after.from=teach.rival3", "stage 'teach' makes 2 rivals", "teach.rival1");
    refused(text, "after.from=teach.rival0", "makes 2 rivals", "");
    refused(text, "after.from=teach.rival1x", "makes 2 rivals", "");
    refused(text, "after.reward_models=rewarding.other", ".helpful and .safety", "");
    refused(text, "after.from=rewarding.helpful", "which trains reward models", "");
    refused(text, "after.from=cold.rival1", "stage 'cold' makes one model", "");
}

/* Balance keys of another family are named when somebody gave them a value, and only then. */
static void notes(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        int notes;
        const char *words;
    } list[] = {
        {"seed=1", 0, ""},
        {"balance.device=0.5", 0, ""},
        {"balance.sequence=0.5", 1, "balance.sequence is 0.5, but no model of this recipe reads it"},
        {"balance.bias_speed=0", 1, "deepseek_v3"},
        {"balance.sequence=1e-4", 0, ""},
        {"model={architecture: deepseek_v3, hidden_size: 32, num_attention_heads: 2}", 0, ""},
        {"model.n_routed_experts=0", 0, ""},
    };
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char *said = NULL;
        size_t size = 0;
        Recipe *r = parse_set(small, list[i].set);
        FILE *f = open_memstream(&said, &size);
        int n = recipe_print_notes(r, f);
        fclose(f);
        if (n != list[i].notes || !strstr(said, list[i].words)) fail_msg("%s: %d notes: %s", list[i].set, n, said);
        free(said);
        free(r);
    }
}

static void without_line(char *text, const char *line)
{
    char *at = strstr(text, line);
    assert_non_null(at);
    memmove(at, at + strlen(line), strlen(at + strlen(line)) + 1);
}

/* A recipe written before a key was there is the same recipe, as long as the key has its default. */
static void keys_that_came_later(void **state)
{
    (void)state;
    char difference[300];
    Recipe *r = parse(small);
    char *now = recipe_write(r), *old = recipe_write(r);
    without_line(old, "zh_share: 0\n");
    without_line(old, "    refill: 0\n");
    assert_true(recipe_same(now, old, difference, sizeof difference));
    assert_true(recipe_same(old, now, difference, sizeof difference));
    /* A key whose default is another than what was done: the row says what was. */
    Recipe *judged = parse("extends: micro\nstages.rl_all.rewards: {safety_rm: 1}\n");
    char *today = recipe_write(judged), *before = recipe_write(judged);
    without_line(before, "        applies_to: [safety]\n");
    assert_false(recipe_same(today, before, difference, sizeof difference));
    assert_string_equal(difference, "stages.rl_all.rewards.safety_rm.applies_to.0 is safety here and helpful there");
    Status st = {0};
    Recipe *resolved = recipe_parse_resolved(before, "before", &st);
    assert_non_null(resolved);
    assert_int_equal(recipe_stage(judged, "rl_all")->rl.rewards.list[0].kinds, 1 << KIND_SAFETY);
    assert_int_equal(recipe_stage(resolved, "rl_all")->rl.rewards.list[0].kinds, 1 << KIND_HELPFUL | 1 << KIND_SAFETY);
    free(judged);
    free(resolved);
    free(today);
    free(before);
    r->zh_share = 0.5;
    char *changed = recipe_write(r);
    assert_false(recipe_same(changed, old, difference, sizeof difference));
    assert_string_equal(difference, "zh_share is 0.5 here and 0 there");
    /* What this program cannot read is compared as it stands. */
    char strange[100] = "left: [1]\nright: 2\n";
    assert_true(recipe_same(strange, strange, difference, sizeof difference));
    assert_false(recipe_same(strange, "left: [1]\nright: 3\n", difference, sizeof difference));
    assert_string_equal(difference, "right is 2 here and 3 there");
    free(now);
    free(old);
    free(changed);
    free(r);
}

static void files(void **state)
{
    (void)state;
    Status st = {0};
    assert_null(recipe_load("tiniy", NULL, 0, &st));
    assert_true(says(&st, "no recipe 'tiniy'"));
    assert_true(says(&st, "did you mean 'tiny'?"));
    status_clear(&st);
    assert_null(recipe_load("/no/such/file.yaml", NULL, 0, &st));
    assert_true(says(&st, "No such file"));
    status_clear(&st);
    assert_null(recipe_load(scratch_folder(), NULL, 0, &st));
    assert_true(says(&st, "Is a directory"));
    status_clear(&st);
    scratch_put("zero.yaml", "a: \0", 4);
    assert_null(recipe_load(scratch_path("zero.yaml"), NULL, 0, &st));
    assert_true(says(&st, "zero bytes"));
    status_clear(&st);
    scratch_put("empty.yaml", "", 0);
    assert_null(recipe_load(scratch_path("empty.yaml"), NULL, 0, &st));
    assert_true(says(&st, "empty.yaml"));
}

static void differences(void **state)
{
    (void)state;
    Recipe *r = parse(small);
    char *a = recipe_write(r), said[300];
    assert_true(recipe_same(a, a, said, sizeof said));
    r->seed = 8;
    char *b = recipe_write(r);
    assert_false(recipe_same(a, b, said, sizeof said));
    assert_string_equal(said, "seed is 7 here and 8 there");
    r->seed = 7;
    r->stages[1].rl.rewards.list[1].weight = 2;
    char *c = recipe_write(r);
    assert_false(recipe_same(a, c, said, sizeof said));
    assert_string_equal(said, "stages.zero.rewards.format.weight is 0.5 here and 2 there");
    r->n_stages = 1;
    char *d = recipe_write(r);
    assert_false(recipe_same(a, d, said, sizeof said));
    assert_string_equal(said, "stages.zero is a list or section here and absent there");
    assert_false(recipe_same(d, a, said, sizeof said));
    assert_string_equal(said, "stages.zero is absent here and a list or section there");
    free(a);
    free(b);
    free(c);
    free(d);
    free(r);
}

/* attention: one key turns MLA's blocks into the same experts under plain heads, whatever MLA's keys say. */
static void head_sharing(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        Arch arch;
        int kv_heads;
    } list[] = {
        {"{num_attention_heads: 4, kv_lora_rank: 16, v_head_dim: 8, attention: mqa}", ARCH_DEEPSEEK, 1},
        {"{num_attention_heads: 8, attention: mha, n_shared_experts: 0}", ARCH_DEEPSEEK, 8},
        {"{architecture: deepseek_v3, q_lora_rank: 8, attention: gqa, num_key_value_heads: 2}", ARCH_GLM4_MOE, 2},
        {"{architecture: glm4_moe, attention: mqa}", ARCH_GLM4_MOE, 1},
        {"{architecture: llama, attention: mha}", ARCH_LLAMA, 2},
        {"{architecture: deepseek_v3, attention: mla}", ARCH_DEEPSEEK_V3, 2}};
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        char set[200];
        snprintf(set, sizeof set, "model=%s", list[i].model);
        Recipe *r = parse_set(small, set);
        const ModelConfig *c = &r->model.config;
        if (c->arch != list[i].arch || c->Hkv != list[i].kv_heads)
            fail_msg("%s: %s with %d key heads", set, arch_name(c->arch), c->Hkv);
        assert_true((c->attention == ATTENTION_MLA) == arch_is_latent(c->arch) && c->n_group == 1);
        assert_true(arch_is_latent(c->arch) || (c->Rkv == 0 && c->Dn == 0 && c->Dv == c->Dr));
        char *text = recipe_write(r);
        Recipe *again = parse(text);
        assert_memory_equal(&again->model, &r->model, sizeof r->model);
        free(again), free(text), free(r);
    }
    refused(small, "model={architecture: llama, attention: mla}", "llama has plain heads", "");
    refused(small, "model={attention: mqa, num_key_value_heads: 2}", "num_key_value_heads is 2", "makes it 1");
}

static void schema(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    recipe_print_schema(f);
    fclose(f);
    static const char *const words[] = {
        "stop_at_pass1", "kv_lora_rank", "[deepseek_v2, deepseek_v3]", "one of k1, k2, k3, exact", "default dr_grpo",
        "[rl, distill]", "must be given"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strstr(text, words[i])) fail_msg("the schema does not say '%s'", words[i]);
    free(text);
}

static void nearest(void **state)
{
    (void)state;
    assert_int_equal(edit_distance("kitten", "sitting"), 3);
    assert_int_equal(edit_distance("ab", "ba"), 1);
    assert_int_equal(edit_distance("", "abc"), 3);
    Nearest n = nearest_start("qqqqqq");
    nearest_try(&n, "steps");
    assert_null(n.best);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values),
        cmocka_unit_test(resolved_reads_back),
        cmocka_unit_test(odd_texts_read_back),
        cmocka_unit_test(extends),
        cmocka_unit_test(sets),
        cmocka_unit_test(named_lists),
        cmocka_unit_test(mistakes),
        cmocka_unit_test(mistakes_in_stages),
        cmocka_unit_test(files),
        cmocka_unit_test(parts_of_stages),
        cmocka_unit_test(notes),
        cmocka_unit_test(kinds_of_rewards),
        cmocka_unit_test(keys_that_came_later),
        cmocka_unit_test(differences),
        cmocka_unit_test(head_sharing),
        cmocka_unit_test(schema),
        cmocka_unit_test(nearest),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
