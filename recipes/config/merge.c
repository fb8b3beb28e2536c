/* Trees of recipes combined: mappings by name as lists, `extends`, `--set`. */
#include "recipes/config/merge.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/config/did_you_mean.h"

static const char *element_name(const Section *b, const Node *element)
{
    const Node *name = node_get(element, b->identity);
    return name && name->kind == NODE_SCALAR ? name->text : NULL;
}

static Node *find_element(const Section *b, const Node *list, const char *name)
{
    for (int i = 0; i < list->n; i++) {
        const char *n = element_name(b, list->items[i]);
        if (n && !strcmp(n, name)) return list->items[i];
    }
    return NULL;
}

static Node *named_map(const Section *b, const char *name, const char *where)
{
    Node *map = node_new(NODE_MAP, NULL, where);
    node_put(map, b->identity, node_new(NODE_SCALAR, name, where));
    return map;
}

/* One entry of a mapping by name -> an element of the list. */
static Node *element_of_entry(const Section *b, const Node *entry, Status *st)
{
    Node *map = named_map(b, entry->key, entry->where);
    if (entry->kind == NODE_MAP) {
        for (int i = 0; i < entry->n; i++) node_put(map, entry->items[i]->key, node_copy(entry->items[i]));
    } else if (!node_is_null(entry)) {
        if (!b->scalar || entry->kind != NODE_SCALAR) {
            fail(st, "%s: '%s' must be a mapping of the %s's keys", entry->where, entry->key, b->title);
            node_free(map);
            return NULL;
        }
        node_put(map, b->scalar, node_copy(entry));
    }
    return map;
}

/* An element of a list gets its name: a bare word is it, otherwise the first of kind, task, file's last part. */
static void name_element(const Section *b, Node **element)
{
    Node *e = *element;
    if (e->kind == NODE_SCALAR && !node_is_null(e)) {
        *element = named_map(b, e->text, e->where);
        node_free(e);
        return;
    }
    static const char *const sources[] = {"kind", "task", "file"};
    Node *given = node_get(e, b->identity);
    if (e->kind != NODE_MAP || (given && !node_is_null(given) && given->text && given->text[0])) return;
    for (int i = 0; i < 3; i++) {
        Node *from = section_any_field(b, sources[i]) ? node_get(e, sources[i]) : NULL;
        if (!from || from->kind != NODE_SCALAR || !from->text[0]) continue;
        const char *slash = strrchr(from->text, '/');
        node_put(e, b->identity, node_new(NODE_SCALAR, slash ? slash + 1 : from->text, from->where));
        return;
    }
}

static Node *normal_list(const Section *b, const Node *value, Status *st)
{
    Node *list = node_new(NODE_LIST, NULL, value->where);
    list->by_name = value->by_name || (value->kind == NODE_MAP && b == &stage_section);
    for (int i = 0; i < value->n; i++) {
        Node *e = value->kind == NODE_MAP ? element_of_entry(b, value->items[i], st) : node_copy(value->items[i]);
        if (!e) {
            node_free(list);
            return NULL;
        }
        name_element(b, &e);
        node_append(list, e);
        if (e->kind == NODE_MAP && !merge_normalise(b, e, st)) {
            node_free(list);
            return NULL;
        }
    }
    return list;
}

/* The entries that are no paths. */
static bool normalise_entries(const Section *b, Node *map, Status *st)
{
    for (int i = 0; i < map->n; i++) {
        Node *value = map->items[i];
        const Field *f = section_any_field(b, value->key);
        if (!f) continue;
        if (f->type == FIELD_SECTION && value->kind == NODE_MAP && !merge_normalise(f->section, value, st))
            return false;
        if (f->type != FIELD_LIST || (value->kind == NODE_SCALAR && !node_is_null(value))) continue;
        Node *list = normal_list(f->section, value, st);
        if (!list) return false;
        node_put(map, f->key, list);
    }
    return true;
}

/* by_name: changes elements in place, appends new ones. */
static void merge_elements(const Section *b, Node *base, const Node *over)
{
    for (int i = 0; i < over->n; i++) {
        const char *name = element_name(b, over->items[i]);
        Node *old = name ? find_element(b, base, name) : NULL;
        if (old && over->items[i]->kind == NODE_MAP) merge_over(b, old, over->items[i]);
        else node_append(base, node_copy(over->items[i]));
    }
}

/* A list that replaces another; its elements start from the old ones of the same name. */
static Node *replace_stages(const Section *b, const Node *base, const Node *over)
{
    Node *list = node_new(NODE_LIST, NULL, over->where);
    for (int i = 0; i < over->n; i++) {
        const char *name = element_name(b, over->items[i]);
        const Node *old = name ? find_element(b, base, name) : NULL;
        Node *e = node_copy(old ? old : over->items[i]);
        if (old) merge_over(b, e, over->items[i]);
        node_append(list, e);
    }
    return list;
}

void merge_over(const Section *b, Node *base, const Node *over)
{
    for (int i = 0; i < over->n; i++) {
        const Node *value = over->items[i];
        const Field *f = section_any_field(b, value->key);
        Node *old = node_get(base, value->key);
        bool lists = f && f->type == FIELD_LIST && old && old->kind == NODE_LIST && value->kind == NODE_LIST;
        if (lists && value->by_name) merge_elements(f->section, old, value);
        else if (lists && f->section == &stage_section)
            node_put(base, value->key, replace_stages(f->section, old, value));
        else if (f && f->type == FIELD_SECTION && old && old->kind == NODE_MAP && value->kind == NODE_MAP)
            merge_over(f->section, old, value);
        else node_put(base, value->key, node_copy(value));
    }
}

/* ---- Paths: `--set a.b=c`, and the key a.b of a mapping ---- */

typedef struct KeyPath {
    char text[512];
    char *parts[16];
    int n;
} KeyPath;

/* `where` begins the sentence. */
static bool split_path(const char *key, size_t length, KeyPath *p, const char *where, Status *st)
{
    p->n = 0;
    if (length >= sizeof p->text - 16) return fail(st, "%s: a key of more than 495 letters", where);
    memcpy(p->text, key, length);
    p->text[length] = 0;
    for (char *part = strtok(p->text, "."); part; part = strtok(NULL, ".")) {
        if (p->n == 15) return fail(st, "%s: a path of more than 15 keys", where);
        p->parts[p->n++] = part;
    }
    return p->n ? true : fail(st, "%s: a path without a key", where);
}

/* A stage's name may stand first: "zero.steps" is "stages.zero.steps". */
static bool find_start(const Section *b, const Node *base, KeyPath *p, const char *set, Status *st)
{
    if (section_any_field(b, p->parts[0])) return true;
    const Node *stages = node_get(base, "stages");
    if (stages && find_element(&stage_section, stages, p->parts[0])) {
        memmove(p->parts + 1, p->parts, (size_t)p->n++ * sizeof *p->parts);
        p->parts[0] = "stages";
        return true;
    }
    Nearest near = nearest_start(p->parts[0]);
    for (int i = 0; i < b->n; i++) nearest_try(&near, b->fields[i].key);
    for (int i = 0; stages && i < stages->n; i++) {
        const char *name = element_name(&stage_section, stages->items[i]);
        if (name) nearest_try(&near, name);
    }
    char hint[80];
    return fail(st, "--set %s: '%s' is no key of the recipe and none of its stages%s", set, p->parts[0],
                nearest_hint(&near, hint, sizeof hint));
}

/* The place a path's list element stands for: its name, or the name of element number N. */
static const char *element_of_part(const Section *b, const Node *list, const char *part)
{
    if (!list || list->kind != NODE_LIST || find_element(b, list, part)) return part;
    char *end;
    long i = strtol(part, &end, 10);
    if (*end || i < 0 || i >= list->n) return part;
    const char *name = element_name(b, list->items[i]);
    return name ? name : part;
}

static bool known_stage(const Node *list, const char *part, const char *set, Status *st)
{
    if (list && find_element(&stage_section, list, part)) return true;
    Nearest near = nearest_start(part);
    for (int i = 0; list && i < list->n; i++) {
        const char *name = element_name(&stage_section, list->items[i]);
        if (name) nearest_try(&near, name);
    }
    char hint[80];
    return fail(st, "--set %s: the recipe has no stage '%s'%s", set, part, nearest_hint(&near, hint, sizeof hint));
}

/* Builds {part0: {part1: ... value}}; where the table has lists, a mapping by name that changes elements. set: the text of
 * `--set`, whose stages must be there in base; NULL: a key of a mapping, which does not know yet what it is put on. */
static bool nest(const Section *b, const Node *base, const KeyPath *p, Node *root, Node *value, const char *set,
                 Status *st)
{
    Node *at = root;
    bool in_list = false;
    for (int i = 0; i < p->n; i++) {
        const char *key = p->parts[i];
        if (in_list) {
            key = element_of_part(b, base, key);
            if (set && b == &stage_section && !known_stage(base, key, set, st)) return false;
            base = base && base->kind == NODE_LIST ? find_element(b, base, key) : NULL;
            in_list = false;
        } else {
            const Field *f = b ? section_any_field(b, key) : NULL;
            base = node_get(base, key);
            in_list = f && f->type == FIELD_LIST;
            b = f ? f->section : NULL;
        }
        bool last = i == p->n - 1;
        Node *child = last ? value : node_new(NODE_MAP, NULL, value->where);
        child->by_name = in_list && !last;
        node_put(at, key, child);
        at = child;
    }
    return true;
}

/* `rewards.language: 0` in a mapping: one element of what the mapping is put on, or of its own list, is changed. */
static bool put_path(const Section *b, Node *map, Node *value, Status *st)
{
    KeyPath p;
    Node *root = node_new(NODE_MAP, NULL, value->where);
    if (!split_path(value->key, strlen(value->key), &p, value->where, st)) {
        node_free(value);
        node_free(root);
        return false;
    }
    nest(b, NULL, &p, root, value, NULL, st);
    bool ok = merge_normalise(b, root, st);
    if (ok) merge_over(b, map, root);
    node_free(root);
    return ok;
}

static bool is_path(const Section *b, const char *key)
{
    char first[64];
    size_t n = strcspn(key, ".");
    if (!key[n] || n >= sizeof first) return false;
    memcpy(first, key, n);
    first[n] = 0;
    return section_any_field(b, first) != NULL;
}

/* Takes the entries that are paths out of the map; returns a map of them. */
static Node *take_paths(const Section *b, Node *map)
{
    Node *paths = node_new(NODE_MAP, NULL, map->where);
    int kept = 0;
    for (int i = 0; i < map->n; i++) {
        if (is_path(b, map->items[i]->key)) node_append(paths, map->items[i]);
        else map->items[kept++] = map->items[i];
    }
    map->n = kept;
    return paths;
}

bool merge_normalise(const Section *b, Node *map, Status *st)
{
    Node *paths = take_paths(b, map);
    bool ok = normalise_entries(b, map, st);
    for (int i = 0; i < paths->n && ok; i++) ok = put_path(b, map, node_copy(paths->items[i]), st);
    node_free(paths);
    return ok;
}

bool merge_set(const Section *b, Node *base, const char *set, Status *st)
{
    KeyPath p;
    char where[256];
    const char *equals = strchr(set, '='), *text = equals ? equals + 1 : NULL;
    snprintf(where, sizeof where, "--set %.200s", set);
    if (!equals || equals == set)
        return fail(st, "--set %s: write it as KEY=VALUE, for example --set zero.steps=50", set);
    if (!split_path(set, (size_t)(equals - set), &p, where, st) || !find_start(b, base, &p, set, st)) return false;
    Node *value = text[0] ? node_parse(text, where, false, st) : node_new(NODE_SCALAR, "", where);
    if (!value) return false;
    Node *root = node_new(NODE_MAP, NULL, where);
    bool placed = nest(b, base, &p, root, value, set, st);
    bool ok = placed && merge_normalise(b, root, st);
    if (ok) merge_over(b, base, root);
    if (!placed) node_free(value);
    node_free(root);
    return ok;
}

void merge_inherited(Node *tree)
{
    static const char *const keys[] = {"rewards", "tasks"};
    const Node *stages = node_get(tree, "stages");
    for (int i = 0; stages && stages->kind == NODE_LIST && i < stages->n; i++) {
        for (int k = 0; k < 2; k++) {
            Node *own = node_get(stages->items[i], keys[k]);
            const Node *recipe = node_get(tree, keys[k]);
            if (!own || own->kind != NODE_LIST || !own->by_name || !recipe || recipe->kind != NODE_LIST) continue;
            Node *both = node_copy(recipe);
            merge_elements(section_any_field(&stage_section, keys[k])->section, both, own);
            node_put(stages->items[i], keys[k], both);
        }
    }
}
