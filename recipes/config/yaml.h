/* YAML -> a small tree, the only place that sees libyaml. Anchors and aliases are resolved (copied); one document a text. */
#ifndef RECIPES_YAML_H
#define RECIPES_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/status.h"

typedef enum { NODE_SCALAR, NODE_LIST, NODE_MAP } NodeKind;

typedef struct Node Node;
struct Node {
    NodeKind kind;
    char *where;  /* "FILE:LINE", or the `--set` text it came from */
    char *key;    /* in a map */
    char *text;   /* scalar */
    bool quoted;  /* scalar in quotes: always text, never a number, a truth value or null */
    bool by_name; /* list (or mapping) that changes elements of another list (recipes/config/merge.h) */
    Node **items;
    int n, capacity;
};

/* Parses text; an empty document is an empty map. Fails on syntax errors, duplicate keys, keys that are no scalars, a second
 * document, more than 64 levels or 100,000 values. line_where false: `where` alone is every node's place. */
Node *node_parse(const char *text, const char *where, bool line_where, Status *st);
void node_free(Node *n);
Node *node_copy(const Node *n);

Node *node_new(NodeKind kind, const char *text, const char *where);
void node_append(Node *parent, Node *child);            /* takes over child */
void node_put(Node *map, const char *key, Node *child); /* replaces an entry of that key; takes over child */
Node *node_get(const Node *map, const char *key);       /* NULL when absent or no map */

/* A scalar that stands for nothing: empty, ~, null (not quoted). */
bool node_is_null(const Node *n);

/* "libyaml 0.2.5". */
const char *yaml_library(void);

#endif
