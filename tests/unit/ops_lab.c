#include "tests/unit/ops_lab.h"

#include "gpu/gpu.h"
#include "recipes/model/plugin.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VARIANTS = 5, EMULATED = 3, GUARD = 64 };

typedef struct Variant {
    Backend *b;
    const Ops *ops;
    char name[48];
    int order; /* 0: the CPU; else 1 + the number in `orders` */
} Variant;

static Variant variants[VARIANTS + EMULATED];
static int variant_count;

static int open_variants(const CpuOptions options[VARIANTS])
{
    variant_count = 0;
    for (int i = 0; i < VARIANTS; i++) {
        Variant *v = &variants[variant_count];
        Status st = {0};
        v->order = 0;
        v->b = cpu_open(&options[i], &v->ops, &st);
        if (v->b) {
            snprintf(v->name, sizeof v->name, "%s, %d threads", options[i].isa ? options[i].isa : "best",
                     options[i].threads);
            variant_count++;
        } else if (!strstr(st.text, "does not have it")) {
            print_error("%s\n", st.text);
            return -1;
        }
    }
    return 0;
}

/* The GPU's kernels on the CPU, in three orders of threads and of queued work; NULL: not built. */
static const GpuPlugin *emulated;
static const struct {
    const char *schedule, *streams;
} orders[EMULATED] = {{"forward", "eager"}, {"reverse", "lazy"}, {"seed", "random"}};

const char *lab_device(void)
{
    const char *name = getenv("R1_LAB_DEVICE");
    return name && *name ? name : "emulated";
}

const GpuPlugin *lab_plugin(Status *st)
{
    DeviceName device;
    GpuDevice card;
    if (!device_parse(lab_device(), &device, st)) return NULL;
    const GpuPlugin *plugin = plugin_load(device.kind, st);
    if (!plugin || !plugin->device(device.number, &card, st)) return NULL;
    if (card.reads_host) return plugin;
    fail(st, "%s cannot read the memory of malloc", card.name);
    return NULL;
}

void lab_order(const GpuPlugin *plugin, const char *schedule, const char *streams)
{
    if (plugin->emulate) plugin->emulate(schedule, streams, true);
}

/* One backend for each of `matmuls`, or with the one of f32 where it is NULL. */
static void open_emulated(const char *const matmuls[EMULATED])
{
    Status st = {0};
    emulated = lab_plugin(&st);
    for (int i = 0; emulated && i < EMULATED; i++) {
        Variant *v = &variants[variant_count];
        GpuOptions o = {.dtype = matmuls ? DTYPE_BF16 : DTYPE_F32, .matmul = matmuls ? matmuls[i] : NULL};
        v->b = emulated->open(&o, &v->ops, &st);
        v->order = i + 1;
        snprintf(v->name, sizeof v->name, "emulated%s%s, %s, %s", matmuls ? " " : "", matmuls ? matmuls[i] : "",
                 orders[i].schedule, orders[i].streams);
        if (v->b) variant_count++;
    }
    if (!emulated || variant_count == 0 || variants[variant_count - 1].order != EMULATED)
        print_message("# not compared with the GPU: %s\n", st.text);
}

static int open_cpu(void **state)
{
    (void)state;
    static const CpuOptions options[VARIANTS] = {{.threads = 2},
                                                 {.threads = 1},
                                                 {.threads = 3, .isa = "avx2"},
                                                 {.threads = 1, .isa = "avx2"},
                                                 {.threads = 2, .isa = "plain"}};
    return open_variants(options);
}

int lab_open(void **state)
{
    int code = open_cpu(state);
    if (code == 0) open_emulated(NULL);
    return code;
}

static int open_form(const char *form)
{
    const CpuOptions options[VARIANTS] = {{.threads = 2, .isa = "avx512", .bf16 = form},
                                          {.threads = 1, .isa = "avx512", .bf16 = form},
                                          {.threads = 3, .isa = "avx2", .bf16 = form},
                                          {.threads = 1, .isa = "avx2", .bf16 = form},
                                          {.threads = 2, .isa = "plain", .bf16 = form}};
    return open_variants(options);
}

int lab_open_dot(void **state)
{
    (void)state;
    return open_form("dot");
}

int lab_open_widen(void **state)
{
    (void)state;
    int code = open_form("widen");
    if (code == 0) open_emulated((const char *const[EMULATED]){"widen", "widen", "widen"});
    return code;
}

int lab_open_mma(void **state)
{
    (void)state;
    variant_count = 0;
    open_emulated((const char *const[EMULATED]){"mma:middle", "mma:decode", "mma:wide"});
    return variant_count == EMULATED ? 0 : -1;
}

int lab_open_cublas(void **state)
{
    (void)state;
    variant_count = 0;
    open_emulated((const char *const[EMULATED]){"cublas", "cublas", "cublas"});
    return variant_count == EMULATED ? 0 : -1;
}

bool lab_has_emulated(void)
{
    Status st = {0};
    return lab_plugin(&st) != NULL;
}

int lab_close(void **state)
{
    (void)state;
    for (int i = 0; i < variant_count; i++) {
        variants[i].ops->close(variants[i].b);
    }
    return 0;
}

const Ops *lab_ops(void)
{
    return variants[0].ops;
}

Backend *lab_backend(void)
{
    if (variants[0].order) lab_order(emulated, "forward", "eager"); /* calls are done when they return */
    return variants[0].b;
}

static size_t out_end(const LabOut *o)
{
    return o->at + o->rows * o->stride;
}

static size_t trial_floats(const LabTrial *t)
{
    return (t->count ? out_end(&t->outs[t->count - 1]) : 0) + GUARD;
}

int lab_out(LabTrial *t, size_t rows, size_t cols, size_t gap)
{
    assert_true(t->count < LAB_OUTS);
    size_t at = t->count ? out_end(&t->outs[t->count - 1]) + GUARD : GUARD;
    t->outs[t->count] = (LabOut){at, rows, cols, cols + gap};
    return t->count++;
}

Mat lab_mat(const LabTrial *t, float *out, int number)
{
    const LabOut *o = &t->outs[number];
    return (Mat){out + o->at, DTYPE_F32, o->rows, o->cols, o->stride, false};
}

float *lab_at(const LabTrial *t, float *out, int number)
{
    return out + t->outs[number].at;
}

Mat lab_bf16(const LabTrial *t, float *out, int number, size_t cols)
{
    const LabOut *o = &t->outs[number];
    assert_int_equal(o->cols, lab_halves(cols));
    return (Mat){out + o->at, DTYPE_BF16, o->rows, cols, 2 * o->stride, false};
}

static float guard_value(size_t i)
{
    return -1000.0f - (float)(i % 100);
}

static void set_outputs(const LabTrial *t, float *out)
{
    const float *from = t->initial;
    for (int i = 0; from && i < t->count; i++) {
        for (size_t r = 0; r < t->outs[i].rows; r++, from += t->outs[i].cols) {
            memcpy(mat_row(lab_mat(t, out, i), r), from, t->outs[i].cols * sizeof(float));
        }
    }
}

/* Puts the guard's value into every output element: what then differs from a guard was written outside. */
static void check_guards(const LabTrial *t, const float *out, size_t floats, const char *name)
{
    float *copy = malloc(floats * sizeof(float));
    memcpy(copy, out, floats * sizeof(float));
    for (int i = 0; i < t->count; i++) {
        for (size_t r = 0; r < t->outs[i].rows; r++) {
            for (size_t c = 0; c < t->outs[i].cols; c++) {
                size_t at = t->outs[i].at + r * t->outs[i].stride + c;
                copy[at] = guard_value(at);
            }
        }
    }
    for (size_t i = 0; i < floats; i++) {
        if (copy[i] != guard_value(i)) {
            fail_msg("%s: wrote outside its outputs, at %zu of %zu", name, i, floats);
        }
    }
    free(copy);
}

float *lab_run_on(const Ops *ops, Backend *b, const LabTrial *t, const char *name)
{
    size_t floats = trial_floats(t);
    float *out = malloc(floats * sizeof(float));
    for (size_t j = 0; j < floats; j++) {
        out[j] = guard_value(j);
    }
    set_outputs(t, out);
    ops->weights_changed(b);
    t->run(ops, b, t, out);
    Status st = {0};
    assert_true(ops->fault(b, &st));
    check_guards(t, out, floats, name);
    return out;
}

float *lab_run(const LabTrial *t)
{
    size_t floats = trial_floats(t);
    if (variants[0].order) lab_order(emulated, orders[0].schedule, orders[0].streams);
    float *first = lab_run_on(variants[0].ops, variants[0].b, t, variants[0].name);
    for (int i = 1; i < 2 * variant_count; i++) {
        const Variant *v = &variants[i / 2];
        if (v->order && i % 2) continue; /* packs nothing */
        if (v->order) lab_order(emulated, orders[v->order - 1].schedule, orders[v->order - 1].streams);
        v->ops->keep_packed(v->b, i % 2);
        float *out = lab_run_on(v->ops, v->b, t, v->name);
        v->ops->keep_packed(v->b, false);
        for (size_t j = 0; j < floats; j++) {
            if (memcmp(&out[j], &first[j], sizeof(float)) != 0) {
                fail_msg("%s%s: element %zu is %.9g, on %s it is %.9g", v->name, i % 2 ? ", packed" : "", j,
                         (double)out[j], variants[0].name, (double)first[j]);
            }
        }
        free(out);
    }
    return first;
}

float *lab_random(size_t n, uint64_t seed)
{
    float *x = malloc((n ? n : 1) * sizeof(float));
    uint64_t s = seed * 0x9e3779b97f4a7c15u + 1;
    for (size_t i = 0; i < n; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u;
        x[i] = (float)((int32_t)(s >> 40) - (1 << 23)) * 0x1p-23f;
    }
    return x;
}

float lab_widen(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

uint16_t lab_round(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    if (isnan(x)) return 0x7fc0;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t *lab_rounded(float *x, size_t n)
{
    uint16_t *halves = malloc((n ? n : 1) * sizeof *halves);
    for (size_t i = 0; i < n; i++) {
        halves[i] = lab_round(x[i]);
        x[i] = lab_widen(halves[i]);
    }
    return halves;
}

void lab_is_rounded(const char *what, Mat got, const float *want)
{
    assert_int_equal(got.dtype, DTYPE_BF16);
    for (size_t i = 0; i < got.rows; i++) {
        for (size_t j = 0; j < got.cols; j++) {
            uint16_t g = ((const uint16_t *)got.p)[i * got.stride + j], w = lab_round(want[i * got.cols + j]);
            if (g != w) {
                fail_msg("%s (%zu, %zu): %.9g, want %.9g, which is %.9g rounded", what, i, j, (double)lab_widen(g),
                         (double)lab_widen(w), (double)want[i * got.cols + j]);
            }
        }
    }
}

double *lab_doubles(const float *x, size_t n)
{
    double *d = malloc((n ? n : 1) * sizeof(double));
    for (size_t i = 0; i < n; i++) {
        d[i] = (double)x[i];
    }
    return d;
}

void lab_near(const char *what, Mat got, const double *want, double tolerance)
{
    double largest = 0.0;
    for (size_t i = 0; i < got.rows * got.cols; i++) {
        largest = fmax(largest, fabs(want[i]));
    }
    assert_true(largest > 0.0);
    for (size_t i = 0; i < got.rows; i++) {
        for (size_t j = 0; j < got.cols; j++) {
            double g = (double)mat_row(got, i)[j], w = want[i * got.cols + j];
            if (!(fabs(g - w) <= tolerance * largest)) {
                fail_msg("%s (%zu, %zu): %.9g, want %.9g; the largest is %.3g, tolerance %.1g", what, i, j, g, w,
                         largest, tolerance);
            }
        }
    }
}

void lab_differences(double (*loss)(const void *context), const void *context, double *x, size_t n, double *gradient)
{
    const double h = 1e-5;
    for (size_t i = 0; i < n; i++) {
        double keep = x[i];
        x[i] = keep + h;
        double up = loss(context);
        x[i] = keep - h;
        double down = loss(context);
        x[i] = keep;
        gradient[i] = (up - down) / (2.0 * h);
    }
}
