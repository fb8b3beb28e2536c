/* A table of ops that takes the time of another. */
#include "core/ops/ops_clocked.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/ops/op_costs.h"

enum { PHASES = 16 };

struct OpTimes {
    const Ops *ops;
    Backend *inner;
    Ops table;  /* this clock's */
    void *here; /* an array of the device, for the costs that are read out of it */
    size_t here_bytes;
    OpTime list[OP_TIMES]; /* the last one takes what has no entry of its own */
    int n;
    OpTime fastest[OP_TIMES]; /* of the runs before; as many as there are */
    int n_fastest;
    OpPhase phases[PHASES];
    int n_phases;
    const char *phase; /* whose clock runs since phase_start; NULL: none */
    double phase_start;
};

static OpTimes *of(const Backend *b)
{
    return (OpTimes *)(uintptr_t)b;
}

static void note(OpTimes *t, const char *op, double start, OpCost c)
{
    double seconds = clock_seconds() - start;
    OpTime *e = t->list, *end = t->list + t->n;
    while (e < end && (e->op != op || e->out != c.out || e->in != c.in)) e++;
    if (e == end && t->n < OP_TIMES) {
        *e = (OpTime){.op = op, .out = c.out, .in = c.in};
        t->n++;
    } else if (e == end) {
        e = &t->list[OP_TIMES - 1];
        e->op = "other";
        e->out = e->in = 0;
    }
    e->calls++;
    e->seconds += seconds;
    e->flops += c.flops;
    e->read += 4 * c.read;
    e->written += 4 * c.written;
}

/* bytes of the device's memory; valid until the next call. */
static const void *here(OpTimes *t, const void *device, size_t bytes)
{
    if (t->ops->device.host) return device;
    if (bytes > t->here_bytes) {
        free(t->here);
        t->here = malloc(t->here_bytes = bytes);
        CHECK(t->here != NULL);
    }
    t->ops->device.download(t->inner, t->here, device, bytes);
    return t->here;
}

#define HERE(array, n) here(t_, array, (size_t)(n) * sizeof *(array))
#define OP(op, parameters, arguments, cost)                                                                            \
    static void clocked_##op parameters                                                                                \
    {                                                                                                                  \
        OpTimes *t_ = of(b);                                                                                           \
        double start_ = clock_seconds();                                                                               \
        b = t_->inner;                                                                                                 \
        t_->ops->op arguments;                                                                                         \
        t_->ops->device.wait(b, 0);                                                                                    \
        note(t_, #op, start_, cost);                                                                                   \
    }
#include "core/ops/op_costs_list.h"
#undef OP
#undef HERE

/* Memory is the other backend's, reached by way of the clock's address. */
static void *clocked_alloc(Backend *b, size_t bytes)
{
    return of(b)->ops->device.alloc(of(b)->inner, bytes);
}

static void clocked_free(Backend *b, void *block)
{
    of(b)->ops->device.free(of(b)->inner, block);
}

static void *clocked_range_open(Backend *b, size_t bytes)
{
    return of(b)->ops->device.range_open(of(b)->inner, bytes);
}

static bool clocked_range_use(Backend *b, void *range, size_t upto)
{
    return of(b)->ops->device.range_use(of(b)->inner, range, upto);
}

static void clocked_range_close(Backend *b, void *range, size_t bytes)
{
    of(b)->ops->device.range_close(of(b)->inner, range, bytes);
}

static void clocked_note(Backend *b, const void *p, size_t bytes)
{
    if (of(b)->ops->device.note) of(b)->ops->device.note(of(b)->inner, p, bytes);
}

static void clocked_upload(Backend *b, void *to, const void *from, size_t bytes)
{
    of(b)->ops->device.upload(of(b)->inner, to, from, bytes);
}

static void clocked_download(Backend *b, void *to, const void *from, size_t bytes)
{
    of(b)->ops->device.download(of(b)->inner, to, from, bytes);
}

static void clocked_device_copy(Backend *b, void *to, const void *from, size_t bytes)
{
    of(b)->ops->device.copy(of(b)->inner, to, from, bytes);
}

static uint64_t clocked_download_later(Backend *b, void *to, const void *from, size_t bytes)
{
    return of(b)->ops->device.download_later(of(b)->inner, to, from, bytes);
}

static void clocked_wait(Backend *b, uint64_t ticket)
{
    of(b)->ops->device.wait(of(b)->inner, ticket);
}

static void *clocked_host_new(Backend *b, size_t bytes)
{
    return of(b)->ops->device.host_new(of(b)->inner, bytes);
}

static void clocked_host_free(Backend *b, void *p)
{
    of(b)->ops->device.host_free(of(b)->inner, p);
}

/* As the other backend's, but for what takes the backend. */
static Device clocked_device(const Device *d)
{
    return (Device){.host = d->host,
                    .slice_rows = d->slice_rows,
                    .late = d->late,
                    .in_flight = d->in_flight,
                    .alloc = clocked_alloc,
                    .free = clocked_free,
                    .range_open = clocked_range_open,
                    .range_use = clocked_range_use,
                    .range_close = clocked_range_close,
                    .note = d->note ? clocked_note : NULL,
                    .upload = clocked_upload,
                    .download = clocked_download,
                    .copy = clocked_device_copy,
                    .download_later = clocked_download_later,
                    .wait = clocked_wait,
                    .host_new = clocked_host_new,
                    .host_free = clocked_host_free};
}

static const char *clocked_describe(const Backend *b)
{
    return of(b)->ops->describe(of(b)->inner);
}

static bool clocked_rows_independent(const Backend *b)
{
    return of(b)->ops->rows_independent(of(b)->inner);
}

static const char *clocked_machine_kind(const Backend *b)
{
    return of(b)->ops->machine_kind(of(b)->inner);
}

static bool clocked_fault(Backend *b, Status *st)
{
    return of(b)->ops->fault(of(b)->inner, st);
}

static void clocked_weights_changed(Backend *b)
{
    of(b)->ops->weights_changed(of(b)->inner);
}

static void clocked_weights_freed(Backend *b)
{
    of(b)->ops->weights_freed(of(b)->inner);
}

static bool clocked_keep_packed(Backend *b, bool keep)
{
    return of(b)->ops->keep_packed(of(b)->inner, keep);
}

static size_t clocked_bytes(const Backend *b)
{
    return of(b)->ops->bytes(of(b)->inner);
}

static void clocked_close(Backend *b)
{
    of(b)->ops->close(of(b)->inner);
    free(of(b)->here);
    free(of(b));
}

static const Ops clocked_ops = {.abi = OPS_ABI,
#define ENTRY(op) .op = clocked_##op,
                                OPS(ENTRY)
#undef ENTRY
};

OpTimes *ops_clocked_open(const Ops **ops, Backend **b)
{
    CHECK_EQ((*ops)->abi, OPS_ABI);
    OpTimes *t = calloc(1, sizeof *t);
    CHECK(t != NULL);
    t->ops = *ops;
    t->inner = *b;
    t->table = clocked_ops;
#define AS_INNER(op)                                                                                                   \
    if (!t->ops->op) t->table.op = NULL;
    OPS_FUSED(AS_INNER)
#undef AS_INNER
    t->table.device = clocked_device(&t->ops->device);
    *ops = &t->table;
    *b = (Backend *)t;
    return t;
}

void ops_clocked_reset(OpTimes *t)
{
    t->n = t->n_fastest = 0;
}

void ops_clocked_next_run(OpTimes *t)
{
    for (int i = 0; i < t->n; i++)
        if (i >= t->n_fastest || t->list[i].seconds < t->fastest[i].seconds) t->fastest[i] = t->list[i];
    if (t->n > t->n_fastest) t->n_fastest = t->n;
    t->n = 0;
}

void ops_clocked_fastest(OpTimes *t)
{
    t->n = t->n_fastest;
    memcpy(t->list, t->fastest, (size_t)t->n * sizeof *t->list);
}

const OpTime *ops_clocked_list(const OpTimes *t, int *n)
{
    *n = t->n;
    return t->list;
}

static int longest_first(const void *a, const void *b)
{
    double x = ((const OpTime *)a)->seconds, y = ((const OpTime *)b)->seconds;
    return x < y ? 1 : x > y ? -1 : 0;
}

int ops_clocked_by_op(const OpTimes *t, OpTime *out, int max)
{
    int n = 0;
    for (int i = 0; i < t->n; i++) {
        int at = 0;
        while (at < n && strcmp(out[at].op, t->list[i].op)) at++;
        if (at == max) continue;
        if (at == n) out[n++] = (OpTime){.op = t->list[i].op};
        out[at].calls += t->list[i].calls;
        out[at].seconds += t->list[i].seconds;
        out[at].flops += t->list[i].flops;
        out[at].read += t->list[i].read;
        out[at].written += t->list[i].written;
    }
    qsort(out, (size_t)n, sizeof *out, longest_first);
    return n;
}

static void phase_add(OpTimes *t, const char *name, double seconds)
{
    int i = 0;
    while (i < t->n_phases && strcmp(t->phases[i].name, name)) i++;
    if (i == PHASES) return;
    if (i == t->n_phases) t->phases[t->n_phases++] = (OpPhase){.name = name};
    t->phases[i].seconds += seconds;
}

const char *ops_clocked_phase(OpTimes *t, const char *phase)
{
    if (!t) return NULL;
    const char *before = t->phase;
    double now = clock_seconds();
    if (before) phase_add(t, before, now - t->phase_start);
    t->phase = phase;
    t->phase_start = now;
    return before;
}

const OpPhase *ops_clocked_phases(OpTimes *t, int *n)
{
    ops_clocked_phase(t, ops_clocked_phase(t, NULL));
    *n = t->n_phases;
    return t->phases;
}
