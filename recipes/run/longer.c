/* Stages reopened. */
#include "recipes/run/longer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recipes/run/progress.h"
#include "recipes/run/run_folder.h"
#include "recipes/run/unit_state.h"

bool run_longer(Run *r, Status *st)
{
    const char *stage = run_folder_longer(r->folder);
    int index = recipe_stage_index(r->recipe, stage);
    if (!stage[0]) return true;
    for (int i = 0; i < r->n_units; i++)
        if (r->units[i].stage_index > index && unit_begun(r, &r->units[i]))
            return fail(st,
                        "stage %s cannot be trained longer in %s: %s came after it; begin a new run with --out whose "
                        "stage says from: %s/%s",
                        stage, run_folder_path(r->folder), r->units[i].name, run_folder_path(r->folder), stage);
    for (int i = 0; i < r->n_units; i++) {
        const Unit *u = &r->units[i];
        if (u->stage_index != index || u->kind->makes_samples) continue;
        if (!unit_reopen(r, u, st)) return false;
        progress_note(r->progress, "%s goes on: its recipe asks for more steps than before", u->name);
    }
    return run_folder_take_recipe(r->folder, r->recipe_text, st);
}
