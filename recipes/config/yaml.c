/* libyaml's documents as trees of nodes. */
#include "recipes/config/yaml.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "core/base/check.h"

enum { MAX_DEPTH = 64, MAX_NODES = 100000 };

typedef struct Reader {
    yaml_document_t document;
    const char *where;
    bool line_where;
    int nodes;
    Status *st;
} Reader;

Node *node_new(NodeKind kind, const char *text, const char *where)
{
    Node *n = calloc(1, sizeof *n);
    CHECK(n);
    n->kind = kind;
    n->where = strdup(where);
    n->text = text ? strdup(text) : NULL;
    return n;
}

void node_free(Node *n)
{
    if (!n) return;
    for (int i = 0; i < n->n; i++) node_free(n->items[i]);
    free(n->items);
    free(n->where);
    free(n->key);
    free(n->text);
    free(n);
}

void node_append(Node *parent, Node *child)
{
    if (parent->n == parent->capacity) {
        parent->capacity = parent->capacity ? 2 * parent->capacity : 8;
        parent->items = realloc(parent->items, (size_t)parent->capacity * sizeof *parent->items);
        CHECK(parent->items);
    }
    parent->items[parent->n++] = child;
}

Node *node_copy(const Node *n)
{
    Node *c = node_new(n->kind, n->text, n->where);
    c->quoted = n->quoted;
    c->by_name = n->by_name;
    c->key = n->key ? strdup(n->key) : NULL;
    for (int i = 0; i < n->n; i++) node_append(c, node_copy(n->items[i]));
    return c;
}

Node *node_get(const Node *map, const char *key)
{
    if (!map || map->kind != NODE_MAP) return NULL;
    for (int i = 0; i < map->n; i++)
        if (!strcmp(map->items[i]->key, key)) return map->items[i];
    return NULL;
}

void node_put(Node *map, const char *key, Node *child)
{
    char *owned = strdup(key);
    free(child->key);
    child->key = owned;
    for (int i = 0; i < map->n; i++) {
        if (strcmp(map->items[i]->key, owned)) continue;
        node_free(map->items[i]);
        map->items[i] = child;
        return;
    }
    node_append(map, child);
}

bool node_is_null(const Node *n)
{
    if (n->kind != NODE_SCALAR || n->quoted) return false;
    return !n->text[0] || !strcmp(n->text, "~") || !strcmp(n->text, "null");
}

static Node *read_node(Reader *r, int id, int depth);

static bool read_pairs(Reader *r, const yaml_node_t *y, Node *map, int depth)
{
    for (yaml_node_pair_t *p = y->data.mapping.pairs.start; p < y->data.mapping.pairs.top; p++) {
        yaml_node_t *key = yaml_document_get_node(&r->document, p->key);
        if (key->type != YAML_SCALAR_NODE)
            return fail(r->st, "%s: a key must be one word, not a list or a mapping", map->where);
        const char *text = (const char *)key->data.scalar.value;
        Node *child = read_node(r, p->value, depth + 1);
        if (!child) return false;
        if (node_get(map, text)) {
            fail(r->st, "%s: key '%s' appears twice; remove one of the two", child->where, text);
            node_free(child);
            return false;
        }
        node_put(map, text, child);
    }
    return true;
}

static bool read_items(Reader *r, const yaml_node_t *y, Node *list, int depth)
{
    for (yaml_node_item_t *i = y->data.sequence.items.start; i < y->data.sequence.items.top; i++) {
        Node *child = read_node(r, *i, depth + 1);
        if (!child) return false;
        node_append(list, child);
    }
    return true;
}

static Node *read_node(Reader *r, int id, int depth)
{
    yaml_node_t *y = yaml_document_get_node(&r->document, id);
    char where[1024];
    if (r->line_where) snprintf(where, sizeof where, "%s:%zu", r->where, y->start_mark.line + 1);
    else snprintf(where, sizeof where, "%s", r->where);
    if (depth > MAX_DEPTH || ++r->nodes > MAX_NODES) {
        fail(r->st, "%s: too deep or too large for a recipe (an alias that contains itself?)", where);
        return NULL;
    }
    if (y->type == YAML_SCALAR_NODE) {
        Node *n = node_new(NODE_SCALAR, (const char *)y->data.scalar.value, where);
        n->quoted = y->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        return n;
    }
    bool map = y->type == YAML_MAPPING_NODE;
    Node *n = node_new(map ? NODE_MAP : NODE_LIST, NULL, where);
    if (map ? read_pairs(r, y, n, depth) : read_items(r, y, n, depth)) return n;
    node_free(n);
    return NULL;
}

/* Reads the tree, then asks for another document: only then are errors after the first one seen. */
static Node *read_document(yaml_parser_t *parser, Reader *r)
{
    if (!yaml_document_get_root_node(&r->document)) return node_new(NODE_MAP, NULL, r->where);
    Node *n = read_node(r, 1, 0);
    if (!n) return NULL;
    yaml_document_t second;
    bool read = yaml_parser_load(parser, &second);
    bool more = read && yaml_document_get_root_node(&second);
    if (read) yaml_document_delete(&second);
    if (read && !more) return n;
    if (more) fail(r->st, "%s: a second document starts after '---'; a recipe is one", r->where);
    node_free(n);
    return NULL;
}

Node *node_parse(const char *text, const char *where, bool line_where, Status *st)
{
    yaml_parser_t parser;
    CHECK(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, strlen(text));
    Reader r = {.where = where, .line_where = line_where, .st = st};
    Node *n = NULL;
    if (yaml_parser_load(&parser, &r.document)) {
        n = read_document(&parser, &r);
        yaml_document_delete(&r.document);
    }
    if (!n && parser.error != YAML_NO_ERROR) {
        fail(st, "%s:%zu: not valid YAML: %s%s%s", where, parser.problem_mark.line + 1,
             parser.problem ? parser.problem : "cannot be read", parser.context ? " " : "",
             parser.context ? parser.context : "");
    }
    yaml_parser_delete(&parser);
    return n;
}

const char *yaml_library(void)
{
    static char text[32];
    snprintf(text, sizeof text, "libyaml %s", yaml_get_version_string());
    return text;
}
