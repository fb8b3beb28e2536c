/* `r1 bench --tune FILE`: every provider of matrix products on every shape of a weight, and a table of the fastest
 * (cpu/matmul/choice.c). A provider whose rows depend on the batch, or whose weight gradients depend on the threads, is
 * never chosen for that shape. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/durable.h"
#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "cpu/cpu.h"
#include "recipes/bench/bench.h"
#include "recipes/run/interrupt.h"
#include "recipes/run/run_folder.h"

enum { PROVIDERS = 3, SHAPES = 128, ROWS = 1024, FEW_ROWS = 64, TEST_ROWS = 67, REPEATS = 3, OPS = 3 };

/* By so much another one has to be faster than the default. */
static const double WORTH_IT = 0.95;

typedef struct Shape {
    size_t out, in;
} Shape;

/* A provider on all threads and on one. */
typedef struct Lane {
    char name[16];
    const Ops *ops;
    Backend *all, *one;
} Lane;

typedef struct Tune {
    DType dtype;
    Lane lanes[PROVIDERS];
    int n;
    Shape shapes[SHAPES];
    int n_shapes;
    float *x, *w, *dy, *out, *again; /* of the largest shape and ROWS; x and w of dtype */
    char *text;                      /* the table so far */
    size_t length, size;
} Tune;

/* ---- shapes */

static void add_shape(Tune *t, size_t out, size_t in)
{
    for (int i = 0; i < t->n_shapes; i++)
        if (t->shapes[i].out == out && t->shapes[i].in == in) return;
    CHECK(t->n_shapes < SHAPES);
    t->shapes[t->n_shapes++] = (Shape){out, in};
}

/* The matrices a product meets: joined ones, in bwd_x attention's each for itself; the router is f32 in either type and small. */
static void add_model(Tune *t, const char *name)
{
    ModelConfig c;
    CHECK(bench_model(name, &c));
    ParamTable table = params_build(&c);
    for (int i = 0; i < table.n; i++) {
        const Param *p = &table.params[i];
        size_t rows = params_joined_rows(&table, i);
        if (!p->split || (p->kind == PARAM_EMBED && !c.tied)) continue;
        if (rows) add_shape(t, rows, p->cols);
        if (p->kind >= PARAM_Q && p->kind <= PARAM_V) add_shape(t, p->rows, p->cols);
    }
    params_free(&table);
}

static void fill(float *p, size_t n, DType dtype, float scale)
{
    uint32_t x = 12345;
    for (size_t i = 0; i < n; i++) {
        float v = (float)(int32_t)(x = x * 1664525u + 1013904223u) * 0x1p-31f * scale;
        uint32_t bits;
        memcpy(&bits, &v, sizeof bits);
        if (dtype == DTYPE_BF16) ((uint16_t *)p)[i] = (uint16_t)(bits >> 16);
        else p[i] = v;
    }
}

static void open_data(Tune *t)
{
    size_t out = 0, in = 0, weight = 0;
    for (int i = 0; i < t->n_shapes; i++) {
        const Shape *s = &t->shapes[i];
        out = s->out > out ? s->out : out;
        in = s->in > in ? s->in : in;
        weight = s->out * s->in > weight ? s->out * s->in : weight;
    }
    size_t result = ROWS * (out > in ? out : in);
    if (weight > result) result = weight;
    float **blocks[] = {&t->x, &t->w, &t->dy, &t->out, &t->again};
    size_t sizes[] = {ROWS * in, weight, ROWS * out, result, result};
    for (int i = 0; i < 5; i++) CHECK((*blocks[i] = memory_block(sizes[i] * sizeof(float))) != NULL);
    fill(t->x, ROWS * in, t->dtype, 1.0f);
    fill(t->w, weight, t->dtype, 0.05f);
    fill(t->dy, ROWS * out, DTYPE_F32, 1.0f);
}

/* ---- providers */

static bool open_lane(Tune *t, const char *name, size_t length, int threads, Status *st)
{
    Lane *lane = &t->lanes[t->n];
    snprintf(lane->name, sizeof lane->name, "%.*s", (int)length, name);
    CpuOptions o = {.threads = threads, .dtype = t->dtype};
    *(t->dtype == DTYPE_F32 ? &o.matmul : &o.bf16) = lane->name;
    lane->all = cpu_open(&o, &lane->ops, st);
    o.threads = 1;
    lane->one = lane->all ? cpu_open(&o, &lane->ops, st) : NULL;
    t->n++;
    return lane->one != NULL;
}

/* The default comes first. */
static bool open_lanes(Tune *t, int threads, Status *st)
{
    const char *names = t->dtype == DTYPE_F32 ? cpu_matmul_providers() : "widen, dot";
    if (t->dtype == DTYPE_BF16) {
        const Ops *ops;
        Backend *b = cpu_open(&(CpuOptions){.threads = threads, .dtype = t->dtype}, &ops, st);
        if (!b) return false;
        if (!strncmp(ops->machine_kind(b), "dot", 3)) names = "dot, widen";
        ops->close(b);
    }
    for (const char *p = names; *p;) {
        size_t length = strcspn(p, ",");
        if (!open_lane(t, p, length, threads, st)) return false;
        p += length + strspn(p + length, ", ");
    }
    return true;
}

static void close_lanes(Tune *t)
{
    for (int i = 0; i < t->n; i++) {
        Lane *l = &t->lanes[i];
        if (l->all) l->ops->close(l->all);
        if (l->one) l->ops->close(l->one);
    }
    t->n = 0;
}

/* ---- one product */

/* `rows` rows from `from` on; the result goes to the same rows of `to`, or to all of dw. */
static void product(const Tune *t, const Lane *l, Backend *b, int op, Shape s, size_t from, size_t rows, float *to)
{
    Mat x = mat_rows((Mat){t->x, t->dtype, ROWS, s.in, s.in, false}, from, rows),
        w = {t->w, t->dtype, s.out, s.in, s.in, false};
    Mat dy = mat_rows(mat_f32(t->dy, ROWS, s.out), from, rows);
    if (op == 0) l->ops->linear_fwd(b, mat_f32(to + from * s.out, rows, s.out), x, w, NULL, false);
    if (op == 1) l->ops->linear_bwd_x(b, mat_f32(to + from * s.in, rows, s.in), dy, w, false);
    if (op == 2) l->ops->linear_bwd_w(b, mat_f32(to, s.out, s.in), NULL, dy, x);
}

/* Bits of rows alone and of a few together, on one thread, are those of all at once on all threads. */
static bool agrees(const Tune *t, const Lane *l, int op, Shape s)
{
    size_t floats = op == 0 ? TEST_ROWS * s.out : op == 1 ? TEST_ROWS * s.in : s.out * s.in;
    static const size_t steps[] = {1, 5, 33, TEST_ROWS};
    memset(t->out, 0, floats * sizeof(float));
    product(t, l, l->all, op, s, 0, TEST_ROWS, t->out);
    for (size_t i = op == 2 ? 3 : 0; i < sizeof steps / sizeof *steps; i++) {
        memset(t->again, 0, floats * sizeof(float));
        for (size_t n = 0; n < TEST_ROWS; n += steps[i])
            product(t, l, l->one, op, s, n, steps[i] < TEST_ROWS - n ? steps[i] : TEST_ROWS - n, t->again);
        if (memcmp(t->out, t->again, floats * sizeof(float))) return false;
    }
    return true;
}

static double seconds_of(const Tune *t, const Lane *l, int op, Shape s, size_t rows)
{
    double start = clock_seconds();
    product(t, l, l->all, op, s, 0, rows, t->out);
    return clock_seconds() - start;
}

/* What came of a provider at a shape. */
typedef struct Trial {
    enum { FITS, DEPENDS, SLOW } verdict; /* SLOW: four times slower than another, and not looked at further */
    double few, many;                     /* fastest seconds of FEW_ROWS and of ROWS */
} Trial;

static void keep_smaller(double *best, double v)
{
    if (*best == 0 || v < *best) *best = v;
}

/* Providers take turns. */
static void try_lanes(const Tune *t, int op, Shape s, Trial trials[PROVIDERS])
{
    double fastest = 0;
    for (int i = 0; i < t->n; i++) {
        trials[i] = (Trial){0};
        for (int k = 0; k < 2; k++) keep_smaller(&trials[i].few, seconds_of(t, &t->lanes[i], op, s, FEW_ROWS));
        keep_smaller(&fastest, trials[i].few);
    }
    for (int i = 0; i < t->n; i++) {
        if (trials[i].few > 4 * fastest) trials[i].verdict = SLOW;
        else if (!agrees(t, &t->lanes[i], op, s)) trials[i].verdict = DEPENDS;
    }
    for (int turn = 0; turn < REPEATS; turn++)
        for (int i = 0; i < t->n; i++) {
            if (trials[i].verdict == SLOW) continue;
            keep_smaller(&trials[i].few, seconds_of(t, &t->lanes[i], op, s, FEW_ROWS));
            keep_smaller(&trials[i].many, seconds_of(t, &t->lanes[i], op, s, ROWS));
        }
}

/* Seconds a row, of few and of many rows: both count alike. */
static double cost(Trial t)
{
    return t.few / FEW_ROWS + t.many / ROWS;
}

static void write_line(Tune *t, const char *isa, int op, Shape s, const char *provider)
{
    if (t->size - t->length < 128) CHECK((t->text = realloc(t->text, t->size = 2 * t->size + 4096)) != NULL);
    t->length += (size_t)snprintf(t->text + t->length, t->size - t->length, "%s %s %s %zu %zu %s\n", isa,
                                  dtype_name(t->dtype), cpu_product_names[op], s.out, s.in, provider);
}

static void tune_shape(Tune *t, const char *isa, int op, Shape s)
{
    Trial trials[PROVIDERS];
    int best = 0;
    try_lanes(t, op, s, trials);
    printf("%-4s %-5s %6zu x %5zu", dtype_name(t->dtype), cpu_product_names[op], s.out, s.in);
    for (int i = 0; i < t->n; i++) {
        double gflops = trials[i].many > 0 ? 2.0 * ROWS * (double)(s.out * s.in) / trials[i].many / 1e9 : 0;
        if (trials[i].verdict == SLOW) printf("%10s ", "slow");
        else printf("%10.1f%s", gflops, trials[i].verdict == DEPENDS ? "*" : " ");
        if (trials[i].verdict == FITS && cost(trials[i]) < cost(trials[best]) * (best ? 1 : WORTH_IT)) best = i;
    }
    printf("   %s\n", t->lanes[best].name);
    fflush(stdout);
    write_line(t, isa, op, s, t->lanes[best].name);
}

static bool tune_type(Tune *t, const Bench *b, DType dtype, Status *st)
{
    t->dtype = dtype;
    open_data(t);
    bool ok = open_lanes(t, b->machine.options.threads, st);
    if (ok) printf("\n%-25s", "GFLOP/s at 1,024 rows");
    for (int i = 0; i < t->n && ok; i++) printf("%10s ", t->lanes[i].name);
    if (ok) printf("   chosen (*: rows depend on the batch)\n");
    for (int op = 0; op < OPS && ok; op++)
        for (int i = 0; i < t->n_shapes && ok; i++) {
            tune_shape(t, cpu_isa(b->backend), op, t->shapes[i]);
            if (interrupted) ok = fail(st, "interrupted");
        }
    close_lanes(t);
    float *blocks[] = {t->x, t->w, t->dy, t->out, t->again};
    for (int i = 0; i < 5; i++) memory_free(blocks[i]);
    return ok;
}

/* Known before minutes are spent. */
static bool can_write(const char *path, Status *st)
{
    Durable d;
    if (!durable_begin(&d, path, st)) return false;
    FILE *f = fopen(d.temp, "wb");
    if (!f) return durable_fail(path, errno, st);
    fclose(f);
    durable_abandon(&d);
    return true;
}

bool bench_tune(Bench *b, const char *path, const char *model, Status *st)
{
    if (!can_write(path, st)) return false;
    Tune *t = calloc(1, sizeof *t);
    CHECK(t != NULL);
    int n;
    const BenchCase *cases = bench_cases(&n);
    for (int i = 0; i < n; i++)
        if (cases[i].model && (!model || !strcmp(model, cases[i].model))) add_model(t, cases[i].model);
    bool ok = tune_type(t, b, DTYPE_F32, st) && tune_type(t, b, DTYPE_BF16, st) &&
              run_write_file(path, t->text, t->length, st);
    if (ok) printf("\n%s: use it with `--matmul %s`\n", path, path);
    free(t->text);
    free(t);
    return ok;
}
