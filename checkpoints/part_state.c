/* Parts of a parameter table as records of a state file. */
#include "checkpoints/part_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "checkpoints/state_queue.h"
#include "core/base/check.h"

/* A record: a part's trained weights with its moments; its reference; or all selection biases (part -1). */
typedef struct Place {
    int part;
    size_t base, count; /* its run of the state blocks */
    size_t moment;      /* bytes of a moment */
} Place;

/* Room for a part's weights, then moments. Two take turns: while one is updated, the other's part is written and the next one's
 * moments are read. */
typedef struct Slab {
    void *memory;
    int record; /* whose moments are there, or on their way; -1: nobody's */
    int64_t job;
} Slab;

enum { SLABS = 2 };

struct PartState {
    StateStore store;
    StateFile *file;
    const ParamTable *t;
    const WeightBlock *weights;
    StateRecord *records;
    Place *places;
    int n, trained; /* records; of them those with moments, the first ones */
    int *record_of; /* [parts], -1: nothing of it is trained */
    Slab slabs[SLABS];
    int now; /* the slab that is updated */
    StateQueue *queue;
    FileBlock *block; /* of the weights; NULL: in memory */
};

static size_t pages(size_t bytes)
{
    return (bytes + STATE_PAGE - 1) / STATE_PAGE * STATE_PAGE;
}

/* Of one moment: v begins at a whole vector. */
static size_t aligned(size_t bytes)
{
    return (bytes + MOMENT_ALIGN - 1) / MOMENT_ALIGN * MOMENT_ALIGN;
}

static bool is_bias(const Param *p)
{
    return p->chosen && !p->trained;
}

static bool part_trains(const ParamTable *t, int part)
{
    for (int i = 0; i < t->parts[part].n; i++)
        if (t->params[t->parts[part].first + i].trained) return true;
    return false;
}

static void name_part(const ParamTable *t, int part, const char *what, char name[sizeof((StateRecord *)0)->name])
{
    const Part *p = &t->parts[part];
    const int L = t->L;
    size_t size = sizeof((StateRecord *)0)->name;
    if (p->expert >= 0) snprintf(name, size, "%slayer %d, expert %d", what, p->layer, p->expert);
    else if (p->layer < 0) snprintf(name, size, "%sthe embedding", what);
    else if (p->layer < L) snprintf(name, size, "%slayer %d", what, p->layer);
    else snprintf(name, size, p->layer == L ? "%sthe final norm and the head" : "%sthe adapters", what);
}

static void add_record(PartState *s, int part, bool moments, const char *what)
{
    StateRecord *r = &s->records[s->n];
    Place place = {.part = part};
    place.base = params_part_state(s->t, part, &place.count);
    params_part_moments(s->t, part, &place.moment);
    name_part(s->t, part, what, r->name);
    r->bytes[STATE_WEIGHTS] = place.count * sizeof(float);
    r->bytes[STATE_MOMENTS] = moments ? 2 * aligned(place.moment) : 0;
    s->places[s->n++] = place;
}

static void add_biases(PartState *s, const char *name)
{
    StateRecord *r = &s->records[s->n];
    for (int i = 0; i < s->t->n; i++)
        if (is_bias(&s->t->params[i])) r->bytes[STATE_WEIGHTS] += s->t->params[i].count * sizeof(float);
    if (!r->bytes[STATE_WEIGHTS]) return;
    snprintf(r->name, sizeof r->name, "%s", name);
    s->places[s->n++] = (Place){.part = -1, .count = r->bytes[STATE_WEIGHTS] / sizeof(float)};
}

static void list_records(PartState *s, bool reference)
{
    const ParamTable *t = s->t;
    size_t most = 2 * (size_t)t->n_parts + 2;
    s->records = calloc(most, sizeof *s->records);
    s->places = calloc(most, sizeof *s->places);
    s->record_of = malloc(((size_t)t->n_parts + 1) * sizeof *s->record_of);
    CHECK(s->records && s->places && s->record_of);
    for (int part = 0; part < t->n_parts; part++) {
        s->record_of[part] = part_trains(t, part) ? s->n : -1;
        if (s->record_of[part] >= 0) add_record(s, part, true, "");
    }
    s->trained = s->n;
    add_biases(s, "selection biases");
    if (!reference) return;
    for (int part = 0; part < t->n_parts; part++)
        if (s->record_of[part] >= 0) add_record(s, part, false, "the reference of ");
    add_biases(s, "selection biases of the reference");
}

static size_t slab_bytes(const PartState *s)
{
    size_t most = 0;
    for (int i = 0; i < s->n; i++) {
        size_t bytes = pages(s->records[i].bytes[0]) + pages(s->records[i].bytes[1]);
        if (bytes > most) most = bytes;
    }
    return most;
}

uint64_t part_state_disk(const ParamTable *t, bool reference, uint64_t *written)
{
    PartState s = {.t = t};
    list_records(&s, reference);
    uint64_t bytes = state_file_size(s.records, s.n);
    *written = state_file_size(s.records, s.trained) / 2;
    free(s.records);
    free(s.places);
    free(s.record_of);
    return bytes;
}

size_t part_state_memory(const ParamTable *t)
{
    PartState s = {.t = t};
    list_records(&s, false);
    size_t bytes = SLABS * slab_bytes(&s);
    free(s.records);
    free(s.places);
    free(s.record_of);
    return bytes;
}

/* ---- Copies between a block and a record ---- */

/* Every parameter of a record, with its place in it. states: the block is one of state_total elements. */
typedef void CopyParam(const WeightBlock *b, const Param *p, size_t at, float *plane);
static void each_param(const PartState *s, int record, const WeightBlock *block, bool states, float *plane,
                       CopyParam *copy)
{
    const ParamTable *t = s->t;
    const Place *at = &s->places[record];
    const Part all = {.first = 0, .n = t->n}, *part = at->part < 0 ? &all : &t->parts[at->part];
    size_t next = 0;
    for (int i = part->first; i < part->first + part->n; i++) {
        const Param *p = &t->params[i];
        if (at->part < 0 ? !is_bias(p) : !p->trained) continue;
        copy(block, p, states ? p->state : param_place(p), plane + (at->part < 0 ? next : p->state - at->base));
        next += p->count;
    }
}

static void to_plane(const WeightBlock *b, const Param *p, size_t at, float *plane)
{
    if (!weight_split(b, p)) memcpy(plane, weight_at(b, p, at), p->count * sizeof *plane);
    for (size_t r = 0; weight_split(b, p) && r < p->rows; r++) {
        uint16_t *row = (uint16_t *)(plane + r * p->cols);
        memcpy(row, b->high + at + r * p->cols, p->cols * sizeof *row);
        memcpy(row + p->cols, b->low + at + r * p->cols, p->cols * sizeof *row);
    }
}

static void to_block(const WeightBlock *b, const Param *p, size_t at, float *plane)
{
    if (!weight_split(b, p)) memcpy(weight_at(b, p, at), plane, p->count * sizeof *plane);
    for (size_t r = 0; weight_split(b, p) && r < p->rows; r++) {
        const uint16_t *row = (const uint16_t *)(plane + r * p->cols);
        memcpy(b->high + at + r * p->cols, row, p->cols * sizeof *row);
        memcpy(b->low + at + r * p->cols, row + p->cols, p->cols * sizeof *row);
    }
}

static bool write_weights(PartState *s, int record, const WeightBlock *block, bool states, Status *st)
{
    float *slab = s->slabs[0].memory;
    s->slabs[0].record = -1;
    memset(slab, 0, s->records[record].bytes[STATE_WEIGHTS]);
    each_param(s, record, block, states, slab, to_plane);
    return state_file_write(s->file, record, (const void *const[]){slab, NULL}, st);
}

static int first_of_reference(const PartState *s)
{
    return s->trained + (s->trained < s->n && s->places[s->trained].part < 0);
}

/* Records that hold weights alone: of the policy (the biases) or of the reference. */
static bool write_alone(PartState *s, bool reference, const WeightBlock *block, Status *st)
{
    int split = first_of_reference(s);
    for (int i = reference ? split : s->trained; i < (reference ? s->n : split); i++)
        if (!write_weights(s, i, block, reference, st)) return false;
    return true;
}

bool part_state_rest(PartState *s, const WeightBlock *reference, Status *st)
{
    return state_queue_drain(s->queue, st) && write_alone(s, false, s->weights, st) &&
           (!reference || write_alone(s, true, reference, st));
}

bool part_state_has_reference(const PartState *s)
{
    int first = first_of_reference(s);
    return first < s->n && state_file_has(s->file, first);
}

bool part_state_load(PartState *s, const WeightBlock *reference, Status *st)
{
    int split = first_of_reference(s);
    float *slab = s->slabs[0].memory;
    s->slabs[0].record = -1;
    for (int i = 0; i < s->n; i++) {
        if (!state_file_has(s->file, i) || (i >= split && !reference->plain)) continue;
        if (!state_file_read(s->file, i, STATE_WEIGHTS, slab, st)) return false;
        each_param(s, i, i < split ? s->weights : reference, i >= split, slab, to_block);
        if (i < split) file_block_done(s->block, s->records[i].bytes[STATE_WEIGHTS]);
    }
    return true;
}

/* ---- The store ---- */

static PartState *state_of(StateStore *store)
{
    return (PartState *)(void *)store;
}

static void *moments_in(const PartState *s, const Slab *slab)
{
    return (char *)slab->memory + pages(s->records[slab->record].bytes[STATE_WEIGHTS]);
}

static void read_into(PartState *s, Slab *slab, int record)
{
    slab->record = record;
    slab->job = state_queue_read(s->queue, record, STATE_MOMENTS, moments_in(s, slab));
}

/* The queue works in order: what a slab held before is written when it is read into. */
static bool take(StateStore *store, int part, void **m, void **v, Status *st)
{
    PartState *s = state_of(store);
    int record = s->record_of[part];
    CHECK(record >= 0);
    s->now = (s->now + 1) % SLABS;
    Slab *slab = &s->slabs[s->now], *other = &s->slabs[(s->now + 1) % SLABS];
    if (slab->record != record) read_into(s, slab, record);
    if (!state_queue_wait(s->queue, slab->job, st)) return false;
    if (record + 1 < s->trained) read_into(s, other, record + 1);
    *m = moments_in(s, slab);
    *v = (char *)*m + aligned(s->places[record].moment);
    return true;
}

static bool give(StateStore *store, int part, Status *st)
{
    PartState *s = state_of(store);
    int record = s->record_of[part];
    Slab *slab = &s->slabs[s->now];
    CHECK(slab->record == record);
    memset(slab->memory, 0, s->records[record].bytes[STATE_WEIGHTS]);
    each_param(s, record, s->weights, false, slab->memory, to_plane);
    file_block_done(s->block, s->records[record].bytes[STATE_WEIGHTS]);
    state_queue_write(s->queue, record, (const void *const[]){slab->memory, moments_in(s, slab)});
    slab->record = -1;
    (void)st; /* what a write meets is said by the next wait */
    return true;
}

static bool open_slabs(PartState *s, Status *st)
{
    size_t bytes = slab_bytes(s);
    for (int i = 0; i < SLABS; i++) {
        Slab *slab = &s->slabs[i];
        slab->record = -1;
        if (posix_memalign(&slab->memory, STATE_PAGE, bytes ? bytes : STATE_PAGE)) slab->memory = NULL;
        if (!slab->memory) return fail(st, "no memory for the state of two parts, %.2f GB each", (double)bytes / 1e9);
        memset(slab->memory, 0, bytes);
    }
    return true;
}

PartState *part_state_open(const char *path, const ParamTable *t, const WeightBlock *weights, bool reference,
                           Status *st)
{
    PartState *s = calloc(1, sizeof *s);
    CHECK(s);
    *s = (PartState){.store = {take, give}, .t = t, .weights = weights};
    list_records(s, reference);
    if (open_slabs(s, st) && (s->file = state_file_open(path, s->records, s->n, st)) &&
        (s->queue = state_queue_open(s->file, st)))
        return s;
    part_state_close(s);
    return NULL;
}

void part_state_close(PartState *s)
{
    if (!s) return;
    state_queue_close(s->queue);
    state_file_close(s->file);
    free(s->records);
    free(s->places);
    free(s->record_of);
    for (int i = 0; i < SLABS; i++) free(s->slabs[i].memory);
    free(s);
}

StateStore *part_state_store(PartState *s)
{
    return &s->store;
}

void part_state_rests(PartState *s, FileBlock *block)
{
    s->block = block;
}

double part_state_waited(const PartState *s)
{
    return state_queue_waited(s->queue);
}

StateFile *part_state_file(PartState *s)
{
    Status said_later = {0}; /* what failed is said by part_state_rest */
    state_queue_drain(s->queue, &said_later);
    return s->file;
}
