#include "tests/unit/golden.h"

#include "core/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/hf/hf.h"
#include "tests/tolerances.h"
#include "tests/unit/unit.h"

static void must(bool ok, const Status *st)
{
    if (!ok) fail_msg("%s", st->text);
}

StFile *golden_file(const char *name)
{
    char path[256];
    Status st = {0};
    snprintf(path, sizeof path, "tests/golden/%s", name);
    StFile *f = st_open(path, &st);
    must(f != NULL, &st);
    return f;
}

static void read_model(Golden *g, const char *model)
{
    char folder[256];
    Status st = {0};
    ModelConfig config;
    snprintf(folder, sizeof folder, "tests/golden/%s", model);
    must(hf_config_read(folder, &config, &st), &st);
    ParamTable t = params_build(&config);
    float *weights = memory_block(t.total * sizeof *weights);
    must(hf_weights_read(folder, &config, &t, weights, &st), &st);
    params_free(&t);
    g->policy = policy_new(machine_engine(&g->machine), &config, 0, weights);
    policy_weights_changed(g->policy);
}

void golden_open(Golden *g, const char *model, const char *expected)
{
    golden_open_as(g, model, expected, DTYPE_F32, NULL);
}

void golden_open_as(Golden *g, const char *model, const char *expected, DType precision, const char *device)
{
    char name[256];
    Status st = {0};
    *g = (Golden){0};
    RuntimeOptions options = runtime_defaults();
    options.dtype = precision;
    options.device = device;
    must(machine_open(&g->machine, &options, &st), &st);
    read_model(g, model);
    snprintf(name, sizeof name, "tests/golden/%s/case.json", expected);
    must((g->about = json_read(name, &st)) != NULL, &st);
    snprintf(name, sizeof name, "%s/expected.safetensors", expected);
    g->expected = golden_file(name);
    if (!st_find(g->expected, "ids.0")) return;
    for (int s = 0; s < 3; s++) {
        size_t n;
        const int32_t *ids = golden_ints(g->expected, &n, "ids.%d", s);
        batch_add(&g->batch, ids, (int)n, 1);
    }
    g->weight = malloc((size_t)g->batch.m * sizeof *g->weight);
    assert_non_null(g->weight);
    nll_weights_mean(g->weight, g->batch.targets, g->batch.m);
}

void golden_close(Golden *g)
{
    policy_free(g->policy);
    machine_close(&g->machine);
    json_free(g->about);
    st_close(g->expected);
    batch_free(&g->batch);
    free(g->weight);
}

const StTensor *golden_tensor(const StFile *f, const char *name)
{
    const StTensor *t = st_find(f, name);
    if (!t) fail_msg("the fixture has no tensor %s", name);
    return t;
}

static const void *data_of(const StFile *f, size_t *n, StDtype dtype, const char *format, va_list args)
{
    char name[256];
    vsnprintf(name, sizeof name, format, args);
    const StTensor *t = golden_tensor(f, name);
    if (t->dtype != dtype) fail_msg("%s has type %s", name, st_dtype_name(t->dtype));
    *n = t->count;
    return t->data;
}

const float *golden_floats(const StFile *f, size_t *n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const float *data = data_of(f, n, ST_F32, format, args);
    va_end(args);
    return data;
}

const int32_t *golden_ints(const StFile *f, size_t *n, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    const int32_t *data = data_of(f, n, ST_I32, format, args);
    va_end(args);
    return data;
}

double golden_scalar(const StFile *f, const char *name)
{
    size_t n;
    return golden_floats(f, &n, "%s", name)[0];
}

double golden_number(const Json *about, const char *a, const char *b)
{
    const Json *v = json_get(json_get(about, a), b);
    if (!v) fail_msg("case.json has no %s.%s", a, b);
    return json_number(v);
}

void expect_close(const char *name, const float *got, const float *want, size_t n, double tolerance)
{
    double worst = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]);
        if (!(d <= worst)) worst = d;
    }
    if (!(worst <= tolerance)) fail_msg("%s: off by %.3g, allowed is %.3g", name, worst, tolerance);
}

void expect_relative(const char *name, const float *got, const float *want, size_t n, double tolerance)
{
    double difference = 0.0, norm = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)got[i] - want[i];
        difference += d * d;
        norm += (double)want[i] * want[i];
    }
    if (!(sqrt(difference) <= tolerance * sqrt(norm)))
        fail_msg("%s: |got - want| = %.3g of |want| = %.3g, relative %.3g, allowed is %.3g", name, sqrt(difference),
                 sqrt(norm), sqrt(difference / norm), tolerance);
}

void expect_number(const char *name, double got, double want, double tolerance)
{
    if (!(fabs(got - want) <= tolerance)) fail_msg("%s: %.9g, expected %.9g within %.3g", name, got, want, tolerance);
}

void expect_ints(const char *name, const int32_t *got, const int32_t *want, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (got[i] != want[i]) fail_msg("%s[%zu]: %d, expected %d", name, i, got[i], want[i]);
}

int expect_gradients(const Golden *g, const StFile *f, const char *prefix, bool all)
{
    const ParamTable *table = &g->policy->engine.table;
    int compared = 0;
    for (int i = 0; i < table->n; i++) {
        const Param *p = &table->params[i];
        char name[256];
        snprintf(name, sizeof name, "%s%s", prefix, p->name);
        const StTensor *t = st_find(f, name);
        if (!t && (!all || !p->trained)) continue;
        if (!t || t->count != p->count) fail_msg("%s: missing, or of another size", name);
        expect_relative(name, g->policy->grads + p->offset, t->data, p->count, TOL_GOLDEN_GRADIENT);
        compared++;
    }
    return compared;
}
