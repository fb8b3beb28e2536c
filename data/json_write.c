/* JSON text out: jansson prints reals with a fixed number of digits, and we promise the shortest that read back equal.
 */
#include "data/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"

/* The escape of a line break of Unicode (NEL, LS, PS), or NULL: many readers of lines cut there too. */
static const char *line_break(const char *s, size_t left, size_t *bytes)
{
    static const struct {
        const char *utf8, *escape;
    } breaks[] = {{"\xc2\x85", "\\u0085"}, {"\xe2\x80\xa8", "\\u2028"}, {"\xe2\x80\xa9", "\\u2029"}};
    for (size_t i = 0; i < sizeof breaks / sizeof *breaks; i++) {
        *bytes = strlen(breaks[i].utf8);
        if (*bytes <= left && !memcmp(s, breaks[i].utf8, *bytes)) return breaks[i].escape;
    }
    return NULL;
}

static void write_string(Text *out, const char *s, size_t length)
{
    text_add_bytes(out, "\"", 1);
    size_t from = 0, bytes;
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)s[i];
        const char *escape = c == 0xc2 || c == 0xe2 ? line_break(s + i, length - i, &bytes) : NULL;
        if (escape) {
            text_add_bytes(out, s + from, i - from);
            text_add(out, escape);
            from = i + bytes;
        }
        if (c >= 0x20 && c != '"' && c != '\\') continue;
        text_add_bytes(out, s + from, i - from);
        from = i + 1;
        switch (c) {
        case '"': text_add(out, "\\\""); break;
        case '\\': text_add(out, "\\\\"); break;
        case '\b': text_add(out, "\\b"); break;
        case '\f': text_add(out, "\\f"); break;
        case '\n': text_add(out, "\\n"); break;
        case '\r': text_add(out, "\\r"); break;
        case '\t': text_add(out, "\\t"); break;
        default: text_addf(out, "\\u%04x", c);
        }
    }
    text_add_bytes(out, s + from, length - from);
    text_add_bytes(out, "\"", 1);
}

/* Python's repr: the fewest digits that read back equal; a plain decimal for exponents -4 .. 15. */
static void write_real(Text *out, double v)
{
    char digits[40];
    for (int places = 0; places <= 16; places++) {
        snprintf(digits, sizeof digits, "%.*e", places, v);
        if (strtod(digits, NULL) == v) break;
    }
    char *e = strchr(digits, 'e');
    int exponent = atoi(e + 1), places = (int)(e - digits) - (digits[0] == '-') - 2;
    if (places < 0) places = 0;
    if (exponent >= -4 && exponent < 16) {
        int decimals = places - exponent;
        text_addf(out, "%.*f", decimals < 1 ? 1 : decimals, v);
    } else {
        text_add(out, digits);
    }
}

static void write_break(Text *out, bool indent, int depth)
{
    if (!indent) return;
    text_addf(out, "\n%*s", 2 * depth, "");
}

static void write_value(Text *out, const Json *v, bool indent, int depth);

static void write_object(Text *out, const Json *v, bool indent, int depth)
{
    void *cursor = NULL;
    const Json *value;
    const char *key, *between = "";
    text_add(out, "{");
    while ((key = json_next(v, &cursor, &value))) {
        text_add(out, between);
        write_break(out, indent, depth + 1);
        write_string(out, key, strlen(key));
        text_add(out, ": ");
        write_value(out, value, indent, depth + 1);
        between = indent ? "," : ", ";
    }
    if (json_count(v)) write_break(out, indent, depth);
    text_add(out, "}");
}

static void write_array(Text *out, const Json *v, bool indent, int depth)
{
    text_add(out, "[");
    for (size_t i = 0; i < json_count(v); i++) {
        if (i) text_add(out, indent ? "," : ", ");
        write_break(out, indent, depth + 1);
        write_value(out, json_at(v, i), indent, depth + 1);
    }
    if (json_count(v)) write_break(out, indent, depth);
    text_add(out, "]");
}

static void write_value(Text *out, const Json *v, bool indent, int depth)
{
    if (json_is_object(v)) {
        write_object(out, v, indent, depth);
    } else if (json_is_array(v)) {
        write_array(out, v, indent, depth);
    } else if (json_is_string(v)) {
        size_t length;
        const char *s = json_string(v, &length);
        write_string(out, s, length);
    } else if (json_is_integer_value(v)) {
        text_addf(out, "%lld", (long long)json_integer(v));
    } else if (json_is_number(v)) {
        write_real(out, json_number(v));
    } else if (json_is_bool(v)) {
        text_add(out, json_bool(v) ? "true" : "false");
    } else {
        text_add(out, "null");
    }
}

char *json_write(const Json *v, bool indent)
{
    Text out = {0};
    write_value(&out, v, indent, 0);
    return text_take(&out);
}
