/* Predicted peak memory against what the process then takes, and refusal beforehand. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/check.h"
#include "core/batches.h"
#include "core/params_select.h"
#include "core/policy.h"
#include "gpu/gpu.h"
#include "recipes/model/plugin.h"
#include "recipes/plan/plan.h"
#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

static const ModelConfig model = {.arch = ARCH_DEEPSEEK_V2,
                                  .attention = ATTENTION_MLA,
                                  .V = 256,
                                  .C = 128,
                                  .L = 4,
                                  .H = 4,
                                  .Hkv = 4,
                                  .Rkv = 32,
                                  .Dn = 32,
                                  .Dr = 16,
                                  .Dv = 32,
                                  .F = 384,
                                  .E = 8,
                                  .S = 1,
                                  .K = 2,
                                  .moe_F = 96,
                                  .first_dense = 1,
                                  .moe_freq = 1,
                                  .n_group = 1,
                                  .topk_group = 1,
                                  .routed_scale = 1.0f,
                                  .eps = 1e-6f,
                                  .rope = {.theta = 10000.0f, .interleaved = true},
                                  .max_positions = 512,
                                  .init_std = 0.02f,
                                  .bos = -1,
                                  .eos = -1};

static const ModelConfig dense = {.arch = ARCH_LLAMA,
                                  .attention = ATTENTION_GQA,
                                  .V = 4096,
                                  .C = 192,
                                  .L = 6,
                                  .H = 6,
                                  .Hkv = 3,
                                  .Dr = 32,
                                  .Dv = 32,
                                  .F = 512,
                                  .moe_freq = 1,
                                  .n_group = 1,
                                  .topk_group = 1,
                                  .routed_scale = 1.0f,
                                  .eps = 1e-5f,
                                  .rope = {.theta = 10000.0f},
                                  .max_positions = 512,
                                  .tied = true,
                                  .init_std = 0.02f,
                                  .bos = -1,
                                  .eos = -1};

/* Few tokens through wide layers: the threads' scratch is a part that counts. */
static const ModelConfig wide = {.arch = ARCH_DEEPSEEK_V2,
                                 .attention = ATTENTION_MLA,
                                 .V = 512,
                                 .C = 512,
                                 .L = 2,
                                 .H = 8,
                                 .Hkv = 8,
                                 .Rkv = 64,
                                 .Dn = 32,
                                 .Dr = 16,
                                 .Dv = 32,
                                 .F = 6144,
                                 .E = 8,
                                 .S = 2,
                                 .K = 2,
                                 .moe_F = 352,
                                 .first_dense = 1,
                                 .moe_freq = 1,
                                 .n_group = 1,
                                 .topk_group = 1,
                                 .routed_scale = 1.0f,
                                 .eps = 1e-6f,
                                 .rope = {.theta = 10000.0f, .interleaved = true},
                                 .max_positions = 1024,
                                 .init_std = 0.02f,
                                 .bos = -1,
                                 .eos = -1};

typedef struct Outcome {
    Plan plan;
    bool fits;
    size_t peak, cache; /* of the process, or of the device's memory; of the sampler's pages */
    int layers_kept;
} Outcome;

static void roll(Policy *p, const PlanRollout *w, RolloutStats *stats, Status *st)
{
    int32_t *ids = calloc((size_t)w->prompt_length, sizeof *ids);
    RolloutPrompt *prompts = calloc((size_t)w->prompts, sizeof *prompts);
    Completion *out = calloc((size_t)w->prompts * (size_t)w->samples, sizeof *out);
    CHECK(ids && prompts && out);
    for (int i = 0; i < w->prompts; i++) prompts[i] = (RolloutPrompt){ids, w->prompt_length, (uint32_t)i};
    RolloutSpec spec = {.slots = w->slots,
                        .samples = w->samples,
                        .max_tokens = w->tokens,
                        .cache = w->cache,
                        .sampling = {.temperature = 1, .top_p = 1},
                        .purpose = RNG_ROLLOUT};
    CHECK(rollout_run(p->sampler, &p->w, &spec, prompts, w->prompts, out, stats, st));
    free(ids);
    free(prompts);
    free(out);
}

static void train(Policy *p, const PlanWork *w, Status *st)
{
    BatchBuilder b = {0};
    int32_t *ids = calloc((size_t)w->length, sizeof *ids);
    CHECK(ids != NULL);
    for (int i = 0; i < w->sequences; i++) batch_add(&b, ids, w->length, w->length - w->predicted);
    float *weight = malloc((size_t)b.m * sizeof *weight);
    CHECK(weight != NULL);
    nll_weights_mean(weight, b.targets, b.m);
    NllLoss nll = {weight};
    Loss loss = nll_loss(&nll);
    TrainStep task = {.batch = batch_view(&b), .predict = batch_predictions(&b), .inv_temperature = 1, .loss = &loss};
    TrainOut out;
    OptimizerConfig o = {.beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .max_norm = 1};
    for (int step = 0; step < 2; step++) {
        train_gradients(&p->engine, &p->w, &p->g, &task, &out);
        CHECK(policy_update(p, &o, 1e-3f, NULL, st));
    }
    free(ids);
    free(weight);
    batch_free(&b);
}

/* In a process of its own, whose peak is this work's alone. memory_gb 0: plenty. */
static Outcome carry_out_with(const PlanWork *w, RuntimeOptions options)
{
    int ends[2];
    const char *isa = getenv("R1_ISA");
    if (isa && !strcmp(isa, "plain")) skip(); /* ten minutes of arithmetic without vectors or fused multiply-adds */
    CHECK(pipe(ends) == 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        Status st = {0};
        Machine m;
        if (!machine_open(&m, &options, &st)) fprintf(stderr, "%s\n", st.text), _exit(1);
        Outcome o = {0};
        o.fits = plan_make(&o.plan, &m, w, SIZE_MAX, "the test", &st);
        if (o.fits) {
            Policy *p = policy_new(machine_engine(&m), w->config, 1, NULL);
            plan_apply(&o.plan, &p->engine);
            RolloutStats stats = {0};
            params_moments(&p->engine.table, w->moments);
            policy_train_open(p);
            for (int i = 0; i < w->n_rollouts; i++) roll(p, &w->rollouts[i], &stats, &st);
            if (w->reference) policy_reference_set(p);
            train(p, w, &st);
            o.layers_kept = p->engine.layers_kept;
            o.cache = stats.cache_bytes;
            o.peak = m.cpu ? machine_peak_memory() : plugin_load(DEVICE_EMULATED, &st)->peak();
        }
        CHECK(write(ends[1], &o, sizeof o) == (ssize_t)sizeof o);
        _exit(0);
    }
    Outcome o = {0};
    int status;
    CHECK(child > 0 && read(ends[0], &o, sizeof o) == (ssize_t)sizeof o && waitpid(child, &status, 0) == child);
    close(ends[0]);
    close(ends[1]);
    return o;
}

static Outcome carry_out_as(const PlanWork *w, double memory_gb, DType dtype, int threads)
{
    RuntimeOptions options = runtime_defaults();
    options.memory_gb = memory_gb;
    options.threads = threads;
    options.dtype = dtype;
    return carry_out_with(w, options);
}

static Outcome carry_out(const PlanWork *w, double memory_gb)
{
    return carry_out_as(w, memory_gb, DTYPE_F32, 1);
}

/* Within 5 % or 8 MB, and neither number is nothing. */
static void assert_predicted(const Outcome *o)
{
#ifdef __SANITIZE_ADDRESS__
    (void)o; /* the sanitizer's own memory is in the measurement */
    skip();
#endif
    assert_true(o->fits);
    double predicted = (double)o->plan.total, peak = (double)o->peak,
           off = predicted > peak ? predicted - peak : peak - predicted;
    if (off > 8e6 && off > 0.05 * peak)
        print_message("predicted %.1f MB, measured %.1f MB\n", predicted / 1e6, peak / 1e6);
    assert_true(peak > 50e6);
    assert_true(off <= 8e6 || off <= 0.05 * peak);
}

static void test_training(void **state)
{
    (void)state;
    PlanWork w = {.config = &model, .trains = true, .sequences = 32, .length = 96, .predicted = 95};
    Outcome o = carry_out(&w, 4);
    assert_predicted(&o);
    assert_int_equal(o.plan.layers_kept, 4);
    assert_int_equal(o.layers_kept, 4);
}

static void test_dense_training(void **state)
{
    (void)state;
    PlanWork w = {.config = &dense, .trains = true, .sequences = 8, .length = 128, .predicted = 127};
    Outcome o = carry_out(&w, 4);
    assert_predicted(&o);
}

static void test_rollouts(void **state)
{
    (void)state;
    PlanWork w = {.config = &model,
                  .trains = true,
                  .sequences = 32,
                  .length = 60,
                  .predicted = 20,
                  .n_rollouts = 1,
                  .rollouts = {{.prompts = 8, .prompt_length = 40, .samples = 16, .tokens = 2, .slots = 128}}};
    Outcome o = carry_out(&w, 4);
    assert_predicted(&o);
    assert_true(o.plan.cache >= o.cache && o.plan.cache - o.cache < 1 << 20);
    w.rollouts[0].cache = CACHE_LATENT;
    Outcome latent = carry_out(&w, 4);
    assert_predicted(&latent);
    assert_true(latent.plan.cache < o.plan.cache / 4);
}

/* Slots that no sample will use take nothing, and of several rollouts the largest counts. */
static void test_few_samples(void **state)
{
    (void)state;
    PlanWork w = {.config = &model,
                  .trains = true,
                  .sequences = 32,
                  .length = 60,
                  .predicted = 20,
                  .n_rollouts = 2,
                  .rollouts = {{.prompts = 4, .prompt_length = 40, .samples = 2, .tokens = 40, .slots = 256},
                               {.prompts = 2, .prompt_length = 40, .samples = 2, .tokens = 20, .slots = 256}}};
    Outcome o = carry_out(&w, 4);
    assert_predicted(&o);
    assert_true(o.plan.cache < 32 << 20);
}

static void test_wide_training(void **state)
{
    (void)state;
    PlanWork w = {.config = &wide, .trains = true, .sequences = 2, .length = 512, .predicted = 511};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        Outcome o = carry_out_as(&w, 4, bf16 ? DTYPE_BF16 : DTYPE_F32, 2);
        assert_predicted(&o);
        assert_int_equal(o.plan.layers_kept, 2);
        assert_int_equal(o.layers_kept, 2);
    }
}

static void test_bf16_training(void **state)
{
    (void)state;
    PlanWork w = {.config = &model, .trains = true, .sequences = 32, .length = 96, .predicted = 95};
    Outcome o = carry_out_as(&w, 4, DTYPE_BF16, 2);
    assert_predicted(&o);
}

static void test_small_budget(void **state)
{
    (void)state;
    PlanWork w = {.config = &model, .trains = true, .sequences = 32, .length = 96, .predicted = 95};
    Outcome all = carry_out(&w, 4);
    double budget = ((double)all.plan.total - (double)all.plan.kept / 4) / 1e9;
    Outcome half = carry_out(&w, budget);
    assert_predicted(&half);
    assert_in_range(half.plan.layers_kept, 1, 3);
    assert_int_equal(half.layers_kept, half.plan.layers_kept);
    assert_true((double)half.plan.total <= budget * 1e9);
    assert_true((double)half.peak <= budget * 1e9 + 32e6);
}

/* A device's memory is counted by its own code: to the byte. A device with that much is enough, one with less is not. */
static void on_device(const PlanWork *w, DType dtype, const char *matmul)
{
    RuntimeOptions options = runtime_defaults();
    options.device = "emulated";
    options.dtype = dtype;
    options.matmul = matmul;
    options.memory_gb = 1;
    Outcome o = carry_out_with(w, options);
    assert_true(o.fits);
    assert_int_equal(o.plan.process, 0);
    assert_int_equal(o.plan.total, o.peak);
    assert_int_equal(o.layers_kept, o.plan.layers_kept);
}

static void test_device(void **state)
{
    (void)state;
    Status st = {0};
    if (!plugin_load(DEVICE_EMULATED, &st)) skip();
    ModelConfig odd = model; /* no block is of whole pieces, and positions are more than the first table's */
    odd.V = 251, odd.C = 52, odd.F = 98, odd.moe_F = 34, odd.L = 2;
    PlanWork training = {.config = &odd, .trains = true, .sequences = 2, .length = 270, .predicted = 1},
             sampling = {.config = &model,
                         .trains = true,
                         .sequences = 2,
                         .length = 12,
                         .predicted = 2,
                         .n_rollouts = 1,
                         .rollouts = {{.prompts = 4, .prompt_length = 9, .samples = 4, .tokens = 2, .slots = 16}}};
    on_device(&training, DTYPE_F32, NULL);
    on_device(&training, DTYPE_BF16, NULL);
    training.moments = MOMENTS_8BIT;
    on_device(&training, DTYPE_BF16, "mma+cublas");
    on_device(&sampling, DTYPE_F32, NULL);
    sampling.rollouts[0].cache = CACHE_LATENT;
    on_device(&sampling, DTYPE_BF16, NULL);
}

static void test_refusal(void **state)
{
    (void)state;
    PlanWork w = {.config = &model, .trains = true, .sequences = 32, .length = 96, .predicted = 95};
    Machine m;
    Status st = {0};
    Plan plan;
    RuntimeOptions options = runtime_defaults();
    options.memory_gb = 0.05;
    options.threads = 1;
    assert_true(machine_open(&m, &options, &st));
    assert_false(plan_make(&plan, &m, &w, SIZE_MAX, "stage base", &st));
    assert_non_null(strstr(st.text, "stage base needs"));
    assert_non_null(strstr(st.text, "--memory"));
    machine_close(&m);
}

/* Moments in fewer bits are counted to the byte, and named where they would fit. */
static void test_moments(void **state)
{
    (void)state;
    PlanWork w = {.config = &dense, .trains = true, .sequences = 4, .length = 32, .predicted = 31};
    Machine m;
    Status st = {0};
    Plan plan[3];
    RuntimeOptions options = runtime_defaults();
    options.memory_gb = 4;
    options.threads = 1;
    assert_true(machine_open(&m, &options, &st));
    ParamTable t = params_build(&dense);
    for (int form = MOMENTS_F32; form <= MOMENTS_8BIT; form++) {
        w.moments = (MomentForm)form;
        params_moments(&t, w.moments);
        if (!plan_make(&plan[form], &m, &w, 0, "stage base", &st)) fail_msg("%s", st.text);
        size_t scratch = form == MOMENTS_F32 ? 0 : 2 * sizeof(float) * (size_t)dense.V * (size_t)dense.C;
        assert_int_equal(plan[form].optimizer, 2 * t.moment_total + scratch);
    }
    params_free(&t);
    const Plan *f32 = &plan[MOMENTS_F32], *coded = &plan[MOMENTS_8BIT];
    assert_int_equal(f32->state_8bit, coded->optimizer);
    assert_int_equal(coded->state_8bit, 0);
    size_t fixed = f32->total - f32->boundaries - f32->kept - f32->workspace;
    w.moments = MOMENTS_F32;
    m.memory = fixed - 1000000;
    assert_false(plan_make(&plan[0], &m, &w, 0, "stage base", &st));
    assert_true(says(&st, "or store the moments in 8 bits with optim.moments 8bit: 0.0"));
    status_clear(&st);
    m.memory = fixed - (f32->optimizer - coded->optimizer) - 1000000; /* nor would these fit */
    assert_false(plan_make(&plan[0], &m, &w, 0, "stage base", &st));
    assert_false(says(&st, "8bit"));
    machine_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_wide_training), cmocka_unit_test(test_bf16_training),  cmocka_unit_test(test_few_samples),
        cmocka_unit_test(test_training),      cmocka_unit_test(test_dense_training), cmocka_unit_test(test_rollouts),
        cmocka_unit_test(test_small_budget),  cmocka_unit_test(test_refusal),        cmocka_unit_test(test_moments),
        cmocka_unit_test(test_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
