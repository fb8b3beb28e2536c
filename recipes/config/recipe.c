#include "recipes/config/recipe.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "data/file.h"
#include "recipes/config/embedded.h"
#include "recipes/config/fields.h"
#include "recipes/config/merge.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/config/check.h"

enum { MAX_FILE = 1 << 20, MAX_EXTENDS = 8 };

static char *read_recipe(const char *path, Status *st)
{
    size_t n;
    char *text = file_read(path, &n, st);
    if (!text || (n <= MAX_FILE && !memchr(text, 0, n))) return text;
    fail(st, "%s is no recipe: %s", path, n > MAX_FILE ? "it is larger than 1 MiB" : "it holds zero bytes");
    free(text);
    return NULL;
}

static const char *find_embedded(const char *name)
{
    for (int i = 0; i < embedded_recipes_count; i++)
        if (!strcmp(embedded_recipes[i].name, name)) return embedded_recipes[i].text;
    return NULL;
}

static Node *unknown_recipe(const char *name, Status *st)
{
    char names[200] = "", hint[80];
    Nearest near = nearest_start(name);
    for (int i = 0; i < embedded_recipes_count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", embedded_recipes[i].name);
        nearest_try(&near, embedded_recipes[i].name);
    }
    fail(st, "there is no recipe '%s': no built-in one (%s) and no file%s", name, names,
         nearest_hint(&near, hint, sizeof hint));
    return NULL;
}

static Node *tree_of_text(const char *text, const char *where, const char *folder, int depth, Status *st);

/* A built-in recipe by name, else a file. folder: what a relative path of `extends` is relative to ("" the working folder). */
static Node *tree_of_name(const char *name, const char *folder, int depth, Status *st)
{
    const char *text = find_embedded(name);
    if (text) return tree_of_text(text, name, "", depth, st);
    char path[2 * RECIPE_PATH];
    snprintf(path, sizeof path, "%s%s", name[0] == '/' ? "" : folder, name);
    FILE *f = fopen(path, "rb");
    if (!f && errno == ENOENT && !strchr(name, '/')) return unknown_recipe(name, st);
    if (f) fclose(f);
    char *owned = read_recipe(path, st);
    if (!owned) return NULL;
    char *slash = strrchr(path, '/');
    char own_folder[2 * RECIPE_PATH] = "";
    if (slash) snprintf(own_folder, sizeof own_folder, "%.*s", (int)(slash - path + 1), path);
    Node *tree = tree_of_text(owned, path, own_folder, depth, st);
    free(owned);
    return tree;
}

static bool take_extends(Node *tree, char *name, size_t size, Status *st)
{
    name[0] = 0;
    for (int i = 0; i < tree->n; i++) {
        Node *n = tree->items[i];
        if (strcmp(n->key, "extends")) continue;
        if (n->kind != NODE_SCALAR || strlen(n->text) >= size)
            return fail(st, "%s: extends must be the name of a built-in recipe or a path", n->where);
        strcpy(name, n->text);
        node_free(n);
        memmove(tree->items + i, tree->items + i + 1, (size_t)(--tree->n - i) * sizeof *tree->items);
        return true;
    }
    return true;
}

static Node *on_top_of(const char *base_name, Node *tree, const char *folder, int depth, Status *st)
{
    if (depth >= MAX_EXTENDS) {
        fail(st, "%s: recipes extend one another more than %d deep (a circle?)", tree->where, MAX_EXTENDS);
        return NULL;
    }
    Node *base = tree_of_name(base_name, folder, depth + 1, st);
    if (base) merge_over(&recipe_block, base, tree);
    else fail_prefix(st, "%s: extends", tree->where);
    return base;
}

static Node *tree_of_text(const char *text, const char *where, const char *folder, int depth, Status *st)
{
    Node *tree = node_parse(text, where, true, st);
    if (!tree) return NULL;
    char base[RECIPE_PATH];
    bool ok = tree->kind == NODE_MAP
                  ? true
                  : fail(st, "%s: a recipe is a mapping of keys (`r1 run --help-recipe`)", tree->where);
    ok = ok && take_extends(tree, base, sizeof base, st) && merge_normalise(&recipe_block, tree, st);
    if (ok && !base[0]) return tree;
    Node *merged = ok ? on_top_of(base, tree, folder, depth, st) : NULL;
    node_free(tree);
    return merged;
}

static Recipe *recipe_of_tree(Node *tree, const char *const *sets, int n, Status *st)
{
    for (int i = 0; i < n; i++)
        if (!merge_set(&recipe_block, tree, sets[i], st)) return NULL;
    recipe_complete_tree(tree);
    Recipe *r = calloc(1, sizeof *r);
    CHECK(r);
    if (fields_read(&recipe_block, tree, r, "", st) && recipe_check(r, tree, st)) return r;
    free(r);
    return NULL;
}

Recipe *recipe_load(const char *name_or_path, const char *const *sets, int n, Status *st)
{
    Node *tree = tree_of_name(name_or_path, "", 0, st);
    if (!tree) return NULL;
    Recipe *r = recipe_of_tree(tree, sets, n, st);
    node_free(tree);
    return r;
}

Recipe *recipe_parse(const char *text, const char *where, const char *const *sets, int n, Status *st)
{
    Node *tree = tree_of_text(text, where, "", 0, st);
    if (!tree) return NULL;
    Recipe *r = recipe_of_tree(tree, sets, n, st);
    node_free(tree);
    return r;
}

char *recipe_write(const Recipe *r)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    fields_write(&recipe_block, r, f, 0);
    CHECK(!fclose(f));
    return text;
}

/* ---- The first difference of two resolved recipes ---- */

typedef struct Difference {
    char *out;
    size_t size;
} Difference;

static const char *show(const Node *n)
{
    if (!n) return "absent";
    if (n->kind != NODE_SCALAR) return n->n ? "a list or block" : "empty";
    return n->text[0] ? n->text : "empty";
}

static bool differ(const Difference *d, const char *path, const Node *a, const Node *b)
{
    snprintf(d->out, d->size, "%s is %.80s here and %.80s there", path, show(a), show(b));
    return false;
}

/* The path of child i: its key in a map, else its name or number. */
static void child_path(char *out, size_t size, const char *path, const Node *parent, int i)
{
    const Node *child = parent->items[i], *name = node_get(child, "name");
    char number[16];
    snprintf(number, sizeof number, "%d", i);
    snprintf(out, size, "%.400s%s%.100s", path, path[0] ? "." : "",
             parent->kind == NODE_MAP ? child->key
             : name && name->text     ? name->text
                                      : number);
}

static const Node *counterpart(const Node *parent, const Node *other, int i)
{
    if (parent->kind == NODE_MAP) return node_get(other, parent->items[i]->key);
    return i < other->n ? other->items[i] : NULL;
}

static bool same_node(const Difference *d, const char *path, const Node *a, const Node *b)
{
    char below[512];
    if (!b || a->kind != b->kind) return differ(d, path, a, b);
    if (a->kind == NODE_SCALAR) return strcmp(a->text, b->text) ? differ(d, path, a, b) : true;
    for (int i = 0; i < a->n; i++) {
        child_path(below, sizeof below, path, a, i);
        if (!same_node(d, below, a->items[i], counterpart(a, b, i))) return false;
    }
    for (int i = 0; i < b->n; i++) {
        child_path(below, sizeof below, path, b, i);
        if (!counterpart(b, a, i)) return differ(d, below, NULL, b->items[i]);
    }
    return true;
}

bool recipe_same(const char *a, const char *b, char *difference, size_t size)
{
    Status st = {0};
    Node *first = node_parse(a, "here", true, &st), *second = first ? node_parse(b, "there", true, &st) : NULL;
    bool same = false;
    if (second) same = same_node(&(Difference){difference, size}, "", first, second);
    else snprintf(difference, size, "%s", st.text);
    node_free(first);
    node_free(second);
    return same;
}

/* ---- Lookups ---- */

int recipe_stage_index(const Recipe *r, const char *name)
{
    for (int i = 0; i < r->n_stages; i++)
        if (!strcmp(r->stages[i].name, name)) return i;
    return -1;
}

const RecipeStage *recipe_stage(const Recipe *r, const char *name)
{
    int i = recipe_stage_index(r, name);
    return i < 0 ? NULL : &r->stages[i];
}

const RecipeTasks *recipe_tasks(const Recipe *r, const RecipeStage *s)
{
    return s->tasks.n ? &s->tasks : &r->tasks;
}

/* ---- Help ---- */

static void print_only(const Block *b, unsigned only, FILE *out)
{
    const Field *variant = block_field(b, b->variant, -1);
    const char *between = " [";
    for (int i = 0; variant->name(i); i++) {
        if (!(only >> i & 1)) continue;
        fprintf(out, "%s%s", between, variant->name(i));
        between = ", ";
    }
    fputs("]", out);
}

static void print_block(const Block *b, FILE *out)
{
    fprintf(out, "\n%s:\n", b->title);
    for (int i = 0; i < b->n; i++) {
        const Field *f = &b->fields[i];
        char expected[400];
        field_expectation(f, expected, sizeof expected);
        fprintf(out, "  %-24s %s", f->key, f->help);
        if (f->only) print_only(b, f->only, out);
        fprintf(out, "\n  %-24s   %s", "", expected);
        bool nested = f->type == FIELD_BLOCK || f->type == FIELD_LIST;
        if (nested) fprintf(out, " (%s, below)\n", f->block->title);
        else if (!f->initial) fputs("; must be given\n", out);
        else fprintf(out, "; default %s\n", f->initial[0] ? f->initial : "empty");
    }
}

/* Each block after the one that first refers to it. */
static void print_below(const Block *b, FILE *out, const Block **done, int *n)
{
    for (int i = 0; i < *n; i++)
        if (done[i] == b) return;
    done[(*n)++] = b;
    print_block(b, out);
    for (int i = 0; i < b->n; i++)
        if (b->fields[i].block) print_below(b->fields[i].block, out, done, n);
}

void recipe_print_schema(FILE *out)
{
    const Block *done[32];
    int n = 0;
    fputs("A recipe is YAML. `extends: NAME` (built in) or PATH makes another recipe the defaults; `--set a.b=c` "
          "overrides.\n"
          "Lists of named things may be mappings by name, which change single elements. [kinds]: who has the key.\n",
          out);
    print_below(&recipe_block, out, done, &n);
}
