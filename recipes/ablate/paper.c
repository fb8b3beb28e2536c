/* Claims read, and measured on the runs that are there. */
#include "recipes/ablate/paper.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/ablate/ablate.h"
#include "recipes/ablate/results.h"
#include "recipes/config/embedded.h"
#include "recipes/config/yaml.h"
#include "recipes/run/run_folder.h"

enum { WINDOW = 10 };

/* ---- Reading ---- */

static bool take_text(const Node *map, const char *key, char *out, size_t size, Status *st)
{
    const Node *n = node_get(map, key);
    if (!n || !n->text) return fail(st, "%s: the claim has no %s", map->where, key);
    snprintf(out, size, "%s", n->text);
    return true;
}

/* "arm/stage metric" */
static bool parse_side(ClaimSide *s, const Node *test, const char *key, const Claim *c, Status *st)
{
    char text[256];
    *s = (ClaimSide){0};
    if (!take_text(test, key, text, sizeof text, st)) return false;
    char *slash = strchr(text, '/'), *stage = slash ? slash + 1 : text, *space = strchr(stage, ' ');
    if (slash) *slash = 0;
    if (!space) return fail(st, "%s: '%s' is no \"[ARM/]STAGE METRIC\"", test->where, text);
    *space = 0;
    snprintf(s->arm, sizeof s->arm, "%.90s", slash ? text : c->ablation.arms[0].name);
    snprintf(s->unit, sizeof s->unit, "%.90s", stage);
    snprintf(s->metric, sizeof s->metric, "%.60s", space + 1);
    for (int i = 0; i < c->ablation.n_arms; i++)
        if (!strcmp(c->ablation.arms[i].name, s->arm)) return true;
    return fail(st, "%s: the claim has no arm '%s'", test->where, s->arm);
}

static bool parse_test(Claim *c, const Node *n, Status *st)
{
    char expect[32];
    if (c->n_tests == CLAIM_TESTS) return fail(st, "%s: more than %d tests", n->where, CLAIM_TESTS);
    ClaimTest *t = &c->tests[c->n_tests++];
    if (!parse_side(&t->a, n, "a", c, st) || !parse_side(&t->b, n, "b", c, st) ||
        !take_text(n, "expect", expect, sizeof expect, st))
        return false;
    const Node *within = node_get(n, "within");
    bool equal = !strcmp(expect, "equal");
    bool shown = !strcmp(expect, "shown");
    t->expect = !strcmp(expect, "higher") ? 1 : !strcmp(expect, "lower") ? -1 : shown ? CLAIM_SHOWN : 0;
    t->within = within && within->text ? strtod(within->text, NULL) : 0;
    if (!t->expect && !equal) return fail(st, "%s: expect is higher, lower, equal or shown, not %s", n->where, expect);
    return !within || equal ? true : fail(st, "%s: within belongs to expect: equal", n->where);
}

/* `evals: {NAME: STAGE OPTIONS}` */
static bool parse_evals(Claim *c, const Node *evals, Status *st)
{
    for (int i = 0; evals && i < evals->n; i++) {
        const Node *n = evals->items[i];
        if (i == CLAIM_EVALS || !n->key || !n->text)
            return fail(st, "%s: at most %d evaluations, each NAME: STAGE OPTIONS", evals->where, CLAIM_EVALS);
        ClaimEval *e = &c->evals[c->n_evals++];
        size_t stage = strcspn(n->text, " ");
        snprintf(e->name, sizeof e->name, "%s", n->key);
        snprintf(e->stage, sizeof e->stage, "%.*s", (int)stage, n->text);
        snprintf(e->options, sizeof e->options, "%s", n->text + stage + strspn(n->text + stage, " "));
    }
    return true;
}

static bool add_sets(char list[][SET_TEXT], int *n, const Node *sets, Status *st)
{
    for (int i = 0; sets && i < sets->n; i++) {
        if (*n == ARM_SETS || !sets->items[i]->text) return fail(st, "%s: not a list of KEY=VALUE", sets->where);
        snprintf(list[(*n)++], SET_TEXT, "%s", sets->items[i]->text);
    }
    return true;
}

/* `model: {until: STAGE, set: [..]}` */
static bool parse_model(Claim *c, const Node *model, Status *st)
{
    return !model || (take_text(model, "until", c->model.until, sizeof c->model.until, st) &&
                      add_sets(c->model.sets, &c->model.n, node_get(model, "set"), st));
}

/* Arms are a mapping of names to lists of settings and options (arm_add); without it there is one, called "run".
 * Folders carry the claim's id. */
static bool parse_arms(Claim *c, const Node *arms, Status *st)
{
    Ablation *a = &c->ablation;
    a->n_arms = 1;
    snprintf(a->arms[0].name, ARM_NAME, "run");
    for (int i = 0; arms && i < arms->n; i++) {
        if (i == ARMS) return fail(st, "%s: more than %d arms", arms->where, ARMS);
        a->n_arms = i + 1;
        a->arms[i] = (Arm){0};
        snprintf(a->arms[i].name, ARM_NAME, "%s", arms->items[i]->key);
        for (int k = 0; k < arms->items[i]->n; k++) {
            const char *text = arms->items[i]->items[k]->text;
            if (!text) return fail(st, "%s: not a list of KEY=VALUE", arms->where);
            if (!arm_add(&a->arms[i], text, st)) return false;
        }
    }
    return true;
}

static bool parse_tree(Claim *c, const Node *tree, Status *st)
{
    char recipe[64], minutes[32];
    Ablation *a = &c->ablation;
    if (!take_text(tree, "source", c->source, sizeof c->source, st) ||
        !take_text(tree, "sentence", c->sentence, sizeof c->sentence, st) ||
        !take_text(tree, "reported", c->reported, sizeof c->reported, st) ||
        !take_text(tree, "checked", c->checked, sizeof c->checked, st) ||
        !take_text(tree, "recipe", recipe, sizeof recipe, st) ||
        !take_text(tree, "minutes", minutes, sizeof minutes, st) ||
        !take_text(tree, "until", a->until, sizeof a->until, st))
        return false;
    c->minutes = strtod(minutes, NULL);
    snprintf(a->recipe_file, sizeof a->recipe_file, "%s", recipe);
    const Node *tests = node_get(tree, "tests");
    if (!parse_evals(c, node_get(tree, "evals"), st) || !parse_model(c, node_get(tree, "model"), st) ||
        !parse_arms(c, node_get(tree, "arms"), st) || !add_sets(a->shared, &a->n_shared, node_get(tree, "set"), st))
        return false;
    if (!tests || !tests->n) return fail(st, "%s: the claim has no tests", tree->where);
    for (int i = 0; i < tests->n; i++)
        if (!parse_test(c, tests->items[i], st)) return false;
    return true;
}

bool claim_parse(Claim *c, const char *id, const char *text, const char *where, Status *st)
{
    memset(c, 0, sizeof *c);
    snprintf(c->id, sizeof c->id, "%s", id);
    c->ablation.metric = "pass@1";
    Node *tree = node_parse(text, where, true, st);
    bool ok = tree && parse_tree(c, tree, st);
    node_free(tree);
    return ok;
}

Claim *claims_read(int *n, Status *st)
{
    Claim *list = calloc(CLAIMS, sizeof *list);
    CHECK(list);
    *n = 0;
    for (const EmbeddedRecipe *e = embedded_claims; e->name && *n < CLAIMS; e++)
        if (!claim_parse(&list[(*n)++], e->name, e->text, e->name, st)) {
            free(list);
            return NULL;
        }
    return list;
}

/* ---- Measuring ---- */

static int seed_folder(const Claim *c, const char *arm, int s, char out[FOLDER])
{
    const Ablation *a = &c->ablation;
    int i = 0;
    while (strcmp(a->arms[i].name, arm)) i++;
    arm_folder(a, &a->arms[i], a->seeds[s], out);
    return i;
}

/* A metric in the first or last WINDOW steps, step by step, into v; returns how many there are. */
static int window_values(const char *folder, const char *unit, const char *key, bool last, double v[WINDOW])
{
    Json *lines = run_read_lines(folder, "metrics.jsonl");
    double values[WINDOW];
    int n = 0;
    for (size_t i = 0; i < json_count(lines); i++) {
        const Json *line = json_at(lines, i);
        double x = strcmp(json_get_string(line, "stage", ""), unit) ? (double)NAN : json_get_number(line, key);
        if (isnan(x) || (!last && n >= WINDOW)) continue;
        values[n++ % WINDOW] = x;
    }
    json_free(lines);
    int kept = n < WINDOW ? n : WINDOW;
    for (int i = 0; i < kept; i++) v[i] = values[(n - kept + i) % WINDOW];
    return kept;
}

/* What the summary says of a unit: its seconds, or its weights as a number, 52 bits of their hash: equal ones are equal
 * weights. NAN: not there. */
static double summary_number(const char *folder, const char *unit, bool weights)
{
    char path[FOLDER + 16], digits[14];
    Status ignored = {0};
    double found = NAN;
    snprintf(path, sizeof path, "%s/summary.json", folder);
    Json *summary = json_read(path, &ignored);
    const Json *stages = json_get(summary, "stages");
    for (size_t i = 0; i < json_count(stages); i++) {
        const Json *entry = json_at(stages, i);
        if (strcmp(json_get_string(entry, "name", ""), unit)) continue;
        snprintf(digits, sizeof digits, "%.13s", json_get_string(entry, "weights_sha256", ""));
        if (!weights) found = json_get_number(entry, "seconds");
        else if (digits[0]) found = (double)strtoull(digits, NULL, 16);
    }
    json_free(summary);
    return found;
}

/* The side's values under seed s, problem by problem (step by step); caller frees. NULL: not there. */
static double *side_values(const Claim *c, const ClaimSide *side, int s, int *n)
{
    char folder[FOLDER], evals[FOLDER + 16], file[128], key[64];
    seed_folder(c, side->arm, s, folder);
    snprintf(key, sizeof key, "%.*s", (int)strcspn(side->metric, "@"), side->metric);
    bool first = strstr(side->metric, "@first") != NULL, last = strstr(side->metric, "@last") != NULL;
    bool weights = !strcmp(side->metric, "weights"), seconds = !strcmp(side->metric, "seconds");
    double *v;
    if (first || last || weights || seconds) {
        v = calloc(WINDOW, sizeof *v);
        CHECK(v);
        *n = 1;
        if (weights || seconds) v[0] = summary_number(folder, side->unit, weights);
        else *n = window_values(folder, side->unit, key, last, v);
        if (*n && !isnan(v[0])) return v;
        free(v);
        return NULL;
    }
    snprintf(evals, sizeof evals, "%s/evals", folder);
    snprintf(file, sizeof file, "%s.jsonl", side->unit);
    Json *rows = run_read_lines(evals, file);
    v = calloc(json_count(rows) + 1, sizeof *v);
    CHECK(v);
    *n = 0;
    for (size_t i = 0; i < json_count(rows); i++) {
        double x = json_get_number(json_at(rows, i), side->metric);
        if (!isnan(x)) v[(*n)++] = x;
    }
    json_free(rows);
    if (*n) return v;
    free(v);
    return NULL;
}

static double mean_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum / n;
}

static Compared measure_test(const Claim *c, ClaimTest *t)
{
    double *d[STATS_SEEDS];
    const double *rows[STATS_SEEDS];
    int n[STATS_SEEDS], seeds = 0;
    t->means[0] = t->means[1] = 0;
    for (int s = 0; s < c->ablation.n_seeds; s++) {
        int na = 0, nb = 0;
        double *x = side_values(c, &t->a, s, &na), *y = side_values(c, &t->b, s, &nb);
        bool both = x && y && na == nb;
        for (int k = 0; both && k < 2; k++) t->means[k] = (seeds * t->means[k] + mean_of(k ? y : x, nb)) / (seeds + 1);
        for (int i = 0; both && i < nb; i++) y[i] -= x[i];
        free(x);
        if (both) rows[seeds] = d[seeds] = y, n[seeds++] = nb;
        else free(y);
    }
    Compared found = {.p = 1, .adjusted = 1};
    if (seeds) found = stats_compare(&(Paired){seeds, n, rows}, 1);
    for (int s = 0; s < seeds; s++) free(d[s]);
    return found;
}

static bool is_directed(const ClaimTest *t)
{
    return t->expect == 1 || t->expect == -1;
}

/* One number under one seed has no spread: nothing says how far another seed would lie. */
static bool one_number(const Compared *c)
{
    return c->seeds == 1 && c->problems <= 1;
}

bool claim_measure(Claim *c, Status *st)
{
    Compared list[CLAIM_TESTS];
    for (int i = 0; i < c->n_tests; i++) {
        list[i] = measure_test(c, &c->tests[i]);
        char a[256], b[256];
        if (!list[i].seeds)
            return fail(st, "%s: no run has both %s and %s, problem by problem", c->id,
                        claim_side_text(&c->tests[i].a, a), claim_side_text(&c->tests[i].b, b));
    }
    Compared directed[CLAIM_TESTS]; /* equality is no test of a difference: its interval is looked at as it is */
    const ClaimTest *tests = c->tests;
    int n = 0;
    for (int i = 0; i < c->n_tests; i++) {
        if (one_number(&list[i])) list[i].p = 1;
        if (is_directed(&tests[i])) directed[n++] = list[i];
    }
    stats_holm(directed, n);
    n = 0;
    for (int i = 0; i < c->n_tests; i++) c->tests[i].found = is_directed(&tests[i]) ? directed[n++] : list[i];
    return true;
}

/* ---- Verdicts ---- */

int claim_test_verdict(const ClaimTest *t)
{
    if (t->expect == CLAIM_SHOWN) return 1;
    if (t->expect) return (int)stats_verdict(&t->found) * t->expect;
    double within = t->within / claim_unit(t), low = t->found.low, high = t->found.high;
    if (low >= -within && high <= within) return 1;
    return within == 0 || low > within || high < -within ? -1 : 0;
}

const char *claim_test_text(const ClaimTest *t, char out[96])
{
    int v = claim_test_verdict(t);
    if (t->expect == CLAIM_SHOWN) return "shown";
    if (t->expect && one_number(&t->found)) snprintf(out, 96, "not resolved (one number of one seed)");
    if (t->expect) return one_number(&t->found) ? out : results_verdict(&t->found, out);
    snprintf(out, 96, "%s", v > 0 ? "equal" : v < 0 ? "different" : "not resolved");
    if (v > 0 && t->within > 0) snprintf(out, 96, "equal within %g%s", t->within, claim_unit(t) > 1 ? " points" : "");
    return out;
}

const char *claim_expectation(const ClaimTest *t)
{
    return t->expect == CLAIM_SHOWN ? "nothing" : t->expect > 0 ? "higher" : t->expect < 0 ? "lower" : "equal";
}

const char *claim_expected(const ClaimTest *t, char out[64])
{
    snprintf(out, 64, "%s", claim_expectation(t));
    if (!t->expect && t->within > 0)
        snprintf(out, 64, "equal within %g%s", t->within, claim_unit(t) > 1 ? " points" : "");
    return out;
}

ClaimVerdict claim_verdict(const Claim *c)
{
    bool all = true;
    for (int i = 0; i < c->n_tests; i++) {
        if (!c->tests[i].found.seeds) return CLAIM_UNRUN;
        int v = claim_test_verdict(&c->tests[i]);
        if (v < 0) return CLAIM_OPPOSITE;
        all = all && v > 0;
    }
    return all ? CLAIM_REPRODUCED : CLAIM_OPEN;
}

const char *claim_verdict_name(ClaimVerdict v)
{
    static const char *const names[] = {"not run", "reproduced", "not reproduced at this size", "not resolved"};
    return names[v];
}

const char *claim_side_text(const ClaimSide *s, char out[256])
{
    const char *dot = strrchr(s->arm, '.'), *arm = dot ? dot + 1 : s->arm; /* folders carry the claim's id before it */
    bool named = strcmp(arm, "run") != 0;
    snprintf(out, 256, "%s%s%s %s", named ? arm : "", named ? "/" : "", s->unit, s->metric);
    return out;
}

double claim_unit(const ClaimTest *t)
{
    static const char *const numbers[] = {"length", "loss", "checks", "slips", "revisions", "weights", "seconds"};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strncmp(t->a.metric, numbers[i], strlen(numbers[i]))) return 1;
    return 100;
}
