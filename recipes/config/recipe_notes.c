/* Keys whose values are read by no family of a recipe's models. */
#include "recipes/config/recipe_notes.h"

#include <stdlib.h>
#include <string.h>

#include "recipes/config/schema.h"

typedef enum { FAMILY_DENSE, FAMILY_V2, FAMILY_V3 } Family;

static Family family_of(const ModelConfig *c)
{
    return !c->E ? FAMILY_DENSE : c->topk == TOPK_NOAUX ? FAMILY_V3 : FAMILY_V2;
}

static double value_of(const Field *f, const void *section)
{
    const void *at = (const char *)section + f->offset;
    return f->type == FIELD_INT ? *(const int *)at : *(const double *)at;
}

static unsigned family_bit(const ModelConfig *c)
{
    return 1u << family_of(c);
}

/* families: a bit each. */
static int print_notes(const Recipe *r, unsigned families, FILE *out)
{
    static const char *const v3_keys[] = {"sequence", "bias_speed"};
    int notes = 0;
    for (int i = 0; i < balance_section.n; i++) {
        const Field *f = &balance_section.fields[i];
        bool v3 = !strcmp(f->key, v3_keys[0]) || !strcmp(f->key, v3_keys[1]);
        double value = value_of(f, &r->balance);
        if (value == strtod(f->initial, NULL) || families & 1u << (v3 ? FAMILY_V3 : FAMILY_V2)) continue;
        fprintf(out, "note: balance.%s is %g, but no model of this recipe reads it: it is for experts of %s\n", f->key,
                value, v3 ? "deepseek_v3" : "deepseek_v2");
        notes++;
    }
    return notes;
}

int recipe_print_notes(const Recipe *r, FILE *out)
{
    if (r->model.from[0] || r->student.from[0]) return 0;
    return print_notes(r, family_bit(&r->model.config) | (r->student.used ? family_bit(&r->student.config) : 0), out);
}

int recipe_print_notes_of(const Recipe *r, const ModelConfig *opened, FILE *out)
{
    if (!r->model.from[0] || r->student.used) return 0;
    return print_notes(r, family_bit(opened), out);
}
