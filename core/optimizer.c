/* The gradient's norm and AdamW over the table of parameters. */
#include "core/optimizer.h"

#include <math.h>

#include "core/base/check.h"

double optimizer_grad_norm(Engine *e, const float *g)
{
    const ParamTable *t = &e->table;
    EngineMark mark = engine_mark(e);
    size_t bytes = (size_t)t->n * sizeof(double);
    double *sums = arena_alloc(&e->arena, bytes), total = 0.0;
    for (int i = 0; i < t->n; i++)
        if (t->params[i].trained) e->ops->sum_squares(e->backend, sums + i, g + t->params[i].state, t->params[i].count);
    const double *here = engine_download(e, sums, bytes);
    for (int i = 0; i < t->n; i++)
        if (t->params[i].trained) total += here[i];
    engine_release(e, mark);
    return sqrt(total);
}

/* Whether the last gradients are of this parameter too. */
static bool updated(const Engine *e, const Param *p)
{
    return p->trained && (p->layer < e->table.L - e->table.modules || e->mtp_ran);
}

/* The first parameter after i, and before `most`, that cannot share a call with i: one is trained and the other is not, another
 * decay rule, or rows of another length where rows are split. Moments of neighbours that are trained lie as their weights do. */
static int run_end(const Engine *e, int i, int most)
{
    const ParamTable *t = &e->table;
    DType dtype = e->dtype;
    const Param *first = &t->params[i];
    int end = i + 1;
    for (; end < most; end++) {
        const Param *p = &t->params[end], *before = &t->params[end - 1];
        if (updated(e, p) != updated(e, first) || p->decay != first->decay) break;
        if (dtype == DTYPE_F32) continue;
        if (p->split != first->split) break;
        if (p->split && (p->cols != first->cols || param_place(p) != param_place(before) + before->count)) break;
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
} Update;

/* Parameters [from, to), with the moments of state `base` at m[0] and v[0]. */
static void update_range(const Update *u, int from, int to, float *m, float *v, size_t base)
{
    const ParamTable *t = &u->e->table;
    AdamWArgs args = u->args;
    for (int i = from, end; i < to; i = end) {
        end = run_end(u->e, i, to);
        const Param *first = &t->params[i], *last = &t->params[end - 1];
        if (!updated(u->e, first)) continue;
        size_t at = param_place(first), state = first->state, count = param_place(last) + last->count - at;
        args.weight_decay = first->decay ? u->config->weight_decay : 0.0f;
        size_t row = u->e->dtype == DTYPE_BF16 && first->split ? first->cols : 0;
        u->e->ops->adamw(u->e->backend, u->blocks->w + at, m + (state - base), v + (state - base), u->blocks->g + state,
                         count, row, args);
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
        float *m, *v;
        size_t count, base = params_part_state(t, part, &count);
        if (!store->take(store, part, &m, &v, st)) return false;
        update_range(u, from, to, m, v, base);
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
    double n = optimizer_grad_norm(e, blocks->g);
    if (norm) *norm = n;
    if (!ops->fault(b, st)) return false;
    if (!isfinite(n))
        return fail(st,
                    "the gradient norm is %f at optimizer step %lld: the loss has diverged, try a lower learning rate "
                    "or a longer warm-up",
                    n, (long long)step.number);
    Update u = {e, blocks, config, args_of(config, step, n)};
    bool ok = true;
    if (blocks->store) ok = update_parts(&u, st);
    else update_range(&u, 0, e->table.n, blocks->m, blocks->v, 0);
    ops->weights_changed(b);
    return ok;
}
