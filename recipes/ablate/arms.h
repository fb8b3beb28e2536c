/* What an ablation compares: arms (settings of one recipe) under the same seeds, and where their runs lie. */
#ifndef RECIPES_ABLATE_ARMS_H
#define RECIPES_ABLATE_ARMS_H

#include "recipes/ablate/stats.h"
#include "recipes/config/recipe.h"

enum { ARMS = 32, ARM_SETS = 24, ARM_NAME = 96, SET_TEXT = 512, FOLDER = 1024, ARM_OPTIONS = 4 };

typedef struct Arm {
    char name[ARM_NAME];
    char sets[ARM_SETS][SET_TEXT]; /* "rl_reason.rewards.language=0" */
    int n;
    /* Options of `r1 run` that change no bit of what comes out: "--memory=GB", "--threads=N", "--state" (a folder beside the
     * run's). Where an arm has some, every run computes all of its units itself: units computed otherwise have the same
     * identity, and linking them would show nothing. */
    char options[ARM_OPTIONS][32];
    int n_options;
} Arm;

typedef struct Ablation {
    const char *recipe; /* a recipe's name or file, or a run folder: its recipe.yaml */
    char recipe_file[FOLDER];
    char out[FOLDER];
    Arm arms[ARMS]; /* the first is what the others are compared with */
    int n_arms;
    uint32_t seeds[STATS_SEEDS];
    int n_seeds;
    char until[RECIPE_NAME];         /* the stage whose evaluation is compared */
    char shared[ARM_SETS][SET_TEXT]; /* settings of every arm: --set, and what --minutes shortens */
    int n_shared;
    const char *metric;
    const char *device; /* of every run, as `r1 run --device`; NULL: the default */
} Ablation;

/* Splits at commas that stand outside of brackets, braces and quotes; returns the number of parts, -1 above max. */
int arms_split(const char *text, char parts[][SET_TEXT], int max);

/* A setting of the arm, KEY=VALUE, or, from "--" on, an option of its runs. */
bool arm_add(Arm *arm, const char *text, Status *st);
/* "NAME:KEY=V,KEY=V" (a part without '=' belongs to the value before it); NAME: alone is the recipe as it is. */
bool arms_add(Ablation *a, const char *text, Status *st);
/* "KEY=V1,V2": every arm so far once with each value; the first arm of a grid is named by its values. */
bool arms_grid(Ablation *a, const char *text, Status *st);
/* "3": that many from the recipe's own seed on; "1,5,9": these. */
bool arms_seeds(Ablation *a, const char *text, uint32_t first, Status *st);

/* The resolved recipe of an arm under a seed; free(). */
Recipe *arm_recipe(const Ablation *a, const Arm *arm, uint32_t seed, Status *st);
/* Checks every arm's recipe, sets `until` where it is empty: the last stage that a setting names, else the recipe's
 * last. Fails when two arms are the same recipe. */
bool arms_check(Ablation *a, Status *st);
/* Whether an arm has options. */
bool arms_with_options(const Ablation *a);
/* OUT/ARM-sSEED. */
void arm_folder(const Ablation *a, const Arm *arm, uint32_t seed, char out[FOLDER]);

#endif
