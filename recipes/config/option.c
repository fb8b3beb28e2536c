/* A value of the command line checked and stored; an option's lines in --help. */
#include "recipes/config/option.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static bool not_a_number(const Option *o, const char *text, Status *st)
{
    return fail(st, "%s %s: expected a %snumber from %.10g to %.10g", o->name, text,
                o->type == OPTION_INT ? "whole " : "", o->low, o->high);
}

static bool store_choice(const Option *o, const char *text, Status *st)
{
    const OptionChoice *c = o->out;
    char names[200] = "";
    for (int k = 0; c->name(k); k++) {
        if (!strcmp(c->name(k), text)) {
            *c->out = k;
            if (c->given) *c->given = true;
            return true;
        }
        size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", !k ? "" : c->name(k + 1) ? ", " : " or ", c->name(k));
    }
    return fail(st, "%s %s: expected %s", o->name, text, names);
}

bool option_store(const Option *o, const char *text, Status *st)
{
    char *end;
    if (o->type == OPTION_FLAG) *(bool *)o->out = true;
    if (o->type == OPTION_TEXT) *(const char **)o->out = text;
    if (o->type == OPTION_INT) {
        long v = strtol(text, &end, 10);
        if (*end || end == text || v < o->low || v > o->high || v > INT_MAX) return not_a_number(o, text, st);
        *(int *)o->out = (int)v;
    }
    if (o->type == OPTION_REAL) {
        double v = strtod(text, &end);
        if (*end || end == text || !(v >= o->low && v <= o->high)) return not_a_number(o, text, st);
        *(double *)o->out = v;
    }
    return o->type != OPTION_CHOICE || store_choice(o, text, st);
}

void option_print(const Option *o, FILE *out)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    fprintf(out, "  %-24s", left);
    if (strlen(left) > 24) fprintf(out, "\n%26s", "");
    for (const char *p = o->help; *p; p++) {
        if (*p == '\n') fprintf(out, "\n%26s", "");
        else fputc(*p, out);
    }
    fputc('\n', out);
}
