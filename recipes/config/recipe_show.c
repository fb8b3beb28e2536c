/* A path followed through the tree of the resolved recipe. */
#include "recipes/config/recipe_show.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/config/recipe_load.h"
#include "recipes/config/yaml.h"

static const Node *named(const Node *list, const char *name)
{
    for (int i = 0; list && list->kind == NODE_LIST && i < list->n; i++) {
        const Node *own = node_get(list->items[i], "name");
        if (own && own->text && !strcmp(own->text, name)) return list->items[i];
    }
    return NULL;
}

static const Node *follow(const Node *tree, char *path)
{
    const Node *at = tree;
    char *rest = NULL;
    for (char *part = strtok_r(path, ".", &rest); part && at; part = strtok_r(NULL, ".", &rest)) {
        const Node *next = at->kind == NODE_LIST ? named(at, part) : node_get(at, part);
        if (!next && at == tree) next = named(node_get(tree, "stages"), part);
        at = next;
    }
    return at;
}

static void write_value(const Node *n, FILE *f)
{
    const char *between = "";
    if (n->kind == NODE_SCALAR) {
        fputs(n->text, f);
    } else if (n->kind == NODE_MAP) {
        for (int i = 0; i < n->n; i++, between = "\n") {
            fprintf(f, "%s%s: ", between, n->items[i]->key);
            write_value(n->items[i], f);
        }
    } else {
        bool maps = n->n && n->items[0]->kind == NODE_MAP;
        if (!maps) fputc('[', f);
        for (int i = 0; i < n->n; i++, between = ", ") {
            const Node *name = node_get(n->items[i], "name"), *weight = node_get(n->items[i], "weight");
            fputs(between, f);
            if (!maps) write_value(n->items[i], f);
            else if (name) fprintf(f, "%s%s%s", name->text, weight ? " " : "", weight ? weight->text : "");
        }
        if (!maps) fputc(']', f);
    }
}

char *recipe_show(const Recipe *r, const char *path, Status *st)
{
    char *text = recipe_write(r), *copy = strdup(path), *out = NULL;
    size_t size = 0;
    CHECK(text && copy);
    Node *tree = node_parse(text, "recipe", true, st);
    CHECK(tree);
    const Node *n = follow(tree, copy);
    if (n) {
        FILE *f = open_memstream(&out, &size);
        CHECK(f);
        write_value(n, f);
        CHECK(!fclose(f));
    } else {
        fail(st, "the recipe has no key '%s' (`r1 run RECIPE --resolved` lists what it has)", path);
    }
    node_free(tree);
    free(text);
    free(copy);
    return out;
}
