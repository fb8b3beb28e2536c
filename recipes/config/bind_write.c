/* A struct -> YAML with every key, row by row of a section of the key table. */
#include "recipes/config/bind_write.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "core/base/check.h"
#include "core/schedule.h"
#include "recipes/config/recipe.h"

static void write_real(FILE *f, double v)
{
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    fputs(text, f);
}

static void write_float(FILE *f, float v)
{
    char text[40];
    for (int digits = 1; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if ((float)strtod(text, NULL) == v) break;
    }
    fputs(text, f);
}

static bool is_plain(const char *s)
{
    static const char *const words[] = {"null", "true", "false", "yes", "no", "on", "off"};
    if (!isalpha((unsigned char)s[0])) return false;
    for (const char *c = s; *c; c++)
        if (!isalnum((unsigned char)*c) && !strchr("_./-", *c)) return false;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(s, words[i])) return false;
    return true;
}

static void write_text(FILE *f, const char *s)
{
    if (is_plain(s)) {
        fputs(s, f);
        return;
    }
    fputc('"', f);
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') fprintf(f, "\\%c", c);
        else if (c == '\n') fputs("\\n", f);
        else if (c < 32 || c == 127) fprintf(f, "\\x%02x", c);
        else fputc(c, f);
    }
    fputc('"', f);
}

static void write_set(const Field *f, unsigned bits, FILE *out)
{
    const char *between = "";
    fputc('[', out);
    for (int i = 0; f->name(i); i++) {
        if (!(bits >> i & 1)) continue;
        fprintf(out, "%s%s", between, f->name(i));
        between = ", ";
    }
    fputc(']', out);
}

static void write_texts(const RecipeNames *names, FILE *out)
{
    fputc('[', out);
    for (int i = 0; i < names->n; i++) {
        fputs(i ? ", " : "", out);
        write_text(out, names->list[i]);
    }
    fputc(']', out);
}

static void write_ramp(const BatchRamp *b, FILE *out)
{
    if (b->over) fprintf(out, "{from: %d, to: %d, over: %d}", b->from, b->to, b->over);
    else fprintf(out, "%d", b->to);
}

static void write_reals(const Field *f, const char *base, FILE *out)
{
    int n = f->count == FIELD_NONE ? f->size : *(const int *)(const void *)(base + f->count);
    const double *v = (const double *)(const void *)(base + f->offset);
    fputc('[', out);
    for (int i = 0; i < n; i++) {
        fputs(i ? ", " : "", out);
        write_real(out, v[i]);
    }
    fputc(']', out);
}

static void write_list(const Field *f, const char *base, FILE *out, int indent)
{
    int n = *(const int *)(const void *)(base + f->count);
    if (!n) fputs(" []", out);
    fputc('\n', out);
    for (int i = 0; i < n; i++) {
        fprintf(out, "%*s-\n", indent + 2, "");
        bind_write(f->section, base + f->offset + (size_t)i * f->section->size, out, indent + 4);
    }
}

static void write_scalar(const Field *f, const char *base, FILE *out)
{
    const void *in = base + f->offset;
    switch (f->type) {
    case FIELD_INT: fprintf(out, "%d", *(const int *)in); break;
    case FIELD_SEED: fprintf(out, "%u", *(const uint32_t *)in); break;
    case FIELD_REAL: write_real(out, *(const double *)in); break;
    case FIELD_FLOAT: write_float(out, *(const float *)in); break;
    case FIELD_BOOL: fputs(*(const bool *)in ? "true" : "false", out); break;
    case FIELD_TEXT: write_text(out, in); break;
    case FIELD_ENUM: fputs(f->name(*(const int *)in), out); break;
    case FIELD_SET: write_set(f, *(const unsigned *)in, out); break;
    case FIELD_LEVELS: fprintf(out, "[%d, %d]", ((const int *)in)[0], ((const int *)in)[1]); break;
    case FIELD_RAMP: write_ramp(in, out); break;
    case FIELD_TEXTS: write_texts(in, out); break;
    case FIELD_REALS: write_reals(f, base, out); break;
    default: CHECK(false);
    }
    fputc('\n', out);
}

void bind_write(const Section *b, const void *in, FILE *out, int indent)
{
    const char *base = in;
    int variant = section_variant(b, in);
    bool alone = b->alone && base[section_field(b, b->alone, -1)->offset];
    for (int i = 0; i < b->n; i++) {
        const Field *f = &b->fields[i];
        if (f != section_field(b, f->key, variant) || (alone && strcmp(f->key, b->alone))) continue;
        if (f->type == FIELD_SECTION && f->count != FIELD_NONE && !*(const bool *)(base + f->count)) continue;
        fprintf(out, "%*s%s:", indent, "", f->key);
        if (f->type == FIELD_LIST) write_list(f, base, out, indent);
        else if (f->type == FIELD_SECTION) {
            fputc('\n', out);
            bind_write(f->section, base + f->offset, out, indent + 2);
        } else {
            fputc(' ', out);
            write_scalar(f, base, out);
        }
    }
}
