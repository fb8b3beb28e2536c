/* The trace recorded, and played by the pool over clocks. */
#include "recipes/plan/simulate.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "checkpoints/part_copy.h"
#include "core/base/check.h"

/* ---- The trace: a keeper that listens to the step on a backend that computes nothing */

typedef struct Recorder {
    PlanWatch watch; /* first: its keeper is what core calls */
    Trace *trace;
    const Rates *rates;
    const ModelConfig *config;
    double tokens;
    double last;        /* seconds that the trace has so far */
    double expert_done; /* when the last expert of the layer was done */
    bool began;         /* the step itself */
    int layer;          /* whose experts are being computed; -1: none's */
} Recorder;

void trace_add(Trace *t, TraceEvent e)
{
    if (t->n == t->size) {
        t->size = 2 * t->size + 64;
        t->events = realloc(t->events, (size_t)t->size * sizeof *t->events);
        CHECK(t->events);
    }
    t->events[t->n++] = e;
}

void trace_free(Trace *t)
{
    free(t->events);
    *t = (Trace){0};
}

/* Seconds of all ops so far. */
static double now(const Recorder *r)
{
    PlanOps *ops = malloc(sizeof *ops);
    CHECK(ops);
    const OpTime *list = ops_clocked_list(r->watch.times, &ops->n);
    memcpy(ops->list, list, (size_t)ops->n * sizeof *list);
    double seconds = rates_seconds(r->rates, ops, r->config, r->tokens);
    free(ops);
    return seconds;
}

/* What the experts of the layer took, once something else comes. */
static void end_experts(Recorder *r)
{
    if (r->layer < 0) return;
    trace_add(r->trace, (TraceEvent){TRACE_EXPERTS, r->layer, r->expert_done - r->last});
    r->last = r->expert_done;
    r->layer = -1;
}

static void end_trunk(Recorder *r)
{
    end_experts(r);
    double at = now(r);
    trace_add(r->trace, (TraceEvent){TRACE_TRUNK, -1, at - r->last});
    r->last = at;
}

static void on_sweep(Keeper *k, Sweep kind)
{
    Recorder *r = (Recorder *)(void *)k;
    if (kind == SWEEP_DECODE || r->began)
        return; /* of completions before the step; of a reference, which is part of it */
    r->began = true;
    *r->trace = (Trace){.sweep = kind, .events = r->trace->events, .size = r->trace->size};
    r->last = 0;
    r->layer = -1;
}

static void on_routed(Keeper *k, int layer, const int32_t *offsets)
{
    Recorder *r = (Recorder *)(void *)k;
    (void)offsets;
    end_trunk(r);
    r->layer = layer;
    r->expert_done = r->last;
}

static void on_need(Keeper *k, int part, int n)
{
    (void)k, (void)part, (void)n;
}

static void on_done(Keeper *k, int part, int n)
{
    Recorder *r = (Recorder *)(void *)k;
    (void)n;
    if (r->watch.table->parts[part].expert >= 0) r->expert_done = now(r);
}

static bool on_fault(Keeper *k, Status *st)
{
    (void)k, (void)st;
    return true;
}

bool trace_record(Trace *out, const Machine *m, const PlanWork *w, const Rates *rates, size_t keep_bytes, Status *st)
{
    *out = (Trace){0};
    Recorder r = {.watch.keeper = {on_sweep, on_routed, on_need, on_done, on_fault, CONFIG_MAX_EXPERTS},
                  .trace = out,
                  .rates = rates,
                  .config = w->config,
                  .tokens = (double)w->sequences * w->length,
                  .layer = -1};
    PlanWork watched = *w;
    PlanOps *ops = malloc(sizeof *ops);
    Beside beside;
    CHECK(ops);
    watched.watch = &r.watch;
    bool ok = plan_beside(&beside, m, &watched, keep_bytes, ops, st);
    if (ok) {
        double all = rates_seconds(rates, ops, w->config, r.tokens);
        end_experts(&r);
        trace_add(out, (TraceEvent){TRACE_TRUNK, -1, all - r.last});
    }
    free(ops);
    return ok;
}

/* ---- A disk that is a clock: reads one after another at the rate that was measured with all threads */

typedef struct ClockDisk {
    PartSource source; /* first */
    double *ready;     /* [parts] when it is there */
    double now, free, busy, slab, waited;
    int asked;
    const ParamTable *table;
    char *nowhere; /* addresses without memory, of the largest part */
    size_t nowhere_bytes;
} ClockDisk;

static size_t disk_room(const PartSource *s, int part)
{
    (void)s, (void)part;
    return 1;
}

static void disk_start(PartSource *s, int part, void *slot)
{
    ClockDisk *d = (ClockDisk *)(void *)s;
    (void)slot;
    double seconds = d->table->parts[part].expert >= 0 ? d->slab : 0;
    d->free = (d->free > d->now ? d->free : d->now) + seconds;
    d->busy += seconds;
    d->ready[part] = d->free;
    d->asked++;
}

static bool disk_ready(PartSource *s, int part, void **at, Status *st)
{
    ClockDisk *d = (ClockDisk *)(void *)s;
    (void)st;
    part_layout(d->table, part, FORM_F32, d->nowhere, at);
    if (d->ready[part] > d->now) {
        d->waited += d->ready[part] - d->now;
        d->now = d->ready[part];
    }
    return true;
}

static uint64_t disk_bytes(const PartSource *s, int part)
{
    (void)s, (void)part;
    return 1;
}

/* ---- Playing */

typedef struct Play {
    ClockDisk disk;
    Pool *pool;
    Weights w;
    const SimulateSetup *s;
    Simulated *out;
} Play;

/* A layer's experts in slices of as many as may be needed at once; busy ones are spread over the ids. */
static void play_experts(Play *p, const TraceEvent *e)
{
    const ModelConfig *c = p->s->config;
    int32_t *offsets = calloc((size_t)c->E + 1, sizeof *offsets);
    CHECK(offsets);
    int busy = p->s->busy < c->E ? p->s->busy : c->E, first = params_part(p->s->table, e->layer, 0);
    for (int i = 0; i < c->E; i++) offsets[i + 1] = offsets[i] + ((i + 1) * busy / c->E > i * busy / c->E);
    double waited = p->disk.waited, began = p->disk.now;
    Keeper *k = p->w.keeper;
    keeper_routed(k, e->layer, offsets);
    for (int i = 0, n; i < c->E; i += n) {
        int rows = 0;
        for (n = 0; i + n < c->E && rows + (offsets[i + n + 1] > offsets[i + n]) <= k->most; n++)
            rows += offsets[i + n + 1] > offsets[i + n];
        double before = i ? p->disk.waited : waited; /* what was read in vain is waited for first */
        keeper_need(k, first + i, n);
        *(i == 0 ? &p->out->waited_first : &p->out->waited_within) += p->disk.waited - before;
        p->disk.now += e->seconds * rows / busy;
        keeper_done(k, first + i, n);
    }
    if (p->out->layers < SIMULATE_LAYERS) {
        p->out->begins[p->out->layers] = began;
        p->out->stalls[p->out->layers++] = p->disk.waited - waited;
    }
    free(offsets);
}

static void play_step(Play *p, const Trace *t)
{
    p->out->layers = 0;
    keeper_sweep(p->w.keeper, t->sweep);
    for (int i = 0; i < t->n; i++) {
        if (t->events[i].kind == TRACE_EXPERTS) play_experts(p, &t->events[i]);
        else p->disk.now += t->events[i].seconds;
        p->out->compute += t->events[i].seconds;
    }
}

bool simulate(Simulated *out, const Trace *t, const SimulateSetup *s, Status *st)
{
    Play p = {.s = s, .out = out};
    *out = (Simulated){0};
    p.disk = (ClockDisk){.source = {disk_room, disk_start, disk_ready, disk_bytes}, .slab = s->slab, .table = s->table};
    p.disk.ready = calloc((size_t)s->table->n_parts, sizeof *p.disk.ready);
    CHECK(p.disk.ready);
    for (int i = 0; i < s->table->n_parts; i++)
        if (s->table->parts[i].count > p.disk.nowhere_bytes) p.disk.nowhere_bytes = s->table->parts[i].count;
    p.disk.nowhere_bytes = (p.disk.nowhere_bytes + 4096) * sizeof(float); /* and the padding between parameters */
    p.disk.nowhere = mmap(NULL, p.disk.nowhere_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    CHECK(p.disk.nowhere != MAP_FAILED);
    p.w = weights_new(s->config, s->table);
    p.pool = pool_open(s->table, &p.w, FORM_F32, &p.disk.source, &s->pool, st);
    bool ok = p.pool != NULL;
    p.disk.now = p.disk.free = p.disk.busy = p.disk.waited = 0; /* what stays was read before */
    p.disk.asked = 0;
    for (int i = 0; i < s->repeats && ok; i++) {
        double began = p.disk.now;
        play_step(&p, t);
        for (int l = 0; l < out->layers; l++) out->begins[l] -= began;
    }
    double n = s->repeats;
    out->seconds = p.disk.now / n;
    out->compute /= n;
    out->waited_first /= n;
    out->waited_within /= n;
    out->disk = p.disk.busy / n;
    out->waited = p.disk.waited / n;
    out->reads = p.disk.asked / n;
    pool_close(p.pool);
    weights_free(&p.w);
    munmap(p.disk.nowhere, p.disk.nowhere_bytes);
    free(p.disk.ready);
    return ok;
}

void simulate_print(const Simulated *s, const Placement *p, const Rates *rates)
{
    enum { WIDE = 72 };
    char strip[WIDE + 1];
    printf("  simulated%s: %.1f s (closed form %.1f); the processor computes %.1f, waits %.1f (%.1f before a layer's "
           "first\n"
           "    experts, %.1f within layers); the disk reads %.0f experts in %.1f\n",
           rates->cpu_assumed || rates->disk_assumed ? ", modelled" : "", s->seconds, p->cost.seconds, s->compute,
           s->waited, s->waited_first, s->waited_within, s->reads, s->disk);
    memset(strip, '#', WIDE);
    strip[WIDE] = 0;
    for (int l = 0; l < s->layers; l++) {
        int from = (int)(s->begins[l] / s->seconds * WIDE + 0.5),
            to = (int)((s->begins[l] + s->stalls[l]) / s->seconds * WIDE + 0.5);
        for (int i = from; i < to && i < WIDE; i++) strip[i] = '.';
    }
    printf("    %s  # computing, . waiting\n", strip);
}
