/* Text -> tree -> `extends` and `--set` on top -> struct Recipe. */
#include "recipes/config/recipe_load.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/file.h"
#include "recipes/config/bind.h"
#include "recipes/config/bind_write.h"
#include "recipes/config/check.h"
#include "recipes/config/complete.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/config/embedded.h"
#include "recipes/config/merge.h"
#include "recipes/config/paths.h"

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

const char *recipe_names(void)
{
    static char names[200];
    names[0] = 0;
    for (int i = 0; i < embedded_recipes_count; i++) {
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", embedded_recipes[i].name);
    }
    return names;
}

static Node *unknown_recipe(const char *name, Status *st)
{
    char hint[80];
    Nearest near = nearest_start(name);
    for (int i = 0; i < embedded_recipes_count; i++) nearest_try(&near, embedded_recipes[i].name);
    fail(st, "there is no recipe '%s': no built-in one (%s) and no file%s", name, recipe_names(),
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
    if (base) merge_over(&recipe_section, base, tree);
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
    ok = ok && take_extends(tree, base, sizeof base, st) && merge_normalise(&recipe_section, tree, st);
    if (ok) paths_resolve(&recipe_section, tree, folder, NULL);
    if (ok && !base[0]) return tree;
    Node *merged = ok ? on_top_of(base, tree, folder, depth, st) : NULL;
    node_free(tree);
    return merged;
}

static Recipe *recipe_of_tree(Node *tree, const char *const *sets, int n, Status *st)
{
    for (int i = 0; i < n; i++)
        if (!merge_set(&recipe_section, tree, sets[i], st)) return NULL;
    merge_inherited(tree);
    paths_resolve(&recipe_section, tree, "", node_get(tree, "stages"));
    recipe_complete_tree(tree);
    Recipe *r = calloc(1, sizeof *r);
    CHECK(r);
    if (bind_read(&recipe_section, tree, r, "", st) && recipe_check(r, tree, st)) return r;
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

/* The row of a key for a map whose variant key may be read already. */
static const Field *row_of(const Section *b, const Node *map, const char *key)
{
    const Field *variant = b->variant ? section_field(b, b->variant, -1) : NULL;
    const Node *value = variant ? node_get(map, b->variant) : NULL;
    int v = -1;
    for (int i = 0; value && value->kind == NODE_SCALAR && variant->name(i); i++)
        if (!strcmp(variant->name(i), value->text)) v = i;
    return section_field(b, key, v);
}

static void put_before(const Section *b, Node *map)
{
    for (int i = 0; i < b->n; i++) {
        const Field *f = &b->fields[i];
        Node *value = node_get(map, f->key);
        if (value && f->type == FIELD_SECTION && value->kind == NODE_MAP) put_before(f->section, value);
        for (int k = 0; value && f->type == FIELD_LIST && value->kind == NODE_LIST && k < value->n; k++)
            if (value->items[k]->kind == NODE_MAP) put_before(f->section, value->items[k]);
        if (value || !f->before || f != row_of(b, map, f->key)) continue;
        Status st = {0};
        Node *before = node_parse(f->before, map->where, false, &st);
        CHECK(before);
        node_put(map, f->key, before);
    }
}

Recipe *recipe_parse_resolved(const char *text, const char *where, Status *st)
{
    Node *tree = tree_of_text(text, where, "", 0, st);
    if (!tree) return NULL;
    put_before(&recipe_section, tree);
    Recipe *r = recipe_of_tree(tree, NULL, 0, st);
    node_free(tree);
    return r;
}

char *recipe_write(const Recipe *r)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    bind_write(&recipe_section, r, f, 0);
    CHECK(!fclose(f));
    return text;
}
