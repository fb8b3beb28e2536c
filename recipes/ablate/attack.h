/* Degenerate answers put before a reward: what is paid more than an honest wrong answer can be won without solving
 * anything. */
#ifndef RECIPES_ABLATE_ATTACK_H
#define RECIPES_ABLATE_ATTACK_H

#include <stdio.h>

#include "data/json.h"
#include "recipes/config/recipe.h"

enum { ATTACKS = 64, ATTACK_FAMILIES = 32, ATTACK_PROBLEMS = 12 };

/* One kind of answer. pattern: its completion, with {prompt}, {answer} (the right one), {wrong} (an honest wrong
 * one), {think} (an honest thought that leads to the wrong answer), {other} (such a thought in the other language),
 * {choices} (every answer of the family's problems at once), {lookalike} (the right answer in full-width digits) and
 * {fill:N} (N bytes of padding) filled in. */
typedef struct Attack {
    char name[64];
    char *pattern;
    bool solves; /* the right answer is in it */
} Attack;

typedef struct AttackResult {
    const char *family;
    double right, wrong; /* mean reward of honest answers */
    double paid[ATTACKS];
} AttackResult;

typedef struct AttackReport {
    Attack attacks[ATTACKS];
    int n;
    AttackResult families[ATTACK_FAMILIES];
    int n_families;
    long calls, failures; /* of programs */
} AttackReport;

/* The battery, and of a user's JSONL file the lines {"name", "completion"} (patterns as above) behind it; file NULL:
 * none. */
bool attack_list(AttackReport *r, const char *file, Status *st);
/* Scores the battery on problems of every built-in family that the rewards apply to. */
bool attack_run(AttackReport *r, const RecipeRewards *rewards, Status *st);
void attack_free(AttackReport *r);

/* Whether attack i is paid more than an honest wrong answer of the family. */
bool attack_pays(const AttackReport *r, int family, int i);
Json *attack_json(const AttackReport *r);
char *attack_page(const AttackReport *r, const char *title);
void attack_print(const AttackReport *r, FILE *out);

#endif
