/* Stages whose first steps do not depend on how many follow. */
#include "recipes/config/recipe_longer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/config/recipe_diff.h"
#include "recipes/config/recipe_load.h"

const char *recipe_fixed_length(const RecipeStage *s)
{
    const RecipeOptim *o = &s->optim;
    bool preferences = s->general_share > 0 || s->reward_models[0];
    switch (o->schedule) {
    case SCHEDULE_LINEAR: return "its linear schedule falls over all of its steps";
    case SCHEDULE_COSINE: return "its cosine schedule falls over all of its steps";
    case SCHEDULE_STEP: return "the milestones of its schedule are shares of its steps";
    case SCHEDULE_CONSTANT: break;
    }
    if (o->warmup > 0 && (!s->steps || 2 * (int64_t)o->warmup > s->steps))
        return "its warm-up is at most half of its steps, so more steps would have begun with another";
    if (s->kind == STAGE_RL && s->rl.preference_last < 1 && preferences)
        return "preference_last counts from its last step";
    if (s->kind == STAGE_DISTILL && s->n_rival_lrs) return "its rivals have its FLOPs";
    if (s->stop_at_pass1[0] > 0) return "it ends at a measured pass@1, not at a step";
    return NULL;
}

static bool is_longer(const RecipeStage *then, const RecipeStage *now)
{
    return now->steps >= then->steps && now->epochs >= then->epochs &&
           (now->steps > then->steps || now->epochs > then->epochs) && !now->steps == !then->steps;
}

/* The stages of `now` cut to the lengths of `then`; first: the first that is longer, -1 when there is none. */
static void cut(Recipe *now, const Recipe *then, int *first)
{
    *first = -1;
    for (int i = now->n_stages; i-- > 0;) {
        const RecipeStage *old = recipe_stage(then, now->stages[i].name);
        if (!old || !is_longer(old, &now->stages[i])) continue;
        now->stages[i].steps = old->steps;
        now->stages[i].epochs = old->epochs;
        *first = i;
    }
}

/* *why: what else is another, when lengths are. */
static bool same_but_for_length(const Recipe *then, const Recipe *now, int *first, char *why, size_t size)
{
    Recipe *shorter = malloc(sizeof *shorter);
    CHECK(shorter);
    memcpy(shorter, now, sizeof *shorter);
    cut(shorter, then, first);
    char *a = recipe_write(then), *b = recipe_write(shorter);
    bool same = *first >= 0 && recipe_same(b, a, why, size);
    if (same) why[0] = 0;
    free(shorter);
    free(a);
    free(b);
    return same;
}

bool recipe_longer(const char *then, const char *now, char stage[RECIPE_NAME], char *why, size_t size)
{
    Status ignored = {0};
    Recipe *before = recipe_parse_resolved(then, "then", &ignored);
    Recipe *after = before ? recipe_parse_resolved(now, "now", &ignored) : NULL;
    int first = -1;
    why[0] = 0;
    bool longer = after && same_but_for_length(before, after, &first, why, size);
    for (int i = 0; longer && i < after->n_stages; i++) {
        const RecipeStage *old = recipe_stage(before, after->stages[i].name);
        const char *fixed = old && is_longer(old, &after->stages[i]) ? recipe_fixed_length(old) : NULL;
        if (!fixed) continue;
        snprintf(why, size, "stage %s cannot be trained longer: %s", old->name, fixed);
        longer = false;
    }
    if (longer) snprintf(stage, RECIPE_NAME, "%s", after->stages[first].name);
    free(before);
    free(after);
    return longer;
}
