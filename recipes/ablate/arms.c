/* Arms out of --arm, --grid and --seeds. */
#include "recipes/ablate/arms.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/check.h"
#include "recipes/config/recipe_load.h"

/* ---- Text ---- */

int arms_split(const char *text, char parts[][SET_TEXT], int max)
{
    int n = 0, depth = 0;
    size_t at = 0;
    char quote = 0;
    if (max < 1) return -1;
    for (const char *c = text;; c++) {
        if (*c == 0 || (*c == ',' && depth == 0 && !quote)) {
            parts[n++][at] = 0;
            at = 0;
            if (!*c) return n;
            if (n == max) return -1;
            continue;
        }
        if (quote) quote = *c == quote ? 0 : quote;
        else if (*c == '"' || *c == '\'') quote = *c;
        else if (strchr("[{(", *c)) depth++;
        else if (strchr("]})", *c)) depth--;
        if (at + 1 >= SET_TEXT) return -1;
        parts[n][at++] = *c;
    }
}

/* Letters, digits and . _ - + = stay; what else there is becomes '-': the name is a folder's. */
static void name_of(char out[ARM_NAME], const char *text)
{
    size_t n = 0;
    for (; *text && n + 1 < ARM_NAME; text++) {
        bool plain = isalnum((unsigned char)*text) || strchr("._-+=", *text);
        if (plain) out[n++] = *text;
        else if (n && out[n - 1] != '-') out[n++] = '-';
    }
    while (n && out[n - 1] == '-') n--;
    out[n] = 0;
}

static Arm *new_arm(Ablation *a, const char *name, Status *st)
{
    if (a->n_arms == ARMS) {
        fail(st, "more than %d arms; leave some out", ARMS);
        return NULL;
    }
    Arm *arm = &a->arms[a->n_arms];
    *arm = (Arm){0};
    name_of(arm->name, name);
    for (int i = 0; i < a->n_arms; i++)
        if (!strcmp(a->arms[i].name, arm->name)) {
            fail(st, "two arms are called '%s'; give one another name", arm->name);
            return NULL;
        }
    if (!arm->name[0] || arm->name[0] == '.') {
        fail(st, "an arm needs a name of letters and digits, not '%s'", name);
        return NULL;
    }
    a->n_arms++;
    return arm;
}

static bool add_option(Arm *arm, const char *text, Status *st)
{
    static const char *const names[] = {"--memory=", "--threads=", "--state"};
    bool number = false, known = false;
    for (int i = 0; i < 3; i++) {
        size_t n = strlen(names[i]);
        if (strncmp(text, names[i], n)) continue;
        char *end;
        number = names[i][n - 1] == '=';
        known = number ? strtod(text + n, &end) > 0 && !*end : !text[n];
    }
    if (!known)
        return fail(
            st,
            "arm %s: '%s' is no option that an arm can have: --memory=GB, --threads=N, --state, which change no "
            "bit of the weights",
            arm->name, text);
    if (arm->n_options == ARM_OPTIONS) return fail(st, "arm %s has more than %d options", arm->name, ARM_OPTIONS);
    snprintf(arm->options[arm->n_options++], sizeof arm->options[0], "%.31s", text);
    return true;
}

bool arm_add(Arm *arm, const char *text, Status *st)
{
    if (!strncmp(text, "--", 2)) return add_option(arm, text, st);
    if (arm->n == ARM_SETS) return fail(st, "arm %s has more than %d settings", arm->name, ARM_SETS);
    if (!strncmp(text, "seed=", 5)) return fail(st, "arm %s sets the seed; name seeds with --seeds", arm->name);
    snprintf(arm->sets[arm->n++], SET_TEXT, "%s", text);
    return true;
}

bool arms_add(Ablation *a, const char *text, Status *st)
{
    char parts[ARM_SETS][SET_TEXT], name[ARM_NAME];
    const char *colon = strchr(text, ':'), *equal = strchr(text, '=');
    if (!colon || (equal && equal < colon))
        return fail(st, "--arm %s: expected NAME:KEY=VALUE[,KEY=VALUE], or NAME: for the recipe as it is", text);
    snprintf(name, sizeof name, "%.*s", (int)(colon - text), text);
    Arm *arm = new_arm(a, name, st);
    if (!arm) return false;
    int n = colon[1] ? arms_split(colon + 1, parts, ARM_SETS) : 0;
    if (n < 0) return fail(st, "--arm %s: more than %d settings, or one too long", text, ARM_SETS);
    for (int i = 0; i < n; i++) {
        if (strchr(parts[i], '=') || !strncmp(parts[i], "--", 2)) {
            if (!arm_add(arm, parts[i], st)) return false;
            continue;
        }
        if (!arm->n) return fail(st, "--arm %s: '%s' is no KEY=VALUE", text, parts[i]);
        char *before = arm->sets[arm->n - 1];
        size_t used = strlen(before);
        snprintf(before + used, SET_TEXT - used, ",%s", parts[i]);
    }
    return true;
}

/* "language=0": the last part of the key says enough. */
static void value_name(char out[ARM_NAME], const char *before, const char *key, const char *value)
{
    const char *dot = strrchr(key, '.');
    snprintf(out, ARM_NAME, "%.30s%s%.30s=%.30s", before, before[0] ? "+" : "", dot ? dot + 1 : key, value);
}

bool arms_grid(Ablation *a, const char *text, Status *st)
{
    char values[ARMS][SET_TEXT], key[SET_TEXT], name[ARM_NAME], set[2 * SET_TEXT];
    const char *equal = strchr(text, '=');
    int n = equal ? arms_split(equal + 1, values, ARMS) : -1;
    if (n < 2) return fail(st, "--grid %s: expected KEY=VALUE,VALUE with 2 to %d values", text, ARMS);
    snprintf(key, sizeof key, "%.*s", (int)(equal - text), text);
    int before = a->n_arms ? a->n_arms : 1;
    Arm *old = calloc((size_t)before, sizeof *old);
    CHECK(old);
    if (a->n_arms) memcpy(old, a->arms, (size_t)before * sizeof *old);
    a->n_arms = 0;
    for (int i = 0; i < before && !st->failed; i++)
        for (int v = 0; v < n && !st->failed; v++) {
            value_name(name, old[i].name, key, values[v]);
            Arm *arm = new_arm(a, name, st);
            for (int k = 0; arm && k < old[i].n; k++) arm_add(arm, old[i].sets[k], st);
            for (int k = 0; arm && k < old[i].n_options; k++) arm_add(arm, old[i].options[k], st);
            snprintf(set, sizeof set, "%.500s=%.500s", key, values[v]);
            if (arm) arm_add(arm, set, st);
        }
    free(old);
    return !st->failed;
}

bool arms_seeds(Ablation *a, const char *text, uint32_t first, Status *st)
{
    char parts[STATS_SEEDS][SET_TEXT], *end;
    int n = arms_split(text, parts, STATS_SEEDS);
    if (n < 1) return fail(st, "--seeds %s: at most %d", text, STATS_SEEDS);
    for (int i = 0; i < n; i++) {
        unsigned long v = strtoul(parts[i], &end, 10);
        if (!isdigit((unsigned char)parts[i][0]) || *end || v > 4294967295ul)
            return fail(st, "--seeds %s: expected a number of seeds, or seeds as 1,5,9", text);
        for (int k = 0; k < i; k++)
            if (a->seeds[k] == v) return fail(st, "--seeds %s: %lu is there twice", text, v);
        a->seeds[i] = (uint32_t)v;
    }
    a->n_seeds = n;
    if (n > 1 || strchr(text, ',')) return true;
    if (a->seeds[0] < 1 || a->seeds[0] > STATS_SEEDS)
        return fail(st, "--seeds %s: from 1 to %d seeds, or a list as 5,9", text, STATS_SEEDS);
    a->n_seeds = (int)a->seeds[0];
    for (int i = 0; i < a->n_seeds; i++) a->seeds[i] = first + (uint32_t)i;
    return true;
}

/* ---- Recipes ---- */

Recipe *arm_recipe(const Ablation *a, const Arm *arm, uint32_t seed, Status *st)
{
    const char *sets[2 * ARM_SETS + 1];
    char own[32];
    int n = 0;
    for (int i = 0; i < a->n_shared; i++) sets[n++] = a->shared[i];
    for (int i = 0; i < arm->n; i++) sets[n++] = arm->sets[i];
    snprintf(own, sizeof own, "seed=%u", seed);
    sets[n++] = own;
    return recipe_load(a->recipe_file, sets, n, st);
}

/* The index of the stage that a setting's key begins with; -1: none. */
static int stage_named(const Recipe *r, const char *set)
{
    char name[RECIPE_NAME];
    snprintf(name, sizeof name, "%.*s", (int)strcspn(set, ".="), set);
    return recipe_stage_index(r, name);
}

static void choose_until(Ablation *a, const Recipe *r)
{
    int last = -1;
    for (int i = 0; i < a->n_arms; i++)
        for (int k = 0; k < a->arms[i].n; k++) {
            int at = stage_named(r, a->arms[i].sets[k]);
            if (at < 0) at = r->n_stages - 1;
            if (at > last) last = at;
        }
    snprintf(a->until, sizeof a->until, "%s", r->stages[last < 0 ? r->n_stages - 1 : last].name);
}

static bool check_until(const Ablation *a, const Recipe *r, Status *st)
{
    const RecipeStage *s = recipe_stage(r, a->until);
    if (!s) return fail(st, "--until %s: the recipe has no stage of that name", a->until);
    if (s->kind != STAGE_REWARD_MODEL && s->eval_after) return true;
    return fail(st, "stage %s is not evaluated (%s); choose another with --until", s->name,
                s->kind == STAGE_REWARD_MODEL ? "it trains reward models" : "eval_after is false");
}

bool arms_with_options(const Ablation *a)
{
    for (int i = 0; i < a->n_arms; i++)
        if (a->arms[i].n_options) return true;
    return false;
}

static bool same_options(const Arm *a, const Arm *b)
{
    bool same = a->n_options == b->n_options;
    for (int i = 0; same && i < a->n_options; i++) same = !strcmp(a->options[i], b->options[i]);
    return same;
}

bool arms_check(Ablation *a, Status *st)
{
    char *texts[ARMS] = {NULL};
    for (int i = 0; i < a->n_arms && !st->failed; i++) {
        Recipe *r = arm_recipe(a, &a->arms[i], a->seeds[0], st);
        if (!r) break;
        if (!a->until[0]) choose_until(a, r);
        texts[i] = recipe_write(r);
        if (check_until(a, r, st))
            for (int k = 0; k < i && !st->failed; k++)
                if (!strcmp(texts[i], texts[k]) && same_options(&a->arms[i], &a->arms[k]))
                    fail(st, "arms %s and %s are the same recipe", a->arms[k].name, a->arms[i].name);
        free(r);
    }
    for (int i = 0; i < ARMS; i++) free(texts[i]);
    return !st->failed;
}

void arm_folder(const Ablation *a, const Arm *arm, uint32_t seed, char out[FOLDER])
{
    snprintf(out, FOLDER, "%.800s/%s-s%u", a->out, arm->name, seed);
}
