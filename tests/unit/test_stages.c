/* What the keys of the stages mean beside RL's (test_rl.c): learning rates, FLOPs, documents and epochs, what a reward
 * model reads, which samples are kept, mixes and held-out shares, seeds, when the reference is replaced, units. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/policy.h"
#include "data/conversation.h"
#include "recipes/config/recipe_load.h"
#include "recipes/model/machine.h"
#include "recipes/model/prompts.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/sources.h"
#include "recipes/run/unit_eval.h"
#include "recipes/stages/documents.h"
#include "recipes/stages/reward_model.h"
#include "recipes/stages/rl_state.h"
#include "recipes/stages/samples.h"
#include "recipes/stages/sft_step.h"
#include "recipes/stages/stage_list.h"
#include "recipes/stages/step.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static const char MODEL[] =
    "model: {architecture: deepseek_v3, hidden_size: 32, num_hidden_layers: 1, num_attention_heads: 2, "
    "kv_lora_rank: 16, qk_nope_head_dim: 8, qk_rope_head_dim: 8, v_head_dim: 8, intermediate_size: 48, "
    "first_k_dense_replace: 0, n_routed_experts: 4, num_experts_per_tok: 2, n_group: 1, topk_group: 1, "
    "moe_intermediate_size: 24, max_position_embeddings: 256}\n";

static Recipe *recipe_of(const char *rest)
{
    char text[4096];
    Status st = {0};
    snprintf(text, sizeof text, "%s%s", MODEL, rest);
    Recipe *r = recipe_parse(text, "test", NULL, 0, &st);
    if (!r) fail_msg("%s", st.text);
    return r;
}

/* Warm-up from 0, the peak at its end, lr_final of it in the last step, the same for a resumed run at that step. */
static void learning_rates(void **state)
{
    (void)state;
    RecipeStage s = {.optim = {.lr_final = 0.2, .schedule = SCHEDULE_COSINE, .warmup = 4, .milestones = {0.5, 0.8}}};
    assert_float_equal(stage_rate(&s, 1, 1, 20), 0.25, 1e-6);
    assert_float_equal(stage_rate(&s, 1, 4, 20), 1, 1e-6);
    assert_float_equal(stage_rate(&s, 1, 12, 20), 0.6, 1e-6);
    assert_float_equal(stage_rate(&s, 1, 20, 20), 0.2, 1e-6);
    assert_float_equal(stage_rate(&s, 1, 2, 4), 1, 1e-6); /* at most half of the steps warm up */
    assert_float_equal(stage_rate(&s, 3, 4, 20), 3, 1e-6);
    s.optim.schedule = SCHEDULE_STEP;
    assert_float_equal(stage_rate(&s, 1, 10, 20), 1, 1e-6);
    assert_float_equal(stage_rate(&s, 1, 11, 20), 0.2, 1e-6);
    assert_float_equal(stage_rate(&s, 1, 17, 20), 0.04, 1e-6);
    s.optim = (RecipeOptim){.lr_final = 0.2, .schedule = SCHEDULE_LINEAR};
    assert_float_equal(stage_rate(&s, 1, 1, 1), 1, 1e-6); /* one step alone has the peak */
    RecipeStage o = {.optim = {.betas = {0.8, 0.9}, .weight_decay = 0.3, .clip = 2}};
    OptimizerConfig c = stage_optimizer(&o);
    assert_float_equal(c.beta1, 0.8, 1e-6);
    assert_float_equal(c.beta2, 0.9, 1e-6);
    assert_float_equal(c.weight_decay, 0.3, 1e-6);
    assert_float_equal(c.max_norm, 2, 1e-6);
}

typedef struct Lab {
    Machine machine;
    Recipe *recipe;
    Tokenizer *tokenizer;
    Run run;
    Policy *policy;
} Lab;

static void lab_open(Lab *l, const char *rest)
{
    Status st = {0};
    RuntimeOptions o = runtime_defaults();
    *l = (Lab){.recipe = recipe_of(rest), .tokenizer = tokenizer_new_char()};
    if (!machine_open(&l->machine, &o, &st)) fail_msg("%s", st.text);
    ModelConfig c;
    if (!recipe_model_config(&l->recipe->model, tokenizer_vocab(l->tokenizer), tokenizer_bos(l->tokenizer),
                             tokenizer_eos(l->tokenizer), &c, &st))
        fail_msg("%s", st.text);
    l->policy = policy_new(machine_engine(&l->machine), &c, 1, NULL);
    policy_train_open(l->policy);
    l->run = (Run){.recipe = l->recipe, .machine = l->machine, .tokenizer = l->tokenizer};
}

static void lab_close(Lab *l)
{
    policy_free(l->policy);
    for (int i = 0; i < l->run.n_datasets; i++) dataset_free(l->run.datasets[i]);
    tokenizer_free(l->tokenizer);
    machine_close(&l->machine);
    free(l->recipe);
}

static const char ONE_STAGE[] = "tasks: {sort: {levels: 3}}\nbalance: {bias_speed: 0.5}\n"
                                "stages: [{name: z, kind: pretrain, steps: 1}, {name: a, kind: rl, from: z, steps: 4, "
                                "rewards: {length: 1}, beta: 0.1, reference_reset: 2}]\n";

/* 2 FLOPs a parameter of a matrix that a token passes through: the embedding is none, of the experts those chosen. */
static void flops(void **state)
{
    (void)state;
    Lab l;
    lab_open(&l, ONE_STAGE);
    const ParamTable *t = &l.policy->engine.table;
    const ModelConfig *c = &l.policy->config;
    double all = 0;
    for (int i = 0; i < t->n; i++) {
        bool expert = strstr(t->params[i].name, ".experts.") != NULL,
             embedding = strstr(t->params[i].name, "embed_tokens") != NULL;
        double share = embedding ? (c->tied ? 1.0 : 0.0) : expert ? (double)c->K / c->E : 1.0;
        all += share * (double)t->params[i].count;
    }
    assert_float_equal(forward_flops(l.policy, 1), 2 * all, 2 * all * 1e-2);
    assert_float_equal(forward_flops(l.policy, 1000), 1000 * forward_flops(l.policy, 1), 1);
    lab_close(&l);
}

/* After an update V3's bias rises for experts that got few tokens and falls for those that got many. */
static void selection_bias(void **state)
{
    (void)state;
    Lab l;
    lab_open(&l, ONE_STAGE);
    int32_t offsets[] = {0, 8, 9, 10, 11}; /* tokens of the four experts: 8, 1, 1, 1 */
    Routing routing = {.offsets = offsets};
    double norm;
    Status st = {0};
    float before[4], *bias = l.policy->w.layers[0].router_bias;
    memcpy(before, bias, sizeof before);
    assert_true(run_update(&l.run, l.policy, &l.recipe->stages[1], &routing, 0, &norm, &st));
    assert_float_equal(bias[0] - before[0], -0.5, 1e-6);
    for (int i = 1; i < 4; i++) assert_float_equal(bias[i] - before[i], 0.5, 1e-6);
    l.recipe->balance.bias_speed = 0;
    memcpy(before, bias, sizeof before);
    assert_true(run_update(&l.run, l.policy, &l.recipe->stages[1], &routing, 0, &norm, &st));
    assert_memory_equal(before, bias, sizeof before);
    lab_close(&l);
}

/* reference_reset: the reference becomes the policy after every so many steps, not before; a resumed unit counts on. */
static void reference(void **state)
{
    (void)state;
    Lab l;
    lab_open(&l, ONE_STAGE);
    Rl r = {0};
    Unit unit = {.stage = &l.recipe->stages[1]};
    UnitRun u = {.run = &l.run, .unit = &unit, .policy = l.policy, .self = &r, .extra = json_new_object()};
    policy_reference_set(l.policy);
    float old = l.policy->weights.plain[0];
    l.policy->weights.plain[0] = old + 1;
    rl_reset_reference(&u);
    assert_float_equal(l.policy->reference.plain[0], old, 0);
    assert_int_equal(json_integer(json_get(u.extra, "since_reset")), 1);
    rl_reset_reference(&u);
    assert_float_equal(l.policy->reference.plain[0], old + 1, 0);
    assert_int_equal(json_integer(json_get(u.extra, "since_reset")), 0);
    l.policy->weights.plain[0] = old + 2;
    rl_reset_reference(&u);
    assert_float_equal(l.policy->reference.plain[0], old + 1, 0);
    json_free(u.extra);
    lab_close(&l);
}

/* max_length counts the prompt and the end token; the loss begins at the completion, or (all of it) at the second token. */
static void documents(void **state)
{
    (void)state;
    Tokenizer *t = tokenizer_new_char();
    Voice v;
    Status st = {0};
    assert_true(voice_open(&v, t, NULL, NULL, NULL, &st));
    Documents d = {0};
    Document doc = document_of("1", "22");
    Ids ids = {0};
    int first;
    completion_encode(&v, "1", "22", &ids, &first);
    assert_true(documents_add(&d, &v, &doc, TURNS_LAST, ids.n, &st));
    assert_true(documents_add(&d, &v, &doc, TURNS_LAST, ids.n - 1, &st));
    assert_true(documents_add(&d, &v, &doc, TURNS_WHOLE, ids.n, &st));
    assert_int_equal(d.n, 2);
    assert_int_equal(d.dropped, 1);
    assert_int_equal(d.list[0].n, ids.n);
    assert_memory_equal(d.list[0].ids, ids.ids, (size_t)ids.n * sizeof *ids.ids);
    assert_int_equal(d.list[0].n_spans, 1);
    assert_int_equal(d.list[0].spans[0].first, first);
    assert_int_equal(sequence_predicted(&d.list[0]), 3); /* 2 2 <eos> */
    assert_int_equal(d.without_reply, 0);
    Document silent = {.messages = conversation_of_prompt("1"), .row = -1};
    assert_true(documents_add(&d, &v, &silent, TURNS_LAST, ids.n, &st));
    assert_true(d.n == 2 && d.dropped == 1 && d.without_reply == 1);
    document_free(&silent);
    assert_int_equal(d.list[1].spans[0].first, 1);
    assert_int_equal(sequence_predicted(&d.list[1]), ids.n - 1);
    documents_free(&d);
    document_free(&doc);
    free(ids.ids);
    tokenizer_free(t);
}

/* Every document once an epoch, every epoch in another order, another seed another order. */
static void epochs(void **state)
{
    (void)state;
    enum { N = 37 };
    Documents d = {.n = N};
    int met[N] = {0}, same_epoch = 0, same_seed = 0;
    for (int i = 0; i < 3 * N; i++) met[documents_pick(&d, 5, i)]++;
    for (int i = 0; i < N; i++) {
        assert_int_equal(met[i], 3);
        same_epoch += documents_pick(&d, 5, i) == documents_pick(&d, 5, N + i);
        same_seed += documents_pick(&d, 5, i) == documents_pick(&d, 6, i);
    }
    assert_in_range(same_epoch, 0, N / 4);
    assert_in_range(same_seed, 0, N / 4);
}

static void reads(const Tokenizer *t, bool answer_only, const char *completion, const char *want)
{
    RewardModel m = {.answer_only = answer_only};
    Ids prompt = {0}, ids = {0}, out = {0};
    tokenizer_encode(t, "Q", 1, &prompt);
    tokenizer_encode(t, completion, strlen(completion), &ids);
    reward_model_input(&m, t, prompt.ids, prompt.n, ids.ids, ids.n, &out);
    char *text = tokenizer_decode(t, out.ids, out.n, true);
    if (text[1] == ' ') memmove(text + 1, text + 2, strlen(text + 1)); /* a blank may share the tag's first token */
    assert_string_equal(text, want);
    free(text);
    free(prompt.ids);
    free(ids.ids);
    free(out.ids);
}

/* The helpful model reads the final answer only, whether or not the tokenizer has a token for the tag; the safety model all. */
static void final_answer(void **state)
{
    (void)state;
    Status st = {0};
    static const char *const folders[] = {NULL, "tests/tokenizers/qwen3", "tests/tokenizers/deepseek_v3"};
    for (int i = 0; i < 3; i++) {
        Tokenizer *t = folders[i] ? tokenizer_load(folders[i], &st) : tokenizer_new_char();
        assert_non_null(t);
        reads(t, true, "<think>long thought</think> <answer>42</answer>", "Q<answer>42</answer>");
        reads(t, true, "<answer>1</answer> or <answer>2</answer>", "Q<answer>2</answer>");
        reads(t, true, "no tag", "Qno tag");
        reads(t, false, "<think>a</think> <answer>b</answer>", "Q<think>a</think> <answer>b</answer>");
        tokenizer_free(t);
    }
}

static bool wanted(const Problem *p, const char *text, bool truncated)
{
    Status st = {0};
    JudgedText judged = {.problem = p, .completion = text, .truncated = truncated};
    assert_true(task_verify_all(&judged, 1, &st));
    return samples_wanted(&judged);
}

/* Which samples of a policy are trained on. */
static void kept_samples(void **state)
{
    (void)state;
    Problem p = {
        .task = task_find("add"), .language = LANGUAGE_EN, .kind = KIND_REASONING, .prompt = "1+1", .answer = "2"};
    assert_true(wanted(&p, "<think>one and one is two</think> <answer>2</answer>", false));
    assert_false(wanted(&p, "<think>one and one is two</think> <answer>2</answer>", true));
    assert_false(wanted(&p, "<think>one and one is two</think> <answer>3</answer>", false));
    assert_false(wanted(&p, "<think></think> <answer>2</answer>", false));
    assert_false(wanted(&p, "one and one is two <answer>2</answer>", false));
    assert_false(wanted(&p, "<think>\xe4\xb8\x80 and one</think> <answer>2</answer>", false)); /* Chinese in it */
    JudgedText partly = {.problem = &p,
                         .completion = "<think>one and one is two</think> <answer>2</answer>",
                         .verdict = {.score = 0.5f}};
    assert_false(samples_wanted(&partly)); /* some of its tests pass */
    partly.verdict.score = 1;
    assert_true(samples_wanted(&partly));
    assert_false(
        wanted(&p, "<think>so it is so it is so it is so it is so it is so it is</think> <answer>2</answer>", false));
}

/* A cold start takes as many of a file of samples as its seed_share asks for; another stage all of them. */
static void samples_read(void **state)
{
    (void)state;
    static const char line[] = "{\"prompt\": \"1+1\", \"completion\": \"<think>a</think> <answer>2</answer>\", "
                               "\"kind\": \"reasoning\"}\n";
    Lab l;
    Status st = {0};
    char lines[1024] = "";
    bool resumed;
    lab_open(&l, ONE_STAGE);
    l.run.folder = run_folder_open(scratch_path("run"), ONE_STAGE, &resumed, &st);
    if (!l.run.folder) fail_msg("%s", st.text);
    assert_true(voice_open(&l.run.voice, l.tokenizer, NULL, NULL, NULL, &st));
    for (int i = 0; i < 5; i++) strcat(lines, line);
    assert_int_equal(mkdir(scratch_path("run/samples"), 0777), 0);
    scratch_put("run/samples/z.jsonl", lines, strlen(lines));
    static const int most[] = {-1, 3, 0}, want[] = {5, 3, 0};
    for (int i = 0; i < 3; i++) {
        Documents d = {0};
        assert_true(samples_load(&l.run, "z", most[i], 64, &d, &st));
        assert_int_equal(d.n, want[i]);
        documents_free(&d);
    }
    run_folder_close(l.run.folder);
    lab_close(&l);
}

/* Positions beyond those of the model, or of a teacher, are no training data: said, not computed. */
static void longest(void **state)
{
    (void)state;
    Lab l;
    Status st = {0};
    BatchBuilder b = {0};
    int32_t ids[300] = {0};
    lab_open(&l, ONE_STAGE);
    ModelConfig c = l.policy->config;
    c.max_positions = 8;
    const Teacher short_one = {.policy = policy_new(machine_engine(&l.machine), &c, 1, NULL)};
    Unit unit = {.name = "z", .stage = &l.recipe->stages[0]};
    UnitRun u = {.run = &l.run, .unit = &unit, .policy = l.policy};
    batch_add(&b, ids, 9, 1);
    assert_false(sft_update(&u, &b, 0, &short_one, NULL, &st));
    assert_true(says(&st, "step 1 of z: sequence 0 has 9 tokens, but the model's max_position_embeddings is 8"));
    status_clear(&st);
    batch_reset(&b);
    batch_add(&b, ids, 256, 1);
    batch_add(&b, ids, 257, 1);
    assert_false(sft_update(&u, &b, 0, NULL, NULL, &st));
    assert_true(says(&st, "sequence 1 has 257 tokens, but the model's max_position_embeddings is 256"));
    batch_free(&b);
    policy_free(short_one.policy);
    lab_close(&l);
}

/* An sft stage writes clean traces, some of them in the language that their prompt is not in. */
static void traces(void **state)
{
    (void)state;
    const RecipeStage s = {.swap_en = 0.25, .swap_zh = 0.5};
    CorpusSpec c = {.styles = {[STYLE_CORRUPT] = 1}, .swap_en = 1};
    sft_traces(&s, &c);
    for (int i = 0; i < STYLE_COUNT; i++) assert_float_equal(c.styles[i], i == STYLE_CLEAN, 0);
    assert_float_equal(c.swap_en, 0.25, 0);
    assert_float_equal(c.swap_zh, 0.5, 0);
}

/* What an evaluation does: problems shared out among families, samples, sampling; the quick one has numbers of its own and no
 * general families. stop_at_pass1 acts from its lower end on, in sft stages. */
static void evaluations(void **state)
{
    (void)state;
    Recipe r = {.seed = 9,
                .eval = {.n = 50,
                         .k = 8,
                         .quick_n = 10,
                         .quick_k = 2,
                         .general_n = 5,
                         .temperature = 0.6,
                         .top_p = 0.9,
                         .max_tokens = 77}};
    const Run run = {.recipe = &r};
    const CorpusSpec three = {.n_sources = 3}, general = {.n_sources = 1};
    EvalSpec e = unit_eval_spec(&run, false, &three, &general);
    assert_true(e.n == 17 && e.file_n == 17 && e.k == 8 && e.general_n == 5 && e.general == &general);
    assert_true(e.temperature == 0.6 && e.top_p == 0.9 && e.max_tokens == 77 && e.seed == 9 && e.shots == 0);
    e = unit_eval_spec(&run, true, &three, &general);
    assert_true(e.n == 4 && e.file_n == 4 && e.k == 2 && e.general == NULL);
    RecipeStage s = {.kind = STAGE_SFT, .stop_at_pass1 = {0.4, 0.6}};
    assert_false(unit_reached(&s, 0.39));
    assert_true(unit_reached(&s, 0.4));
    s.kind = STAGE_PRETRAIN;
    assert_false(unit_reached(&s, 0.9));
    assert_false(unit_reached(&(RecipeStage){.kind = STAGE_SFT}, 0.9)); /* not asked for */
}

/* general_share of the prompts are general; their own weights are kept among themselves; more than 16 sources are refused. */
static void mixes(void **state)
{
    (void)state;
    Lab l;
    CorpusSpec c;
    Status st = {0};
    lab_open(&l, "tasks: {sort: {levels: 3, weight: 3}, add: {levels: 1, weight: 1}}\n"
                 "general: {helpful: {levels: 1, weight: 1}, refusal: {levels: 1, weight: 4}}\n"
                 "stages: [{name: a, kind: pretrain, steps: 1}]\n");
    assert_true(run_mix(&l.run, &l.recipe->stages[0], 0.2, &c, &st));
    assert_int_equal(c.n_sources, 4);
    const double want[] = {0.6, 0.2, 0.04, 0.16};
    for (int i = 0; i < 4; i++) assert_float_equal(corpus_share(&c, i), want[i], 1e-6);
    assert_true(run_mix(&l.run, &l.recipe->stages[0], 0, &c, &st));
    assert_int_equal(c.n_sources, 2);
    for (int i = 2; i < 15; i++) l.recipe->tasks.list[i] = l.recipe->tasks.list[0];
    l.recipe->tasks.n = 15;
    assert_false(run_mix(&l.run, &l.recipe->stages[0], 0.2, &c, &st));
    assert_true(says(&st, "at most 16 together"));
    lab_close(&l);
}

/* One file with two held-out shares is two sources: what one stage holds out is held out of it. */
static void heldout(void **state)
{
    (void)state;
    char rows[4096] = "", text[1024];
    for (int i = 0; i < 40; i++) sprintf(rows + strlen(rows), "{\"prompt\": \"q %d\", \"answer\": %d}\n", i, i);
    scratch_put("rows.jsonl", rows, strlen(rows));
    const char *path = scratch_path("rows.jsonl");
    snprintf(text, sizeof text,
             "tasks: [{file: %s, heldout: 0.3}]\nstages: [{name: a, kind: sft, tasks: [{file: %s, heldout: 0}]}]\n",
             path, path);
    Lab l;
    CorpusSpec own, all;
    Status st = {0};
    lab_open(&l, text);
    assert_true(run_reasoning(&l.run, &l.recipe->stages[0], &own, &st));
    assert_true(run_reasoning(&l.run, NULL, &all, &st));
    assert_int_equal(own.sources[0].dataset->n_test, 0);
    assert_in_range(all.sources[0].dataset->n_test, 5, 20);
    assert_true(run_reasoning(&l.run, NULL, &all, &st));
    assert_int_equal(l.run.n_datasets, 2);
    assert_int_equal(run_documents(&own, 0), 40); /* an epoch is the file */
    assert_int_equal(run_documents(&own, 7), 7);
    lab_close(&l);
}

/* Units never share a stage number of the sampling, and one alone has its own whatever stands beside it. */
static void stage_numbers(void **state)
{
    (void)state;
    static Run r;
    memset(&r, 0, sizeof r);
    r.n_units = UNITS_MAX;
    bool taken[256] = {false};
    for (int i = 0; i < UNITS_MAX; i++) snprintf(r.units[i].name, sizeof r.units[i].name, "stage%d", i);
    for (int i = 0; i < UNITS_MAX; i++) {
        uint32_t number = unit_rng_stage(&r, &r.units[i]);
        assert_true(number < 256);
        assert_false(taken[number]);
        taken[number] = true;
    }
    assert_int_equal(unit_rng_stage(&r, &r.units[0]), hash_name("stage0") & 0xff);
}

/* A stage's units in order. */
static void units(void **state)
{
    (void)state;
    Lab l;
    lab_open(
        &l,
        "student: {architecture: llama, hidden_size: 24, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 12, "
        "intermediate_size: 48}\ntasks: {sort: {levels: 3}}\ngeneral: {helpful: {levels: 1}, refusal: {levels: 1}}\n"
        "stages:\n  - {name: a, kind: pretrain, steps: 1}\n"
        "  - {name: b, kind: sft, from: a, sample_from: a, seed_share: 0.5}\n  - {name: c, kind: reward_model, from: "
        "b}\n"
        "  - {name: d, kind: distill, sample_from: b, rival_lrs: [1e-3, 1e-4], rewards: {length: 1}}\n");
    static const char *const want[] = {"a",         "b.samples", "b",        "c.helpful", "c.safety",
                                       "d.samples", "d",         "d.rival1", "d.rival2"};
    Unit list[UNITS_MAX];
    int n = 0;
    for (int i = 0; i < 4; i++) n += stage_units(&l.run, i, list + n, UNITS_MAX - n);
    assert_int_equal(n, 9);
    for (int i = 0; i < n; i++) assert_string_equal(list[i].name, want[i]);
    assert_ptr_equal(list[1].kind, &unit_samples);
    assert_ptr_equal(list[6].kind, &unit_sft_samples);
    assert_ptr_equal(list[7].kind, &unit_rival);
    assert_int_equal(list[8].variant, 1);
    lab_close(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learning_rates), cmocka_unit_test(flops),         cmocka_unit_test(selection_bias),
        cmocka_unit_test(reference),      cmocka_unit_test(documents),     cmocka_unit_test(epochs),
        cmocka_unit_test(final_answer),   cmocka_unit_test(kept_samples),  cmocka_unit_test(mixes),
        cmocka_unit_test(heldout),        cmocka_unit_test(stage_numbers), cmocka_unit_test(units),
        cmocka_unit_test(samples_read),   cmocka_unit_test(traces),        cmocka_unit_test(longest),
        cmocka_unit_test(evaluations),
    };
    return cmocka_run_group_tests(tests, scratch_make, scratch_remove);
}
