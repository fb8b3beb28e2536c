/* The gradient's norm and AdamW over the table of parameters. */
#include "core/optimizer.h"

#include <math.h>

#include "core/base/check.h"
#include "core/base/philox.h"
#include "core/params_select.h"

/* sums[i] = the squares of list[i]. */
static void squares_of(Engine *e, double *sums, const FloatRun *list, int count)
{
    if (e->ops->sum_squares_list) {
        e->ops->sum_squares_list(e->backend, sums, list, count);
        return;
    }
    for (int i = 0; i < count; i++) e->ops->sum_squares(e->backend, sums + i, list[i].x, list[i].n);
}

static double norm_of(Engine *e, const float *g, Keeper *k)
{
    const ParamTable *t = &e->table;
    EngineMark mark = engine_mark(e);
    FloatRun *list = arena_alloc(&e->host, (size_t)t->n * sizeof *list);
    double *sums = arena_alloc(&e->arena, (size_t)t->n * sizeof *sums), total = 0.0;
    int count = 0, asked = 0;
    for (int part = 0; part < t->n_parts; part++) {
        keeper_need(k, part, 1);
        for (int i = t->parts[part].first; i < t->parts[part].first + t->parts[part].n; i++) {
            const Param *p = &t->params[i];
            if (p->trained) list[count++] = (FloatRun){g + p->state, p->count};
        }
        if (k || part + 1 == t->n_parts) squares_of(e, sums + asked, list + asked, count - asked), asked = count;
        keeper_done(k, part, 1);
    }
    const double *here = engine_download(e, sums, (size_t)count * sizeof *sums);
    for (int i = 0; i < count; i++) total += here[i];
    engine_release(e, mark);
    return sqrt(total);
}

double optimizer_grad_norm(Engine *e, const float *g)
{
    return norm_of(e, g, NULL);
}

/* Whether the last gradients are of this parameter too. */
static bool updated(const Engine *e, const Param *p)
{
    return p->trained && (p->layer < e->table.L - e->table.modules || e->mtp_ran);
}

/* The first parameter after i, and before `most`, that cannot share a call with i: one is trained and the other is not, another
 * decay rule, one is in the planes and the other is not, moments that are stored or lie elsewhere than the weights do. Padding
 * between two is zero and stays so. */
static int run_end(const Engine *e, int i, int most)
{
    const ParamTable *t = &e->table;
    const Param *first = &t->params[i];
    int end = i + 1;
    for (; end < most; end++) {
        const Param *p = &t->params[end];
        if (updated(e, p) != updated(e, first) || p->decay != first->decay) break;
        if (param_moments(t, first) != MOMENTS_F32 || param_moments(t, p) != MOMENTS_F32) break;
        if (updated(e, p) && p->moment != first->moment + (p->state - first->state) * sizeof(float)) break;
        if (e->dtype == DTYPE_BF16 && p->split != first->split) break;
    }
    return end;
}

static AdamWArgs args_of(const OptimizerConfig *c, AdamWStep step, double norm)
{
    AdamWArgs args = {.lr = step.lr, .beta1 = c->beta1, .beta2 = c->beta2, .eps = c->eps, .grad_scale = 1.0f};
    if (c->max_norm > 0.0f) args.grad_scale = (float)fmin(1.0, c->max_norm / (norm + 1e-6));
    args.correction1 = (float)(1.0 - pow(c->beta1, (double)step.number));
    args.correction2 = (float)(1.0 - pow(c->beta2, (double)step.number));
    return args;
}

typedef struct Update {
    Engine *e;
    const ParamBlocks *blocks;
    const OptimizerConfig *config;
    AdamWArgs args;
    MomentRounding rounding; /* but for tensor and first */
} Update;

enum { PIECE = 1 << 20 }; /* whole blocks of moments */

size_t optimizer_piece(const Param *p)
{
    return p->count < PIECE ? p->count : PIECE;
}

size_t optimizer_scratch(const ParamTable *t)
{
    size_t most = 0;
    for (int i = 0; i < t->n; i++) {
        const Param *p = &t->params[i];
        if (!p->trained || param_moments(t, p) == MOMENTS_F32) continue;
        size_t piece = optimizer_piece(p);
        if (piece > most) most = piece;
    }
    return 2 * most * sizeof(float);
}

/* n elements from element `from` of p on, and of what follows it. */
static void update_run(const Update *u, const Param *p, size_t from, float *m, float *v, size_t n, AdamWArgs args)
{
    const WeightBlock *w = &u->blocks->w;
    size_t at = param_place(p) + from;
    bool split = weight_split(w, p);
    void *values = split ? (void *)(w->high + at) : (float *)weight_at(w, p, param_place(p)) + from;
    u->e->ops->adamw(u->e->backend, values, split ? w->low + at : NULL, m, v, u->blocks->g + p->state + from, n, args);
}

/* A parameter whose stored moments begin at m and v: as f32 in the arena, piece by piece. Pieces are whole blocks and AdamW is a
 * function of an element, so they do not change a bit. */
static void update_stored(const Update *u, const Param *p, void *m, void *v, AdamWArgs args)
{
    Engine *e = u->e;
    size_t piece = optimizer_piece(p);
    EngineMark mark = engine_mark(e);
    float *wide_m = arena_floats(&e->arena, piece), *wide_v = arena_floats(&e->arena, piece);
    MomentRounding rounding = u->rounding;
    rounding.tensor = hash_name(p->name);
    for (size_t from = 0; from < p->count; from += piece) {
        size_t n = p->count - from < piece ? p->count - from : piece;
        StoredMoments stored = moments_view(param_moments(&e->table, p), m, v, p->count, from);
        rounding.first = from;
        e->ops->moments_widen(e->backend, wide_m, wide_v, stored, n);
        update_run(u, p, from, wide_m, wide_v, n, args);
        e->ops->moments_narrow(e->backend, stored, wide_m, wide_v, n, rounding);
    }
    engine_release(e, mark);
}

/* Parameters [from, to), with byte `base` of the moments at m and v. */
static void update_range(const Update *u, int from, int to, char *m, char *v, size_t base)
{
    const ParamTable *t = &u->e->table;
    AdamWArgs args = u->args;
    for (int i = from, end; i < to; i = end) {
        end = run_end(u->e, i, to);
        const Param *first = &t->params[i], *last = &t->params[end - 1];
        if (!updated(u->e, first)) continue;
        void *its_m = m + (first->moment - base), *its_v = v + (first->moment - base);
        args.weight_decay = first->decay ? u->config->weight_decay : 0.0f;
        if (param_moments(t, first) != MOMENTS_F32) update_stored(u, first, its_m, its_v, args);
        else update_run(u, first, 0, its_m, its_v, last->state + last->count - first->state, args);
    }
}

/* AdamW is a function of an element alone, so the bits do not depend on the cut. */
static bool update_parts(const Update *u, Status *st)
{
    const ParamTable *t = &u->e->table;
    StateStore *store = u->blocks->store;
    for (int part = 0; part < t->n_parts; part++) {
        int from = t->parts[part].first, to = from + t->parts[part].n;
        bool any = false;
        for (int i = from; i < to; i++) any = any || updated(u->e, &t->params[i]);
        if (!any) continue;
        void *m, *v;
        size_t bytes, base = params_part_moments(t, part, &bytes);
        if (!store->take(store, part, &m, &v, st)) return false;
        keeper_need(u->blocks->gradients, part, 1);
        update_range(u, from, to, m, v, base);
        keeper_done(u->blocks->gradients, part, 1);
        if (!store->give(store, part, st)) return false;
    }
    return true;
}

bool optimizer_step(Engine *e, const ParamBlocks *blocks, const OptimizerConfig *config, AdamWStep step, double *norm,
                    Status *st)
{
    CHECK(step.number >= 1);
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    double n = norm_of(e, blocks->g, blocks->gradients);
    if (norm) *norm = n;
    if (!ops->fault(b, st)) return false;
    if (!isfinite(n))
        return fail(st,
                    "the gradient norm is %f at optimizer step %lld: the loss has diverged, try a lower learning rate "
                    "or a longer warm-up",
                    n, (long long)step.number);
    Update u = {.e = e, .blocks = blocks, .config = config, .args = args_of(config, step, n)};
    u.rounding =
        (MomentRounding){.key = {config->seed, RNG_MOMENTS | config->stage << 8}, .step = (uint32_t)step.number};
    bool ok = true;
    if (blocks->store) ok = update_parts(&u, st);
    else update_range(&u, 0, e->table.n, blocks->m, blocks->v, 0);
    ops->weights_changed(b);
    return ok;
}
