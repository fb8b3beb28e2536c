/* Global search over kept layers and head chunk; for each the rest of the budget goes to experts. */
#include "recipes/plan/placement.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/block.h"
#include "core/base/check.h"

/* ---- Closed forms */

static size_t interiors(const PlaceModel *m, int kept)
{
    size_t bytes = 0;
    for (int i = 0; i < kept; i++) bytes += m->interior[i];
    return bytes;
}

/* Experts that a visit of all layers reads: those with rows that do not stay. */
static double passing(const PlaceModel *m, const PlacingPlan *fit)
{
    return (fit->experts - fit->pinned) * m->busy / (m->E ? m->E : 1);
}

/* A step of decoding knows a layer's experts when it needs them, so that computing and reading are added. */
static double sampling_seconds(const PlaceModel *m, const PlacingPlan *fit)
{
    const PlaceSampling *s = &m->sampling;
    double read = m->E ? (fit->experts - fit->pinned) * s->busy / m->E * m->slab : 0;
    return s->steps * (s->compute + read);
}

/* One visit of every layer. Reading goes on while a layer's trunk is computed, but no further ahead than the ring. */
static double visit_seconds(const PlaceModel *m, const PlacingPlan *fit, double trunk, double experts)
{
    double layers = fit->layers ? fit->layers : 1, disk = passing(m, fit) * m->slab / layers;
    double behind = trunk / layers - fit->slots * m->slab;
    double reading = disk + (behind > 0 ? behind : 0), computing = (trunk + experts) / layers;
    return layers * (reading > computing ? reading : computing);
}

double placement_seconds(const PlaceModel *m, int kept, int chunk, PlacingPlan *fit)
{
    *fit = m->fit;
    fit->work =
        m->fixed + (m->layers && kept == m->layers ? m->arena_all[chunk] : m->arena_none[chunk] + interiors(m, kept));
    if (placing_choose(fit) > fit->budget) return INFINITY;
    double again = m->layers ? 1 - (double)kept / m->layers : 0;
    double trunk = m->trunk_all + again * (m->trunk_none - m->trunk_all),
           experts = m->experts_all + again * (m->experts_none - m->experts_all);
    double sampling = sampling_seconds(m, fit);
    if (!m->trains) return sampling + visit_seconds(m, fit, trunk, experts);
    return sampling + visit_seconds(m, fit, trunk / 3, experts / 3) +
           visit_seconds(m, fit, trunk * 2 / 3, experts * 2 / 3);
}

bool placement_search(const PlaceModel *m, int *kept, int *chunk, PlacingPlan *fit)
{
    double best = INFINITY;
    *kept = 0;
    *chunk = m->chunks - 1;
    for (int c = 0; c < m->chunks; c++)
        for (int k = m->layers; k >= 0; k--) {
            PlacingPlan trial;
            double seconds = placement_seconds(m, k, c, &trial);
            bool equal = seconds <= best * 1.0000001 && seconds >= best * 0.9999999;
            if (isinf(seconds) || (!isinf(best) && (equal ? trial.pinned <= fit->pinned : seconds > best))) continue;
            best = seconds;
            *fit = trial;
            *kept = k;
            *chunk = c;
        }
    if (!isinf(best)) return true;
    placement_seconds(m, *kept, *chunk, fit);
    return false;
}

/* ---- A work */

static void split_seconds(const Rates *r, const PlanOps *ops, const ModelConfig *c, double tokens, double *trunk,
                          double *experts)
{
    PlanOps of_experts = {.n = 0}, others = {.n = 0};
    for (int i = 0; i < ops->n; i++) {
        PlanOps *to = strncmp(ops->list[i].op, "grouped", 7) ? &others : &of_experts;
        to->list[to->n++] = ops->list[i];
    }
    *trunk = rates_seconds(r, &others, c, tokens);
    *experts = rates_seconds(r, &of_experts, c, tokens);
}

/* The work on a backend that computes nothing, for each chunk with no layer kept and with all. */
static bool measure_work(Placement *out, const Machine *m, const PlanWork *w, const Rates *rates, Status *st)
{
    PlaceModel *p = &out->model;
    PlanOps *ops = malloc(sizeof *ops);
    CHECK(ops);
    bool ok = true;
    double tokens = (double)w->sequences * w->length;
    for (int c = 0; c < p->chunks && ok; c++) {
        Machine with = *m;
        with.options.chunk = p->chunk[c];
        ok = plan_beside(&out->beside, &with, w, 0, ops, st);
        p->arena_none[c] = p->arena_all[c] = out->beside.arena;
        if (c == 0) split_seconds(rates, ops, w->config, tokens, &p->trunk_none, &p->experts_none);
        p->trunk_all = p->trunk_none;
        p->experts_all = p->experts_none;
    }
    for (int c = 0; c < p->chunks && ok && w->trains; c++) {
        Machine with = *m;
        with.options.chunk = p->chunk[c];
        ok = plan_beside(&out->beside, &with, w, SIZE_MAX / 4, ops, st);
        p->arena_all[c] = out->beside.arena;
        if (c == 0) split_seconds(rates, ops, w->config, tokens, &p->trunk_all, &p->experts_all);
    }
    free(ops);
    return ok;
}

/* The completions of every step. n sequences that decode a token each are computed as a forward of n tokens, one alone by the
 * formula of a token. */
static bool measure_sampling(PlaceModel *p, const Machine *m, const PlanWork *w, const Rates *rates, Status *st)
{
    const PlanRollout *r = NULL;
    for (int i = 0; i < w->n_rollouts; i++)
        if (w->rollouts[i].each) r = &w->rollouts[i];
    if (!r) return true;
    PlaceSampling *s = &p->sampling;
    int all = r->prompts * r->samples, slots = all < r->slots ? all : r->slots, tokens = slots > 1 ? slots : 2;
    PlanWork step = {.config = w->config, .sequences = 1, .length = tokens, .predicted = tokens - 1};
    PlanOps *ops = malloc(sizeof *ops);
    Beside beside;
    CHECK(ops);
    bool ok = plan_beside(&beside, m, &step, 0, ops, st);
    if (ok) {
        s->slots = slots;
        s->steps = ceil((double)all / slots) * r->tokens;
        s->busy = rates_busy(w->config, slots);
        s->compute = slots > 1 ? rates_seconds(rates, ops, w->config, slots) : rates_token_seconds(rates, ops);
    }
    free(ops);
    return ok;
}

/* Rows of a chunk, so that its size changes no sum. */
static int whole_blocks(int rows)
{
    return (rows + TOKEN_BLOCK - 1) / TOKEN_BLOCK * TOKEN_BLOCK;
}

static void set_chunks(PlaceModel *p, const Machine *m, const PlanWork *w)
{
    int rows = w->sequences * w->predicted, chunk = whole_blocks(m->options.chunk ? m->options.chunk : 4096);
    p->chunk[p->chunks++] = w->trains ? chunk : placing_chunk(m);
    while (w->trains && p->chunks < PLACE_CHUNKS && chunk > LEAST_CHUNK && rows > whole_blocks(chunk / 2))
        p->chunk[p->chunks++] = chunk = whole_blocks(chunk / 2);
}

static void count_holes(Placement *out, const LoadedModel *file)
{
    HoleFinder f = {0};
    for (int i = 0; i < file->table.n_parts; i++)
        if (file->table.parts[i].expert >= 0) out->holes += rates_hole(&f, file, i);
    rates_hole_end(&f);
}

/* Of the bytes of experts those that are really on a disk. */
static double real_share(const Placement *p)
{
    return p->fit.experts ? 1 - (double)p->holes / p->fit.experts : 1;
}

static void set_cost(Placement *out, const PlanWork *w, const Rates *rates, double seconds)
{
    const PlaceModel *p = &out->model;
    double share = p->E ? p->busy / p->E : 0, again = p->layers ? 1 - (double)out->layers_kept / p->layers : 0;
    const PlacingReads *reads = w->trains ? &out->fit.step : &out->fit.pass;
    out->cost = (PlaceCost){.tokens = (double)w->sequences * w->length,
                            .flops = out->beside.flops,
                            .experts = (double)reads->experts * share,
                            .bytes = (double)reads->bytes * share};
    out->cost.compute =
        p->trunk_all + p->experts_all + again * (p->trunk_none + p->experts_none - p->trunk_all - p->experts_all);
    out->cost.disk = out->cost.bytes * real_share(out) / rates->disk_read;
    out->cost.seconds = seconds;
}

/* One sequence that is decoded: a layer's experts are known when they are needed, so that reading is waited for. */
static bool plan_token(Placement *out, const Machine *m, const LoadedModel *file, const PlacingSizes *s,
                       const Rates *rates, Status *st)
{
    PlanWork one = {.config = &file->config, .sequences = 1, .length = 2, .predicted = 1};
    PlanOps *ops = malloc(sizeof *ops);
    Beside beside;
    CHECK(ops);
    bool ok = placing_fill(&out->token_fit, m, file, s, st) && plan_beside(&beside, m, &one, 0, ops, st);
    if (ok && placing_choose(&out->token_fit) <= out->token_fit.budget) {
        const PlacingPlan *fit = &out->token_fit;
        free(placing_pinned(&out->token_fit, file, s->source));
        double experts =
            fit->experts ? (double)fit->layers * file->config.K * (fit->experts - fit->pinned) / fit->experts : 0;
        double one_expert = fit->experts ? (double)fit->disk_pass / fit->experts : 0;
        out->token =
            (PlaceCost){.tokens = 1, .flops = beside.flops / 2, .experts = experts, .bytes = experts * one_expert};
        out->token.compute = rates_token_seconds(rates, ops);
        out->token.disk = out->token.bytes * real_share(out) / rates->disk_read;
        out->token.seconds = out->token.compute + out->token.disk;
    }
    free(ops);
    return ok;
}

static bool fail_least(const Placement *p, const LoadedModel *file, int margins, size_t *budget, Status *st)
{
    const PlacingPlan *fit = &p->fit;
    char gb[32];
    size_t ring = fit->slot * (size_t)fit->slots, least = fit->work + fit->trunk + fit->staging + ring,
           own = placing_least(least - (size_t)margins * placing_margin(fit->budget), margins);
    if (budget) *budget = own;
    return fail(
        st,
        "%s needs %.2f GB at the very least (%.2f for what every token uses, %.2f to compute with %d kept layers and a "
        "head chunk of %d rows, %.2f for a ring of %d experts), the budget is %.2f GB: --memory %s is the least, or "
        "take a smaller batch",
        file->path, (double)least / 1e9, (double)fit->trunk / 1e9, (double)(fit->work + fit->staging) / 1e9,
        p->layers_kept, p->chunk, (double)ring / 1e9, fit->slots, (double)fit->budget / 1e9, placing_gb(gb, own));
}

/* What the search needs to know. */
static bool fill_model(Placement *out, const Machine *m, const LoadedModel *file, const PlacingSizes *s,
                       const PlanWork *w, const Rates *rates, Status *st)
{
    PlaceModel *p = &out->model;
    const ModelConfig *c = w->config;
    set_chunks(p, m, w);
    double tokens = (double)w->sequences * w->length;
    PlacingSizes alone = {s->source, s->staging, 0};
    if (!placing_fill(&p->fit, m, file, &alone, st) || !measure_work(out, m, w, rates, st) ||
        !measure_sampling(p, m, w, rates, st))
        return false;
    const Beside *b = &out->beside;
    p->fixed = p->fit.work + b->process + b->scratch + b->cache + b->state + b->others;
    p->E = c->E;
    p->trains = w->trains;
    p->busy = rates_busy(c, tokens);
    p->slab = p->fit.experts ? (double)p->fit.disk_pass / p->fit.experts / rates->disk_read : 0;
    p->layers = w->trains ? c->L - b->lowest : 0;
    for (int i = 0; i < p->layers; i++)
        p->interior[i] = layer_acts_bytes(c, b->lowest + i, (size_t)tokens, (DType)m->options.dtype);
    out->fit = p->fit;
    count_holes(out, file);
    p->slab *= real_share(out);
    return true;
}

bool placement_make(Placement *out, const Machine *m, const LoadedModel *file, const PlacingSizes *s, const PlanWork *w,
                    const Rates *rates, size_t *least, Status *st)
{
    *out = (Placement){.trains = w->trains, .assumed = out->assumed, .gpu = out->gpu};
    PlaceModel *p = &out->model;
    if (least) *least = 0;
    if (!fill_model(out, m, file, s, w, rates, st)) return false;
    int chunk;
    bool fits = placement_search(p, &out->layers_kept, &chunk, &out->fit);
    out->chunk = p->chunk[chunk];
    if (!fits) return fail_least(out, file, 1 + w->margins, least, st);
    out->kept = interiors(p, out->layers_kept);
    out->keep_bytes = out->layers_kept == p->layers ? SIZE_MAX / 4 : out->kept;
    if (w->trains && out->layers_kept < p->layers && out->layers_kept > 0) { /* its FLOPs */
        Machine with = *m;
        with.options.chunk = out->chunk;
        if (!plan_beside(&out->beside, &with, w, out->keep_bytes, NULL, st)) return false;
    }
    free(placing_pinned(&out->fit, file, s->source));
    PlacingPlan again;
    out->sampling = sampling_seconds(p, &out->fit);
    set_cost(out, w, rates, placement_seconds(p, out->layers_kept, chunk, &again) - out->sampling);
    return !s->work || plan_token(out, m, file, s, rates, st);
}
