/* Names of the recipe, looked up among a model's tensors. */
#include "recipes/model/train_select.h"

#include <stdio.h>
#include <string.h>

#include "core/params_select.h"
#include "recipes/config/did_you_mean.h"

static int parts_of(const char *name)
{
    int n = 1;
    for (; *name; name++) n += *name == '.';
    return n;
}

/* The end of `count` parts that begin at `from`; NULL: there are fewer. */
static const char *parts_end(const char *from, int count)
{
    for (;; from++) {
        if (*from && *from != '.') continue;
        if (--count == 0) return from;
        if (!*from) return NULL;
    }
}

/* Tries every run of as many parts as the mistyped name has. best: where the nearest is copied. */
static void try_name(Nearest *near, char best[RECIPE_GLOB], const char *name)
{
    char part[RECIPE_GLOB];
    int count = parts_of(near->word);
    for (const char *from = name; from; from = strchr(from, '.') ? strchr(from, '.') + 1 : NULL) {
        const char *end = parts_end(from, count);
        if (!end || end - from >= RECIPE_GLOB) return;
        snprintf(part, sizeof part, "%.*s", (int)(end - from), from);
        nearest_try(near, part);
        if (near->best != part) continue;
        memcpy(best, part, sizeof part);
        near->best = best;
    }
}

static bool no_match(const ParamTable *tables, int n, const char *name, Status *st)
{
    Nearest near = nearest_start(name);
    char best[RECIPE_GLOB] = "", hint[RECIPE_GLOB + 32];
    for (int k = 0; k < n; k++)
        for (int i = 0; i < tables[k].n; i++) try_name(&near, best, tables[k].params[i].name);
    nearest_hint(&near, hint, sizeof hint);
    return fail(st, "train: no tensor of the model is meant by '%s'%s", name,
                near.best ? hint : " (`r1 inspect MODEL --tensors` lists them)");
}

static bool is_everything(const RecipeNames *names)
{
    return names->n == 1 && !strcmp(names->list[0], "all");
}

bool train_check(const ParamTable *tables, int n, const RecipeNames *names, Status *st)
{
    for (int i = 0; i < names->n && n; i++) {
        bool meant = false;
        for (int k = 0; k < n && !meant; k++) meant = params_meant(&tables[k], names->list[i]);
        if (!meant) return no_match(tables, n, names->list[i], st);
    }
    return true;
}

bool train_select(ParamTable *t, const RecipeNames *names, Status *st)
{
    if (t->lora && is_everything(names)) return true; /* adapters alone, as the table was made */
    if (t->lora)
        return fail(st,
                    "train: adapters (`lora`) are trained in place of the model's own tensors, so '%s' cannot be: "
                    "take one of the two keys away",
                    names->list[0]);
    const char *list[RECIPE_NAMES];
    int n = 0;
    for (int i = 0; i < names->n; i++)
        if (params_meant(t, names->list[i])) list[n++] = names->list[i];
    if (!n) return true; /* names of another model's tensors: this one is trained whole, as it is without them */
    params_select(t, list, n);
    return t->trained_count || fail(st,
                                    "train: '%s' means only biases of the router, which no gradient moves: name a "
                                    "tensor that is trained",
                                    list[0]);
}

bool train_table(ParamTable *t, const Recipe *r, Status *st)
{
    params_moments(t, r->moments);
    return train_select(t, &r->train, st);
}
