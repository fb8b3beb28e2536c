/* The model in bf16, on the CPU and on the tensor cores of the emulated GPU, against the float32 values of tests/golden:
 * no further from them than the public reference implementation is in bf16 (bf16.json, measured by bf16_tolerance.py). An
 * expert chosen or not is a jump no rounding bounds: everything but the count of such flips is compared with the experts
 * that the f32 run chose, weighed by the bf16 run's own router. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tolerances.h"
#include "tests/unit/golden.h"
#include "tests/unit/ops_lab.h"
#include "tests/unit/unit.h"

enum { LAYERS = 8 };

/* One forward's routing, layer after layer: recorded, or followed (then `flips` counts the rows that would go elsewhere). */
static struct {
    const Ops *real;
    Ops ops;
    bool follow;
    int layers, at, flips;
    int32_t *idx[LAYERS];
    float *scores[LAYERS];
} routes;

static void weigh(float *weights, const float *scores, const int32_t *idx, RouterShape s)
{
    float sum = 0.0f, scale = s.norm_topk && !s.scale_after_norm ? 1.0f : s.scale;
    for (int i = 0; i < s.K; i++) sum += scores[idx[i]];
    for (int i = 0; i < s.K; i++) weights[i] = scores[idx[i]] / (s.norm_topk ? sum + 1e-20f : 1.0f) * scale;
}

static void router(Backend *b, RouterShape s, Mat scores, int32_t *idx, Mat weights, Mat logits, const float *bias)
{
    size_t K = (size_t)s.K, E = (size_t)s.E;
    routes.real->router_fwd(b, s, scores, idx, weights, logits, bias);
    int l = routes.at++;
    assert_true(l < LAYERS);
    if (!routes.follow) {
        routes.idx[l] = malloc(scores.rows * K * sizeof(int32_t));
        routes.scores[l] = malloc(scores.rows * E * sizeof(float));
        memcpy(routes.idx[l], idx, scores.rows * K * sizeof(int32_t));
        memcpy(routes.scores[l], scores.p, scores.rows * E * sizeof(float));
        routes.layers = routes.at;
        return;
    }
    for (size_t n = 0; n < scores.rows; n++) {
        float own[64];
        assert_true(K <= 64);
        memcpy(own, mat_row(weights, n), K * sizeof *own);
        bool flip = memcmp(idx + n * K, routes.idx[l] + n * K, K * sizeof *idx) != 0;
        routes.flips += flip;
        memcpy(idx + n * K, routes.idx[l] + n * K, K * sizeof *idx);
        weigh(mat_row(weights, n), mat_row(scores, n), idx + n * K, s);
        if (!flip) assert_memory_equal(own, mat_row(weights, n), K * sizeof *own); /* `weigh` is the router's rule */
    }
}

static void watch(Golden *g, bool follow)
{
    routes.real = g->policy->engine.ops;
    routes.ops = *routes.real;
    routes.ops.router_fwd = router;
    routes.follow = follow;
    routes.at = routes.flips = 0;
    g->policy->engine.ops = &routes.ops;
}

static void forget(void)
{
    for (int l = 0; l < routes.layers; l++) free(routes.idx[l]), free(routes.scores[l]);
    routes.layers = 0;
}

/* A relative error over several tensors as one vector. */
typedef struct Error {
    double difference, want;
} Error;

static void error_add(Error *e, const float *got, const float *want, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        e->difference += ((double)got[i] - want[i]) * ((double)got[i] - want[i]);
        e->want += (double)want[i] * want[i];
    }
}

/* off: how far the reference is. Prints with R1_SHOW set. */
static void expect_error(const char *name, double error, double off, bool relative)
{
    if (getenv("R1_SHOW")) print_message("%-50s %.5f, reference %.5f: %.2f\n", name, error, off, error / off);
    if (!(off > 0)) fail_msg("%s: the reference has no error", name);
    if (relative && !(TOL_GOLDEN_BF16 * off < TOL_GOLDEN_BF16_MOST)) fail_msg("%s: zeros would pass", name);
    if (!(error <= TOL_GOLDEN_BF16 * off)) fail_msg("%s: off by %.4g, the reference by %.4g", name, error, off);
    if (!(error >= 1e-5)) fail_msg("%s: off by %.4g only: this is not bf16", name, error);
}

static void expect_relative_error(const char *name, Error e, double off)
{
    if (!(e.want > 0)) fail_msg("%s: nothing to compare with", name);
    expect_error(name, sqrt(e.difference / e.want), off, true);
}

static double off_by(const Json *bf16, const char *key)
{
    const Json *v = json_get(bf16, key);
    if (!v) fail_msg("bf16.json has no %s", key);
    return json_number(v);
}

static void check_forward(Golden *g, const Json *bf16)
{
    Engine *e = &g->policy->engine;
    size_t V = (size_t)e->config->V, C = (size_t)e->config->C, n;
    Tape tape;
    Error logits = {0}, scores = {0};
    engine_reset(e);
    model_forward(e, &g->policy->w, batch_view(&g->batch), TAPE_HIDDEN, &tape);
    for (int l = 0, moe = 0; l < e->config->L; l++) {
        Error hidden = {0};
        const float *want = golden_floats(g->expected, &n, "hidden.%d", l);
        error_add(&hidden, tape.x[l + 1], want, n);
        expect_relative_error("hidden", hidden, json_number(json_at(json_get(bf16, "hidden"), (size_t)l)));
        if (config_is_moe(e->config, l))
            error_add(&scores, tape.routing[l].scores, routes.scores[moe++], (size_t)g->batch.n * (size_t)e->config->E);
    }
    if (routes.layers) expect_relative_error("scores", scores, off_by(bf16, "scores"));
    for (int s = 0; s < g->batch.nseq; s++) {
        size_t T = (size_t)(g->batch.offsets[s + 1] - g->batch.offsets[s]);
        float *got = malloc(T * V * sizeof *got);
        head_logits(e, &g->policy->w, got, tape.xn + (size_t)g->batch.offsets[s] * C, T);
        error_add(&logits, got, golden_floats(g->expected, &n, "logits.%d", s), T * V);
        free(got);
    }
    expect_relative_error("logits", logits, off_by(bf16, "logits"));
}

/* "model.layers.1.mlp.experts.3.up_proj.weight" is of kind "mlp.experts.up_proj.weight". */
static void kind_of(char *kind, size_t size, const char *name)
{
    if (!strncmp(name, "model.", 6)) name += 6;
    if (!strncmp(name, "layers.", 7)) name = strchr(name + 7, '.') + 1;
    const char *experts = strstr(name, "experts.");
    if (experts && isdigit((unsigned char)experts[8]))
        snprintf(kind, size, "%.*s%s", (int)(experts + 8 - name), name, strchr(experts + 8, '.') + 1);
    else snprintf(kind, size, "%s", name);
}

static void check_gradients(Golden *g, const Json *bf16)
{
    const ParamTable *t = &g->policy->engine.table;
    const Json *grad = json_get(bf16, "grad"), *off;
    int compared = 0, trained = 0;
    for (size_t k = 0; k < json_count(grad); k++) {
        Error error = {0};
        const char *kind = json_member(grad, k, &off);
        for (int i = 0; i < t->n; i++) {
            char own[128];
            kind_of(own, sizeof own, t->params[i].name);
            if (!t->params[i].trained || strcmp(own, kind)) continue;
            size_t n;
            const float *want = golden_floats(g->expected, &n, "grad.%s", t->params[i].name);
            error_add(&error, g->policy->grads + t->params[i].offset, want, n);
            compared++;
        }
        expect_relative_error(kind, error, json_number(off));
    }
    for (int i = 0; i < t->n; i++) trained += t->params[i].trained;
    assert_int_equal(compared, trained);
}

static TrainOut gradients(Golden *g)
{
    NllLoss nll = {g->weight};
    Loss loss = nll_loss(&nll);
    TrainOut out;
    TrainStep task = {.batch = batch_view(&g->batch),
                      .predict = batch_predictions(&g->batch),
                      .inv_temperature = 1.0f,
                      .loss = &loss};
    policy_train_open(g->policy);
    routes.at = 0;
    train_gradients(&g->policy->engine, &g->policy->w, &g->policy->g, &task, &out);
    return out;
}

static void check_loss(Golden *g, const TrainOut *out, const Json *bf16)
{
    double squares = 0;
    int at = 0;
    for (int s = 0; s < g->batch.nseq; s++) {
        size_t n;
        const float *want = golden_floats(g->expected, &n, "logprobs.%d", s);
        for (size_t i = 0; i < n; i++, at++) squares += pow((double)out->rows.lp[at] - want[i], 2);
    }
    double rms = sqrt(squares / at), off = off_by(bf16, "logprobs");
    expect_error("logprobs", rms, off, false);
    /* The error of a mean is at most the root mean square of the errors. */
    expect_number("nll", out->loss, golden_scalar(g->expected, "nll"), TOL_GOLDEN_BF16 * off);
}

static void record_routes(const char *name)
{
    Golden exact;
    Tape tape;
    golden_open(&exact, name, name);
    watch(&exact, false);
    model_forward(&exact.policy->engine, &exact.policy->w, batch_view(&exact.batch), TAPE_HIDDEN, &tape);
    exact.policy->engine.ops = routes.real;
    golden_close(&exact);
}

static void run_case_on(const char *name, const char *device)
{
    char path[128];
    Golden g;
    Status st = {0};
    record_routes(name);
    golden_open_as(&g, name, name, DTYPE_BF16, device);
    snprintf(path, sizeof path, "tests/golden/%s/bf16.json", name);
    Json *bf16 = json_read(path, &st);
    if (!bf16) fail_msg("%s", st.text);
    watch(&g, true);
    check_forward(&g, bf16);
    if (routes.layers) {
        double rows = (double)(routes.layers * g.batch.n);
        if (getenv("R1_SHOW"))
            print_message("flips %d, reference %.0f of %.0f\n", routes.flips, off_by(bf16, "flips"), rows);
        assert_true(off_by(bf16, "routes") == rows);
        if (!(routes.flips <= TOL_GOLDEN_BF16 * off_by(bf16, "flips") + 1)) fail_msg("%d flips", routes.flips);
    }
    TrainOut out = gradients(&g);
    check_loss(&g, &out, bf16);
    check_gradients(&g, bf16);
    g.policy->engine.ops = routes.real;
    json_free(bf16);
    golden_close(&g);
    forget();
}

static void run_case(void **state)
{
    run_case_on(*state, NULL);
}

static void run_case_emulated(void **state)
{
    run_case_on(*state, lab_device());
}

int main(void)
{
    static const char *const names[] = {"v2_lite",     "v2_full",     "v2_yarn",     "v3",         "qwen2",
                                        "qwen3",       "llama",       "llama_bias",  "qwen3_bias", "glm4_moe",
                                        "llama3_rope", "linear_rope", "dynamic_rope"};
    enum { CASES = sizeof names / sizeof *names };
    struct CMUnitTest tests[CASES], emulated[CASES];
    for (int i = 0; i < CASES; i++) {
        tests[i] = (struct CMUnitTest){names[i], run_case, NULL, NULL, (void *)names[i]};
        emulated[i] = (struct CMUnitTest){names[i], run_case_emulated, NULL, NULL, (void *)names[i]};
    }
    int failed = cmocka_run_group_tests_name("bf16", tests, NULL, NULL);
    Status st = {0};
    if (lab_plugin(&st)) return failed + cmocka_run_group_tests_name("bf16 on tensor cores", emulated, NULL, NULL);
    print_message("# not on the GPU: %s\n", st.text);
    return failed;
}
