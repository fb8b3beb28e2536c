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

/* The first parameter after i that cannot share a call with i: one is trained and the other is not, another decay rule, or
 * rows of another length where rows are split. Moments of neighbours that are trained lie as their weights do. */
static int run_end(const Engine *e, int i)
{
    const ParamTable *t = &e->table;
    DType dtype = e->dtype;
    const Param *first = &t->params[i];
    int end = i + 1;
    for (; end < t->n; end++) {
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

bool optimizer_step(Engine *e, const ParamBlocks *blocks, const OptimizerConfig *config, AdamWStep step, double *norm,
                    Status *st)
{
    CHECK(step.number >= 1);
    const Ops *ops = e->ops;
    Backend *b = e->backend;
    const ParamTable *t = &e->table;
    double n = optimizer_grad_norm(e, blocks->g);
    if (norm) *norm = n;
    if (!ops->fault(b, st)) return false;
    if (!isfinite(n))
        return fail(st,
                    "the gradient norm is %f at optimizer step %lld: the loss has diverged, try a lower learning rate "
                    "or a longer warm-up",
                    n, (long long)step.number);
    AdamWArgs args = args_of(config, step, n);
    for (int i = 0, end; i < t->n; i = end) {
        end = run_end(e, i);
        const Param *first = &t->params[i], *last = &t->params[end - 1];
        if (!updated(e, first)) continue;
        size_t from = param_place(first), state = first->state, count = param_place(last) + last->count - from;
        args.weight_decay = first->decay ? config->weight_decay : 0.0f;
        size_t row = e->dtype == DTYPE_BF16 && first->split ? first->cols : 0;
        ops->adamw(b, blocks->w + from, blocks->m + state, blocks->v + state, blocks->g + state, count, row, args);
    }
    ops->weights_changed(b);
    return true;
}
