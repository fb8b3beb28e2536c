/* A tree of values -> a struct, row by row of a section of the key table. */
#include "core/schedule.h"
#include "recipes/config/bind.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/check.h"
#include "recipes/config/did_you_mean.h"
#include "recipes/config/recipe.h"

enum { PATH = 256 };

static void append(char *out, size_t size, const char *text)
{
    size_t used = strlen(out);
    snprintf(out + used, size - used, "%s", text);
}

static void append_names(const Field *f, char *out, size_t size)
{
    for (int i = 0; f->name(i); i++) {
        append(out, size, i ? ", " : "");
        append(out, size, f->name(i));
    }
}

static void append_range(const Field *f, char *out, size_t size)
{
    char text[96];
    if (f->high >= 1e9) snprintf(text, sizeof text, "%.15g or more", f->low);
    else snprintf(text, sizeof text, "from %.15g to %.15g", f->low, f->high);
    append(out, size, text);
}

void field_expectation(const Field *f, char *out, size_t size)
{
    out[0] = 0;
    char text[64];
    switch (f->type) {
    case FIELD_INT:
    case FIELD_SEED:
        append(out, size, "an integer ");
        append_range(f, out, size);
        return;
    case FIELD_REAL:
    case FIELD_FLOAT:
        append(out, size, "a number ");
        append_range(f, out, size);
        return;
    case FIELD_BOOL: append(out, size, "true or false"); return;
    case FIELD_TEXT: snprintf(out, size, "text of at most %d bytes", f->size - 1); return;
    case FIELD_ENUM:
        append(out, size, "one of ");
        append_names(f, out, size);
        return;
    case FIELD_SET:
        append(out, size, "a list of ");
        append_names(f, out, size);
        return;
    case FIELD_LEVELS:
        append(out, size, "[first, last] or one integer, ");
        append_range(f, out, size);
        return;
    case FIELD_RAMP:
        append(out, size, "an integer ");
        append_range(f, out, size);
        append(out, size, ", or {from, to, over}: two of these and a number of steps");
        return;
    case FIELD_TEXTS:
        snprintf(text, sizeof text, "1 to %d names of at most %d bytes", RECIPE_NAMES, RECIPE_GLOB - 1);
        append(out, size, text);
        return;
    case FIELD_REALS:
        snprintf(text, sizeof text, f->count == FIELD_NONE ? "a list of %d numbers " : "a list of at most %d numbers ",
                 f->size);
        append(out, size, text);
        append_range(f, out, size);
        return;
    case FIELD_SECTION: append(out, size, "a mapping of keys"); return;
    case FIELD_LIST: snprintf(out, size, "a list of at most %d, or a mapping by name", f->size); return;
    }
}

/* ---- Reading ---- */

typedef struct Place {
    const Field *field;
    const Node *node;
    const char *path; /* of the section */
    Status *st;
} Place;

static void full_key(char *out, const char *path, const char *key)
{
    snprintf(out, PATH, "%.160s%s%.64s", path, path[0] ? "." : "", key);
}

static bool wrong(const Place *p)
{
    char expected[400], key[PATH], hint[80] = "";
    field_expectation(p->field, expected, sizeof expected);
    full_key(key, p->path, p->field->key);
    const Node *n = p->node;
    bool scalar = n->kind == NODE_SCALAR;
    if (scalar && p->field->name) {
        Nearest near = nearest_start(n->text);
        for (int i = 0; p->field->name(i); i++) nearest_try(&near, p->field->name(i));
        nearest_hint(&near, hint, sizeof hint);
    }
    return fail(p->st, "%s: %s must be %s, not %s%.80s%s%s", n->where, key, expected, scalar ? "'" : "",
                scalar                 ? n->text
                : n->kind == NODE_LIST ? "a list"
                                       : "a mapping",
                scalar ? "'" : "", hint);
}

static bool scan_real(const Place *p, const Node *n, double *out)
{
    if (n->kind != NODE_SCALAR || n->quoted || !n->text[0] || isspace((unsigned char)n->text[0])) return wrong(p);
    char *end;
    double v = strtod(n->text, &end);
    if (*end || !isfinite(v) || v < p->field->low || v > p->field->high) return wrong(p);
    *out = v;
    return true;
}

static bool scan_int(const Place *p, const Node *n, int64_t *out)
{
    if (n->kind != NODE_SCALAR || n->quoted || !n->text[0] || isspace((unsigned char)n->text[0])) return wrong(p);
    char *end;
    errno = 0;
    long long v = strtoll(n->text, &end, 10);
    if (*end || errno || (double)v < p->field->low || (double)v > p->field->high) return wrong(p);
    *out = v;
    return true;
}

static bool scan_bool(const Place *p, bool *out)
{
    const Node *n = p->node;
    static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no", "off"};
    if (n->kind != NODE_SCALAR || n->quoted) return wrong(p);
    for (int i = 0; i < 3; i++) {
        if (!strcasecmp(n->text, yes[i])) return *out = true, true;
        if (!strcasecmp(n->text, no[i])) return *out = false, true;
    }
    return wrong(p);
}

static int name_index(const Field *f, const Node *n)
{
    if (n->kind != NODE_SCALAR) return -1;
    for (int i = 0; f->name(i); i++)
        if (!strcmp(f->name(i), n->text)) return i;
    return -1;
}

static bool read_set(const Place *p, unsigned *out)
{
    unsigned bits = 0;
    if (p->node->kind == NODE_MAP) return wrong(p);
    int n = p->node->kind == NODE_SCALAR ? 1 : p->node->n;
    for (int i = 0; i < n; i++) {
        const Node *item = p->node->kind == NODE_SCALAR ? p->node : p->node->items[i];
        int bit = name_index(p->field, item);
        if (bit < 0) return wrong(&(Place){p->field, item, p->path, p->st});
        bits |= 1u << bit;
    }
    if (!bits) return wrong(p);
    *out = bits;
    return true;
}

static bool read_levels(const Place *p, int *out)
{
    int64_t v[2];
    if (p->node->kind == NODE_SCALAR) {
        if (!scan_int(p, p->node, &v[0])) return false;
        v[1] = v[0];
    } else {
        if (p->node->kind != NODE_LIST || p->node->n != 2) return wrong(p);
        for (int i = 0; i < 2; i++)
            if (!scan_int(p, p->node->items[i], &v[i])) return false;
    }
    if (v[0] > v[1]) return wrong(p);
    out[0] = (int)v[0];
    out[1] = (int)v[1];
    return true;
}

static bool read_ramp(const Place *p, BatchRamp *out)
{
    static const char *const keys[] = {"from", "to", "over"};
    int64_t v[3] = {0};
    if (p->node->kind == NODE_SCALAR) {
        if (!scan_int(p, p->node, &v[1])) return false;
        *out = (BatchRamp){(int)v[1], (int)v[1], 0};
        return true;
    }
    if (p->node->kind != NODE_MAP || p->node->n != 3) return wrong(p);
    Field steps = *p->field;
    steps.high = 1e9;
    for (int i = 0; i < 3; i++) {
        const Node *n = node_get(p->node, keys[i]);
        Place at = *p;
        if (i == 2) at.field = &steps;
        if (!n) return wrong(p);
        if (!scan_int(&at, n, &v[i])) return false;
    }
    *out = (BatchRamp){(int)v[0], (int)v[1], (int)v[2]};
    return true;
}

static bool read_reals(const Place *p, char *base)
{
    const Field *f = p->field;
    const Node *n = p->node;
    bool fixed = f->count == FIELD_NONE;
    if (n->kind != NODE_LIST || (fixed ? n->n != f->size : n->n > f->size)) return wrong(p);
    for (int i = 0; i < n->n; i++)
        if (!scan_real(p, n->items[i], (double *)(void *)(base + f->offset) + i)) return false;
    if (!fixed) *(int *)(void *)(base + f->count) = n->n;
    return true;
}

static bool read_texts(const Place *p, RecipeNames *out)
{
    const Node *n = p->node;
    bool one = n->kind == NODE_SCALAR;
    int count = one ? 1 : n->n;
    if (n->kind == NODE_MAP || count < 1 || count > RECIPE_NAMES) return wrong(p);
    for (int i = 0; i < count; i++) {
        const Node *item = one ? n : n->items[i];
        if (item->kind != NODE_SCALAR || !item->text[0] || strlen(item->text) >= RECIPE_GLOB)
            return wrong(&(Place){p->field, item, p->path, p->st});
        strcpy(out->list[i], item->text);
    }
    out->n = count;
    return true;
}

static bool read_text(const Place *p, char *out)
{
    const Node *n = p->node;
    if (n->kind != NODE_SCALAR) return wrong(p);
    if (node_is_null(n)) return true;
    if (strlen(n->text) >= (size_t)p->field->size) return wrong(p);
    strcpy(out, n->text);
    return true;
}

static bool read_list(const Place *p, char *base)
{
    const Field *f = p->field;
    const Node *n = p->node;
    if (n->kind != NODE_LIST || n->n > f->size) return wrong(p);
    for (int i = 0; i < n->n; i++) {
        const Node *name = node_get(n->items[i], f->section->identity);
        char key[PATH], path[PATH], number[16];
        snprintf(number, sizeof number, "%d", i);
        full_key(key, p->path, f->key);
        full_key(path, key, name && name->kind == NODE_SCALAR ? name->text : number);
        if (n->items[i]->kind != NODE_MAP)
            return fail(p->st, "%s: %s must be a mapping of keys", n->items[i]->where, path);
        if (!bind_read(f->section, n->items[i], base + f->offset + (size_t)i * f->section->size, path, p->st))
            return false;
    }
    *(int *)(void *)(base + f->count) = n->n;
    return true;
}

static bool read_section(const Place *p, char *base, bool given)
{
    const Field *f = p->field;
    if (f->count != FIELD_NONE) {
        if (!given) return true;
        *(bool *)(base + f->count) = true;
    }
    char path[PATH];
    full_key(path, p->path, f->key);
    Node *empty = node_is_null(p->node) ? node_new(NODE_MAP, NULL, p->node->where) : NULL;
    const Node *map = empty ? empty : p->node;
    bool ok = map->kind == NODE_MAP ? bind_read(f->section, map, base + f->offset, path, p->st) : wrong(p);
    node_free(empty);
    return ok;
}

static bool read_value(const Place *p, char *base, bool given)
{
    void *out = base + p->field->offset;
    int64_t integer;
    double real;
    int i;
    switch (p->field->type) {
    case FIELD_INT: return scan_int(p, p->node, &integer) && (*(int *)out = (int)integer, true);
    case FIELD_SEED: return scan_int(p, p->node, &integer) && (*(uint32_t *)out = (uint32_t)integer, true);
    case FIELD_REAL: return scan_real(p, p->node, &real) && (*(double *)out = real, true);
    case FIELD_FLOAT: return scan_real(p, p->node, &real) && (*(float *)out = (float)real, true);
    case FIELD_BOOL: return scan_bool(p, out);
    case FIELD_TEXT: return read_text(p, out);
    case FIELD_ENUM: return (i = name_index(p->field, p->node)) >= 0 ? (*(int *)out = i, true) : wrong(p);
    case FIELD_SET: return read_set(p, out);
    case FIELD_LEVELS: return read_levels(p, out);
    case FIELD_RAMP: return read_ramp(p, out);
    case FIELD_TEXTS: return read_texts(p, out);
    case FIELD_REALS: return read_reals(p, base);
    case FIELD_SECTION: return read_section(p, base, given);
    case FIELD_LIST: return read_list(p, base);
    }
    return false;
}

static bool read_field(const Field *f, const Node *map, void *out, const char *path, Status *st)
{
    Node *given = node_get(map, f->key);
    if (given) return read_value(&(Place){f, given, path, st}, out, true);
    if (!f->initial)
        return fail(st, "%s: %s needs the key '%s' (%s)", map->where, path[0] ? path : "the recipe", f->key, f->help);
    if (!f->initial[0]) return true;
    Node *initial = node_parse(f->initial, map->where, false, st);
    CHECK(initial);
    bool ok = read_value(&(Place){f, initial, path, st}, out, false);
    node_free(initial);
    return ok;
}

static bool unknown_key(const Section *b, const Node *node, int variant, const char *path, Status *st)
{
    Nearest near = nearest_start(node->key);
    const char *elsewhere = NULL;
    char hint[80], what[80] = "";
    for (int i = 0; i < b->n; i++) {
        if (section_field(b, b->fields[i].key, variant)) nearest_try(&near, b->fields[i].key);
        else if (!strcmp(b->fields[i].key, node->key)) elsewhere = b->fields[i].key;
    }
    if (b->variant)
        snprintf(what, sizeof what, " (%s %s)", b->variant, section_field(b, b->variant, -1)->name(variant));
    if (elsewhere)
        return fail(st, "%s: '%s' is no key of %s%s, only of another %s; remove it", node->where, node->key, path, what,
                    b->variant);
    return fail(st, "%s: unknown key '%s' in %s%s%s (`r1 run --help-recipe` lists all keys)", node->where, node->key,
                path[0] ? path : "the recipe", what, nearest_hint(&near, hint, sizeof hint));
}

static bool check_alone(const Section *b, const Node *map, const void *out, const char *path, Status *st)
{
    if (!b->alone || !((const char *)out)[section_field(b, b->alone, -1)->offset]) return true;
    for (int i = 0; i < map->n; i++)
        if (strcmp(map->items[i]->key, b->alone))
            return fail(st, "%s: %s.%s says what the model is, so '%s' may not be given beside it",
                        map->items[i]->where, path, b->alone, map->items[i]->key);
    return true;
}

bool bind_read(const Section *b, const Node *map, void *out, const char *path, Status *st)
{
    int variant = -1;
    if (b->variant) {
        if (!read_field(section_field(b, b->variant, -1), map, out, path, st)) return false;
        variant = section_variant(b, out);
    }
    for (int i = 0; i < map->n; i++)
        if (!section_field(b, map->items[i]->key, variant)) return unknown_key(b, map->items[i], variant, path, st);
    for (int i = 0; i < b->n; i++) {
        const Field *f = &b->fields[i];
        if (f != section_field(b, f->key, variant)) continue;
        if (!read_field(f, map, out, path, st)) return false;
    }
    return check_alone(b, map, out, path, st);
}
