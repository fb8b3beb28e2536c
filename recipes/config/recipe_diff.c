/* The first difference of two resolved recipes, found in their trees. */
#include "recipes/config/recipe_diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/config/paths.h"
#include "recipes/config/recipe_load.h"
#include "recipes/config/yaml.h"

typedef struct Difference {
    char *out;
    size_t size;
} Difference;

static const char *show(const Node *n)
{
    if (!n) return "absent";
    if (n->kind != NODE_SCALAR) return n->n ? "a list or section" : "empty";
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

/* f: the row that a and b are values of; of: the section whose keys they have, or whose elements they list. */
static bool same_node(const Difference *d, const char *path, const Field *f, const Section *of, const Node *a,
                      const Node *b)
{
    char below[512];
    if (!b || a->kind != b->kind) return differ(d, path, a, b);
    if (a->kind == NODE_SCALAR)
        return paths_same(f ? f->path : PATH_NONE, a->text, b->text) ? true : differ(d, path, a, b);
    for (int i = 0; i < a->n; i++) {
        child_path(below, sizeof below, path, a, i);
        const Field *row = of && a->kind == NODE_MAP ? section_any_field(of, a->items[i]->key) : f;
        if (!same_node(d, below, row, row && a->kind == NODE_MAP ? row->section : of, a->items[i],
                       counterpart(a, b, i)))
            return false;
    }
    for (int i = 0; i < b->n; i++) {
        child_path(below, sizeof below, path, b, i);
        if (!counterpart(b, a, i)) return differ(d, below, NULL, b->items[i]);
    }
    return true;
}

/* The text with the keys that have come since it was written; the text itself where this program cannot read it. */
static char *of_today(const char *text)
{
    Status ignored = {0};
    Recipe *r = recipe_parse_resolved(text, "recipe", &ignored);
    char *written = r ? recipe_write(r) : strdup(text);
    CHECK(written);
    free(r);
    return written;
}

bool recipe_same(const char *a, const char *b, char *difference, size_t size)
{
    if (!strcmp(a, b)) return true;
    Status st = {0};
    char *here = of_today(a), *there = of_today(b);
    Node *first = node_parse(here, "here", true, &st), *second = first ? node_parse(there, "there", true, &st) : NULL;
    bool same = false;
    if (second) same = same_node(&(Difference){difference, size}, "", NULL, &recipe_section, first, second);
    else snprintf(difference, size, "%s", st.text);
    node_free(first);
    node_free(second);
    free(here);
    free(there);
    return same;
}
