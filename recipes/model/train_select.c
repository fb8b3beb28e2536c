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

static bool no_match(const ParamTable *t, const char *name, Status *st)
{
    Nearest near = nearest_start(name);
    char best[RECIPE_GLOB] = "", hint[RECIPE_GLOB + 32];
    for (int i = 0; i < t->n; i++) try_name(&near, best, t->params[i].name);
    nearest_hint(&near, hint, sizeof hint);
    return fail(st, "train: no tensor of the model is meant by '%s'%s", name,
                near.best ? hint : " (`r1 inspect MODEL --tensors` lists them)");
}

bool train_select(ParamTable *t, const RecipeNames *names, Status *st)
{
    bool everything = names->n == 1 && !strcmp(names->list[0], "all");
    if (t->lora && everything) return true; /* adapters alone, as the table was made */
    if (t->lora)
        return fail(st,
                    "train: adapters (`lora`) are trained in place of the model's own tensors, so '%s' cannot be: "
                    "take one of the two keys away",
                    names->list[0]);
    const char *list[RECIPE_NAMES];
    for (int i = 0; i < names->n; i++) list[i] = names->list[i];
    int missed = params_select(t, list, names->n);
    if (missed >= 0) return no_match(t, list[missed], st);
    return t->trained_count || fail(st,
                                    "train: '%s' means only biases of the router, which no gradient moves: name a "
                                    "tensor that is trained",
                                    list[0]);
}
