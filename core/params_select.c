/* Trained and frozen parameters of a table: which, and where their gradients and moments lie. */
#include "core/params_select.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

bool params_match(const char *pattern, const char *name)
{
    char part[sizeof((Param *)0)->name];
    size_t length = strlen(name);
    if (!strcmp(pattern, "all")) return true;
    CHECK(length < sizeof part);
    for (size_t from = 0; from < length; from++) {
        if (from && name[from - 1] != '.') continue;
        for (size_t end = from + 1; end <= length; end++) {
            if (name[end] && name[end] != '.') continue;
            memcpy(part, name + from, end - from);
            part[end - from] = 0;
            if (!fnmatch(pattern, part, 0)) return true;
        }
    }
    return false;
}

/* Whether a parameter of the matrix (or vector) that i belongs to is trained. */
static bool joined_trained(const ParamTable *t, int i)
{
    int first = i, end;
    while (param_joins(t->params[first].kind)) first--;
    for (end = first + 1; end < t->n && param_joins(t->params[end].kind);) end++;
    for (int k = first; k < end; k++)
        if (t->params[k].trained) return true;
    return false;
}

/* Whether parameter i has room for gradients and moments: it is trained; or ops write its gradient in any case (vectors, the
 * router: half a megabyte a layer of DeepSeek-V2-Lite, so that no op learns of a missing one); or one op writes it together
 * with the gradient of one that is trained. */
static bool has_state(const ParamTable *t, int i)
{
    const Param *p = &t->params[i];
    if (p->ndim == 1 || p->kind == PARAM_ROUTER || joined_trained(t, i)) return true;
    int kind = param_bias_of(p->kind), bias = kind < 0 ? -1 : params_find(t, (ParamKind)kind, p->layer, -1);
    return bias >= 0 && joined_trained(t, bias);
}

/* What lies side by side in the table does so here; all trained: every state is the offset. */
static void place_states(ParamTable *t)
{
    size_t before = 0, end = 0; /* ends of the parameter before: in the table, among the states */
    bool follows = false;       /* it has a state */
    for (int i = 0; i < t->n; i++) {
        Param *p = &t->params[i];
        bool has = has_state(t, i);
        p->state = SIZE_MAX;
        if (has) {
            p->state = follows || !i ? end + (p->offset - before) : (end + 15) / 16 * 16;
            end = p->state + p->count;
        }
        follows = has;
        before = p->offset + p->count;
    }
    t->state_total = (end + 15) / 16 * 16;
}

MomentForm param_moments(const ParamTable *t, const Param *p)
{
    if (t->moments == MOMENTS_8BIT && p->count < MOMENT_SMALL) return MOMENTS_F32;
    return p->split ? t->moments : MOMENTS_F32;
}

static void place_moments(ParamTable *t)
{
    t->moment_total = 0;
    for (int i = 0; i < t->n; i++) {
        Param *p = &t->params[i];
        p->moment = SIZE_MAX;
        if (p->state == SIZE_MAX) continue;
        p->moment = t->moments == MOMENTS_F32 ? p->state * sizeof(float) : t->moment_total;
        t->moment_total += moment_bytes(param_moments(t, p), p->count);
    }
    if (t->moments == MOMENTS_F32) t->moment_total = t->state_total * sizeof(float);
}

void params_moments(ParamTable *t, MomentForm form)
{
    t->moments = form;
    place_moments(t);
}

void params_choose(ParamTable *t, const uint8_t *chosen)
{
    t->trained_count = 0;
    t->lowest_trained = t->L;
    for (int i = 0; i < t->n; i++) {
        Param *p = &t->params[i];
        p->chosen = chosen[i] || p->kind == PARAM_SCORE;
        p->trained = p->chosen && p->kind != PARAM_ROUTER_BIAS;
        if (!p->trained) continue;
        int layer = p->kind == PARAM_EMBED ? -1 : p->layer < 0 ? t->L : p->layer;
        t->trained_count += p->count;
        if (layer < t->lowest_trained) t->lowest_trained = layer;
    }
    place_states(t);
    place_moments(t);
}

/* Whether a pattern means parameter p; a scalar head is "lm_head" too. */
static bool is_meant(const Param *p, const char *pattern)
{
    return params_match(pattern, p->name) || (p->kind == PARAM_SCORE && params_match(pattern, "lm_head.weight"));
}

bool params_meant(const ParamTable *t, const char *pattern)
{
    for (int i = 0; i < t->n; i++)
        if (is_meant(&t->params[i], pattern)) return true;
    return false;
}

int params_select(ParamTable *t, const char *const *patterns, int n)
{
    uint8_t *chosen = calloc((size_t)t->n, 1);
    CHECK(chosen);
    int missed = -1;
    for (int k = 0; k < n && missed < 0; k++) {
        bool any = false;
        for (int i = 0; i < t->n; i++) {
            if (!is_meant(&t->params[i], patterns[k])) continue;
            chosen[i] = 1;
            any = true;
        }
        if (!any) missed = k;
    }
    if (missed < 0) params_choose(t, chosen);
    free(chosen);
    return missed;
}

void params_set_apart(ParamTable *t)
{
    for (int i = 0; i < t->n; i++) t->params[i].apart = t->params[i].state != SIZE_MAX;
}

size_t params_part_state(const ParamTable *t, int part, size_t *count)
{
    const Part *its = &t->parts[part];
    size_t from = SIZE_MAX, end = 0;
    for (int i = its->first; i < its->first + its->n; i++) {
        const Param *p = &t->params[i];
        if (p->state == SIZE_MAX) continue;
        if (from == SIZE_MAX) from = p->state;
        end = p->state + p->count;
    }
    *count = from == SIZE_MAX ? 0 : end - from;
    return from == SIZE_MAX ? 0 : from;
}

size_t params_part_moments(const ParamTable *t, int part, size_t *bytes)
{
    const Part *its = &t->parts[part];
    size_t from = SIZE_MAX, end = 0;
    for (int i = its->first; i < its->first + its->n; i++) {
        const Param *p = &t->params[i];
        if (p->moment == SIZE_MAX) continue;
        if (from == SIZE_MAX) from = p->moment;
        end = p->moment + moment_bytes(param_moments(t, p), p->count);
    }
    *bytes = from == SIZE_MAX ? 0 : end - from;
    return from == SIZE_MAX ? 0 : from;
}

bool params_all_chosen(const ParamTable *t)
{
    for (int i = 0; i < t->n; i++)
        if (!t->params[i].chosen) return false;
    return true;
}
