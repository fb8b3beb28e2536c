/* `r1 run --help-recipe`: the key table as text. */
#include "recipes/config/recipe_help.h"

#include "recipes/config/bind.h"
#include "recipes/config/schema.h"

static void print_only(const Section *b, unsigned only, FILE *out)
{
    const Field *variant = section_field(b, b->variant, -1);
    const char *between = " [";
    for (int i = 0; variant->name(i); i++) {
        if (!(only >> i & 1)) continue;
        fprintf(out, "%s%s", between, variant->name(i));
        between = ", ";
    }
    fputs("]", out);
}

static void print_section(const Section *b, FILE *out)
{
    fprintf(out, "\n%s:\n", b->title);
    for (int i = 0; i < b->n; i++) {
        const Field *f = &b->fields[i];
        char expected[400];
        field_expectation(f, expected, sizeof expected);
        fprintf(out, "  %-24s %s", f->key, f->help);
        if (f->only) print_only(b, f->only, out);
        fprintf(out, "\n  %-24s   %s", "", expected);
        bool nested = f->type == FIELD_SECTION || f->type == FIELD_LIST;
        if (nested) fprintf(out, " (%s, below)\n", f->section->title);
        else if (!f->initial) fputs("; must be given\n", out);
        else fprintf(out, "; default %s\n", f->initial[0] ? f->initial : "empty");
    }
}

/* Each section after the one that first refers to it. */
static void print_below(const Section *b, FILE *out, const Section **done, int *n)
{
    for (int i = 0; i < *n; i++)
        if (done[i] == b) return;
    done[(*n)++] = b;
    print_section(b, out);
    for (int i = 0; i < b->n; i++)
        if (b->fields[i].section) print_below(b->fields[i].section, out, done, n);
}

void recipe_print_schema(FILE *out)
{
    const Section *done[32];
    int n = 0;
    fputs(
        "A recipe is YAML. `extends: NAME` (built in) or PATH makes another recipe the defaults; `--set a.b=c` "
        "overrides.\n"
        "Lists of named things may be mappings by name. Written out, tasks, general and rewards replace what was "
        "there; a\n"
        "path changes one element: `rewards.language: 0`, `--set zero.rewards.language=0`. [kinds]: who has the key.\n",
        out);
    print_below(&recipe_section, out, done, &n);
}
