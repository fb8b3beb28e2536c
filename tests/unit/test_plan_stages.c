/* What a stage's keys mean in a plan: which models are in memory, how many tokens a step has, which cache is the largest. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/params.h"
#include "recipes/config/recipe_load.h"
#include "recipes/plan/plan_stages.h"
#include "recipes/stages/pipeline.h"
#include "tests/unit/unit.h"

static const char recipe[] =
    "model: {hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, n_routed_experts: 4, "
    "max_position_embeddings: 512}\n"
    "student: {architecture: llama, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, "
    "num_key_value_heads: 2, "
    "head_dim: 16, intermediate_size: 64, max_position_embeddings: 512}\n"
    "tasks: {sort: {levels: 4}}\n"
    "general: {helpful: {levels: 1}, refusal: {levels: 1}}\n"
    "rewards: {accuracy: 1}\n"
    "eval: {n: 8, k: 2, quick_n: 8, quick_k: 2, max_tokens: 16, general_n: 2}\n"
    "stages:\n"
    "  base: {steps: 10, batch: 16, eval_after: false}\n"
    "  zero: {steps: 4, prompts: 8, group: 8, max_tokens: 64, eval_after: false}\n"
    "  reject_sft: {from: base, sample_from: zero, sample_prompts: 64, samples: 4, max_tokens: 64, eval_after: false}\n"
    "  reward_models: {pairs: 64, batch: 16}\n"
    "  paid: {kind: rl, from: reject_sft, prompts: 8, group: 8, max_tokens: 64, eval_after: false, reward_models: "
    "reward_models,\n"
    "         rewards: [accuracy, helpful_rm]}\n"
    "  traces: {kind: sft, from: base, batch: 16, eval_after: false}\n"
    "  student_base: {steps: 10, batch: 16, eval_after: false}\n"
    "  distill: {sample_from: zero, sample_prompts: 64, max_tokens: 64, eval_after: false}\n";

/* The plan of a stage of the recipe with some --set texts (NULL after the last). */
static Plan plan_of(const char *stage, const char *set0, const char *set1)
{
    Status st = {0};
    const char *sets[] = {set0, set1};
    Recipe *r = recipe_parse(recipe, "recipe", sets, !set0 ? 0 : !set1 ? 1 : 2, &st);
    if (!r) fail_msg("%s", st.text);
    Run run = {.recipe = r};
    RuntimeOptions options = runtime_defaults();
    options.threads = 1;
    options.memory_gb = 100;
    bool ok =
        machine_open(&run.machine, &options, &st) && pipeline_open_tokenizer(&run, &st) && plan_run(&run, false, &st);
    if (!ok) fail_msg("%s", st.text);
    Plan p = run.plans[recipe_stage_index(r, stage)];
    for (int i = 0; i < run.n_datasets; i++) dataset_free(run.datasets[i]);
    tokenizer_free(run.tokenizer);
    free(run.tokenizer_bytes);
    machine_close(&run.machine);
    free(r);
    return p;
}

static ModelConfig config_of(bool student)
{
    Status st = {0};
    Recipe *r = recipe_parse(recipe, "recipe", NULL, 0, &st);
    Tokenizer *t = tokenizer_new_char();
    ModelConfig c;
    CHECK(r && recipe_model_config(student ? &r->student : &r->model, tokenizer_vocab(t), tokenizer_bos(t),
                                   tokenizer_eos(t), &c, &st));
    tokenizer_free(t);
    free(r);
    return c;
}

static size_t block_of(bool student)
{
    ModelConfig c = config_of(student);
    ParamTable t = params_build(&c);
    size_t bytes = t.total * sizeof(float);
    params_free(&t);
    return bytes;
}

static void assert_about(double value, double want, double share)
{
    if (fabs(value - want) > share * want) fail_msg("%g is not about %g", value, want);
}

/* Weights, gradients, two moments; a reference with beta; copies and reward models beside. */
static void models_in_memory(void **state)
{
    (void)state;
    size_t block = block_of(false);
    Plan p = plan_of("zero", NULL, NULL);
    assert_int_equal(p.weights, block);
    assert_int_equal(p.gradients, block);
    assert_int_equal(p.optimizer, 2 * block);
    assert_int_equal(p.reference, 0);
    assert_int_equal(p.beside, 0);
    Plan beta = plan_of("zero", "zero.beta=0.1", NULL);
    assert_int_equal(beta.reference, block);
    assert_true(beta.total > p.total + block);
    Plan half = plan_of("zero", "zero.rollout_bf16=true", NULL);
    assert_true(half.beside >= block);
    size_t helpful = plan_of("paid", NULL, NULL).beside,
           both = plan_of("paid", "paid.rewards=[accuracy, helpful_rm, safety_rm]", NULL).beside;
    assert_true(helpful >= block);
    assert_int_equal(both, 2 * helpful);
    assert_int_equal(plan_of("distill", NULL, NULL).beside, 0);
    Plan student = plan_of("student_base", NULL, NULL);
    assert_int_equal(student.weights, block_of(true));
    assert_int_equal(student.optimizer, 2 * block_of(true));
}

/* Boundaries are N C (L + 1) floats: N grows with the batch, and is cut by mini-batches. */
static void tokens_of_a_step(void **state)
{
    (void)state;
    ModelConfig c = config_of(false);
    Plan p = plan_of("zero", NULL, NULL), two = plan_of("zero", "zero.mini_batches=2", NULL),
         more = plan_of("zero", "zero.prompts=16", NULL), longer = plan_of("zero", "zero.max_tokens=128", NULL);
    double per_token = (double)c.C * (c.L + 1) * sizeof(float), tokens = (double)p.boundaries / per_token;
    assert_true(tokens > 8 * 8 * 64 && tokens < 8 * 8 * (64 + 32));
    assert_about((double)two.boundaries, 0.5 * (double)p.boundaries, 0.05);
    assert_about((double)more.boundaries, 2 * (double)p.boundaries, 0.05);
    assert_about((double)longer.boundaries / per_token, tokens + 8 * 8 * 64, 0.02);
    Plan base = plan_of("base", NULL, NULL), wide = plan_of("base", "base.batch=32", NULL);
    assert_about((double)wide.boundaries, 2 * (double)base.boundaries, 0.15);
    assert_int_equal(plan_of("base", "base.batch={from: 4, to: 32, over: 5}", NULL).boundaries, wide.boundaries);
    assert_int_equal(plan_of("base", "base.batch={from: 32, to: 4, over: 5}", NULL).boundaries, wide.boundaries);
    assert_true(wide.flops > 1.7 * base.flops && wide.flops < 2.3 * base.flops);
    Plan pairs = plan_of("reward_models", NULL, NULL),
         more_pairs = plan_of("reward_models", "reward_models.batch=32", NULL);
    assert_about((double)more_pairs.boundaries, 2 * (double)pairs.boundaries, 0.15);
    assert_about((double)pairs.boundaries, 2 * (double)plan_of("traces", NULL, NULL).boundaries,
                 0.05); /* a pair is two sequences */
}

/* The largest cache counts: of rollouts, or of an evaluation. */
static void caches(void **state)
{
    (void)state;
    ModelConfig c = config_of(false);
    Plan p = plan_of("zero", NULL, NULL);
    assert_int_equal(p.cache_token, kv_cache_token_bytes(&c, CACHE_EXACT, DTYPE_F32));
    assert_int_equal(p.cache_token, sizeof(float) * (size_t)(c.L * (c.H * (c.Dn + c.Dv) + c.Dr)));
    assert_true(p.cache > 64 * 64 * p.cache_token);
    Plan latent = plan_of("zero", "zero.cache=latent", NULL);
    assert_int_equal(latent.cache_token, sizeof(float) * (size_t)(c.L * (c.Rkv + c.Dr)));
    assert_true(latent.cache < p.cache / 2);
    Plan during = plan_of("base", "base.eval_every=5", NULL), none = plan_of("base", NULL, NULL);
    assert_int_equal(none.cache, 0);
    assert_true(during.cache > 0);
    assert_int_equal(plan_of("zero", "zero.eval_after=true", NULL).cache, p.cache);
    Plan often = plan_of("zero", "zero.eval_after=true", "eval={n: 256, k: 8, max_tokens: 100}");
    assert_true(often.cache > 2 * p.cache);
    /* who samples decides: the teacher in distillation, with a model of its own size */
    Plan distill = plan_of("distill", NULL, NULL);
    assert_int_equal(distill.cache_token, p.cache_token);
}

static void sampling(void **state)
{
    (void)state;
    Plan few = plan_of("reject_sft", NULL, NULL), many = plan_of("reject_sft", "reject_sft.max_tokens=256", NULL);
    assert_true(few.total > 0 && many.total > few.total);
}

/* PPO's critic: another four blocks (weights, gradients, moments; one row instead of the head), its step, and nothing else. */
static void critic(void **state)
{
    (void)state;
    Plan without = plan_of("zero", "zero.loss=dapo", NULL), with = plan_of("zero", "zero.loss=ppo", NULL),
         judged = plan_of("paid", "paid.loss=ppo", "paid.critic_from=reward_models.helpful");
    ModelConfig c = config_of(false);
    c.head = HEAD_SCALAR;
    ParamTable t = params_build(&c);
    assert_true(without.critic == 0 && with.critic > 4 * t.total * sizeof(float) + with.boundaries);
    assert_true(with.total - with.critic - with.process == without.total - without.process);
    assert_true(with.critic < with.total - with.process && judged.critic > 4 * t.total * sizeof(float));
    params_free(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(models_in_memory), cmocka_unit_test(critic),   cmocka_unit_test(tokens_of_a_step),
        cmocka_unit_test(caches),           cmocka_unit_test(sampling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
