/* From a budget to a plan: the ring first, then as many experts as fit, spread evenly. */
#include "recipes/model/placing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "cpu/memory_need.h"

enum { LEAST_SLOTS = 4, SLOTS = 16 };

bool placing_fits(const Machine *machine, const LoadedModel *m, size_t work)
{
    const ParamTable *t = &m->table;
    size_t bytes = weight_bytes_sum(weight_bytes(t, t->total, machine->options.dtype)) + work;
    for (int i = 0; i < t->n && machine->cpu; i++) {
        const Param *p = &t->params[i];
        size_t rows = p->ndim == 2 && (p->kind != PARAM_EMBED || m->config.tied) ? params_joined_rows(t, i) : 0;
        if (rows)
            bytes += cpu_packed_bytes(machine->cpu, p->split ? machine->options.dtype : DTYPE_F32, rows, p->cols, true);
    }
    return bytes <= machine->memory;
}

/* Weights that pass are multiplied with as they lie. */
static bool multiplies_unpacked(const Machine *machine, const LoadedModel *m, Status *st)
{
    if (!machine->cpu)
        return fail(
            st,
            "%s does not fit into the memory given, and experts pass through it on the CPU only: leave --device out",
            m->path);
    const ParamTable *t = &m->table;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        size_t rows = p->ndim == 2 && p->kind != PARAM_EMBED ? params_joined_rows(t, i) : 0;
        if (rows && cpu_packed_bytes(machine->cpu, p->split ? machine->options.dtype : DTYPE_F32, rows, p->cols, false))
            return fail(
                st,
                "--matmul %s makes a copy of every weight, and those of %s do not fit into memory: leave it out or "
                "raise --memory",
                machine->options.matmul ? machine->options.matmul : "", m->path);
    }
    return true;
}

/* Whether an expert may pass: it is not trained. */
static bool may_pass(const ParamTable *t, int part)
{
    const Part *its = &t->parts[part];
    for (int i = 0; i < its->n; i++)
        if (t->params[its->first + i].apart) return false;
    return its->expert >= 0;
}

static void measure(PlacingPlan *plan, const LoadedModel *m, const PartSource *s)
{
    const ParamTable *t = &m->table;
    plan->slot = pool_slot_bytes(t, s);
    for (int i = 0, layer = -1; i < t->n_parts; i++) {
        if (!may_pass(t, i)) {
            plan->trunk += pool_part_bytes(s, i);
            continue;
        }
        plan->experts++;
        plan->disk_pass += s->bytes(s, i);
        plan->layers += t->parts[i].layer != layer;
        layer = t->parts[i].layer;
    }
}

/* Every layer's share of the pinned experts, spread over those of its ids that may pass; the others stay anyway. */
static void choose_pinned(const PlacingPlan *plan, const ParamTable *t, uint8_t *pinned)
{
    int left = plan->pinned, layers = plan->layers;
    for (int i = 0; i < t->n_parts; i++) {
        if (t->parts[i].expert != 0) continue;
        int n = 0, own = 0;
        for (; t->parts[i + own].layer == t->parts[i].layer; own++) {
            bool passes = may_pass(t, i + own);
            n += passes;
            pinned[i + own] = !passes;
        }
        if (!n) continue;
        int share = (left + layers - 1) / layers;
        if (share > n) share = n;
        /* The k-th of them is number k n / share. */
        for (int e = 0, number = 0, k = 0; e < own; e++) {
            if (!may_pass(t, i + e)) continue;
            if (k < share && number == (int)((long)k * n / share)) pinned[i + e] = 1, k++;
            number++;
        }
        left -= share;
        layers--;
    }
}

/* "2.63 GB", "41 MB". */
static const char *amount(char out[32], size_t bytes)
{
    if (bytes < 1000000000u) snprintf(out, 32, "%.0f MB", (double)bytes / 1e6);
    else snprintf(out, 32, "%.2f GB", (double)bytes / 1e9);
    return out;
}

int placing_chunk(const Machine *machine)
{
    enum { FEW = 1024 }; /* the head's weights are read once for so many rows */
    int chunk = machine->options.chunk;
    return chunk && chunk < FEW ? chunk : FEW;
}

size_t placing_choose(PlacingPlan *plan)
{
    size_t least = plan->work + plan->trunk + plan->staging, all = least + plan->slot * (size_t)plan->experts;
    plan->slots = 2;
    plan->pinned = plan->experts;
    if (plan->experts && all + 2 * plan->slot > plan->budget) {
        plan->slots = LEAST_SLOTS;
        plan->pinned = 0;
        least += plan->slot * LEAST_SLOTS;
        if (least <= plan->budget) {
            size_t more = (plan->budget - least) / plan->slot;
            int ring = (int)(more / 2 < SLOTS - LEAST_SLOTS ? more / 2 : SLOTS - LEAST_SLOTS);
            plan->slots += ring;
            more -= (size_t)ring;
            plan->pinned = more < (size_t)plan->experts ? (int)more : plan->experts;
        }
    } else {
        least = all + 2 * plan->slot * (plan->experts > 0);
    }
    plan->total = plan->work + plan->trunk + plan->staging + plan->slot * (size_t)(plan->slots + plan->pinned);
    return least;
}

size_t placing_margin(size_t budget)
{
    return budget / 100;
}

size_t placing_least(size_t bytes, int margins)
{
    bytes += machine_own_memory_in_steps(MACHINE_NOISE) - machine_own_memory_in_steps(0);
    return bytes / (size_t)(100 - margins) * 100 + 101; /* margins are rounded down, each */
}

const char *placing_gb(char out[32], size_t bytes)
{
    size_t step = bytes < 1000000000u ? 100000 : 1000000;
    bytes = (bytes + step) / step * step; /* at least a byte more: a decimal fraction may lie below itself in binary */
    snprintf(out, 32, "%.*f", step == 100000 ? 4 : 3, (double)bytes / 1e9);
    return out;
}

static bool choose(PlacingPlan *plan, const LoadedModel *m, Status *st)
{
    size_t least = placing_choose(plan);
    if (least <= plan->budget) return true;
    char needs[32], trunk[32], work[32], ring[32], budget[32], gb[32];
    return fail(
        st,
        "%s needs %s at the very least (%s for what every token uses, %s to compute, %s for a ring of %d experts), "
        "the budget is %s: --memory %s is the least",
        m->path, amount(needs, least), amount(trunk, plan->trunk), amount(work, plan->work + plan->staging),
        amount(ring, plan->slot * (size_t)plan->slots), plan->slots, amount(budget, plan->budget),
        placing_gb(gb, placing_least(least - placing_margin(plan->budget), 1)));
}

/* Of the experts that pass: a forward reads all of them; its backward again, but for those of the last layer that the ring still
 * holds at the turn (docs/placement.md). */
static void count_reads(PlacingPlan *plan, const LoadedModel *m, const PartSource *s, const uint8_t *pinned)
{
    const ParamTable *t = &m->table;
    int last = -1, of_last = 0, slice = 0, used = 0; /* used: slots by the slice that reads most */
    for (int i = 0; i < t->n_parts; i++)
        if (t->parts[i].expert >= 0) last = t->parts[i].layer;
    for (int i = 0; i < t->n_parts; i++) {
        if (t->parts[i].expert < 0 || t->parts[i].layer != last) continue;
        if (t->parts[i].expert % (plan->slots / 2) == 0) slice = 0;
        slice += !pinned[i];
        of_last += !pinned[i];
        if (slice > used) used = slice;
    }
    int kept = of_last <= plan->slots ? of_last : plan->slots - used;
    plan->pass = plan->step = (PlacingReads){0};
    for (int i = t->n_parts - 1; i >= 0; i--) {
        if (t->parts[i].expert < 0 || pinned[i]) continue;
        unsigned visits = t->parts[i].layer == last && kept-- > 0 ? 1 : 2;
        plan->pass.experts++;
        plan->pass.bytes += s->bytes(s, i);
        plan->step.experts += visits;
        plan->step.bytes += visits * s->bytes(s, i);
    }
}

bool placing_fill(PlacingPlan *plan, const Machine *machine, const LoadedModel *m, const PlacingSizes *s, Status *st)
{
    *plan = (PlacingPlan){.work = s->work + placing_margin(machine->memory), .budget = machine->memory};
    if (!multiplies_unpacked(machine, m, st)) return false;
    plan->staging = s->staging;
    measure(plan, m, s->source);
    return true;
}

/* Of a plan whose experts in memory were counted: which, and what is then read. */
uint8_t *placing_pinned(PlacingPlan *plan, const LoadedModel *m, const PartSource *s)
{
    const char *slots = getenv("R1_RING");
    uint8_t *pinned = calloc((size_t)m->table.n_parts, 1);
    CHECK(pinned);
    if (slots && atoi(slots) >= 2) plan->slots = atoi(slots);
    choose_pinned(plan, &m->table, pinned);
    count_reads(plan, m, s, pinned);
    return pinned;
}

bool placing_open(Placing *out, PlacingPlan *plan, const Machine *machine, const LoadedModel *m, Policy *p, size_t work,
                  Status *st)
{
    Form form = p->engine.dtype == DTYPE_BF16 ? FORM_BF16 : FORM_F32;
    const char *strict = getenv("R1_STRICT");
    *out = (Placing){.reader = reader_open(m, form, PLACING_THREADS, st)};
    PlacingSizes sizes = {NULL, 0, work};
    if (out->reader) sizes.source = reader_source(out->reader), sizes.staging = reader_memory(out->reader);
    bool ok = out->reader && placing_fill(plan, machine, m, &sizes, st) && choose(plan, m, st);
    if (ok) {
        uint8_t *pinned = placing_pinned(plan, m, sizes.source);
        PoolPlan pool = {.slots = plan->slots,
                         .pinned = pinned,
                         .strict = strict && strcmp(strict, "0") != 0,
                         .trained = p->weights};
        out->plan = *plan;
        out->pool = pool_open(&m->table, &p->w, form, reader_source(out->reader), &pool, st);
        ok = out->pool != NULL;
        out->opening = reader_notes(out->reader).seconds;
        free(pinned);
    }
    if (!ok) placing_close(out);
    return ok;
}

size_t placing_estimate(const ParamTable *t, DType dtype)
{
    enum { PAGE = 4096 };
    size_t stays = 0, slot = 0, count = 0;
    for (int i = 0; i < t->n_parts; i++) {
        size_t bytes = 0;
        for (int k = 0; k < t->parts[i].n; k++) {
            const Param *p = &t->params[t->parts[i].first + k];
            /* What is not joined begins at a cache line. */
            if (!p->apart) bytes += param_bytes(p, dtype == DTYPE_BF16 ? FORM_BF16 : FORM_F32) + 64;
        }
        bytes = (bytes + PAGE - 1) / PAGE * PAGE +
                2 * PAGE; /* an expert lies in the whole pages around it, in two runs at most */
        if (!may_pass(t, i)) stays += bytes;
        else if (bytes > slot) slot = bytes, count = t->parts[i].count;
    }
    return stays + (slot ? LEAST_SLOTS * slot + PLACING_THREADS * (count * sizeof(float) + 4 * PAGE) : 0);
}

void placing_close(Placing *p)
{
    pool_close(p->pool);
    reader_close(p->reader);
    *p = (Placing){0};
}

void placing_describe(const PlacingPlan *plan, const Placing *p, char *out, size_t size)
{
    ReaderNotes notes = reader_notes(p->reader);
    int passing = plan->experts - plan->pinned;
    char budget[32], trunk[32], pinned[32], pass[32];
    int n = snprintf(out, size, "of %s, %s hold what every token uses", amount(budget, plan->budget),
                     amount(trunk, plan->trunk));
    if (plan->experts)
        n += snprintf(out + n, size - (size_t)n, " and %s hold %d of %d experts",
                      amount(pinned, plan->slot * (size_t)plan->pinned), plan->pinned, plan->experts);
    if (passing > 0)
        n += snprintf(out + n, size - (size_t)n, "; the other %d stay on disk (%s a pass) and go through a ring of %d",
                      passing, amount(pass, (size_t)((double)plan->disk_pass * passing / plan->experts)), plan->slots);
    if (passing > 0 && notes.buffered)
        snprintf(out + n, size - (size_t)n, " (through the page cache: this file system refuses direct reads)");
}

double placing_disk_rate(const Placing *p)
{
    double seconds = reader_notes(p->reader).seconds - p->opening;
    return seconds > 0 ? (double)pool_counts(p->pool).bytes * PLACING_THREADS / seconds : 0;
}

void placing_summary(const Placing *p, char *out, size_t size)
{
    static const char *const words[] = {"passes", "steps", "decode steps"};
    PoolCounts c = pool_counts(p->pool);
    int n = snprintf(out, size,
                     "read %ld experts, %.2f GB at %.2f GB/s, waited %.1f s for the disk; %ld of %ld were in memory",
                     c.reads, (double)c.bytes / 1e9, placing_disk_rate(p) / 1e9, c.waited, c.hits, c.needed);
    for (int k = SWEEP_FORWARD; k <= SWEEP_DECODE; k++)
        if (c.sweeps[k].n && n < (int)size)
            n += snprintf(out + n, size - (size_t)n, "; %ld %s of %.3g s", c.sweeps[k].n, words[k],
                          c.sweeps[k].seconds / (double)c.sweeps[k].n);
}
