/* JSON values, over jansson. */
#include <jansson.h>

#undef json_is_object
#undef json_is_array
#undef json_is_string
#undef json_is_number
#include "data/json.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/utf8.h"

static Json *load(const char *text, size_t length, json_error_t *error)
{
    return json_loadb(text, length, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, error);
}

Json *json_parse(const char *text, size_t length, const char *where, Status *st)
{
    json_error_t error;
    Json *v = load(text, length, &error);
    if (v) return v;
    if (error.line < 1) error.line = 1;
    char *what = utf8_repair(error.text, strlen(error.text), NULL);
    fail(st, "%s: line %d: %s", where, error.line, what);
    free(what);
    return NULL;
}

/* The line with integers of 19 digits and more, which 64 bits may not hold, in quotes; *n becomes its length. Caller frees. */
static char *quote_large(const char *line, size_t *n)
{
    enum { LARGE = 19 };
    char *out = malloc(2 * *n + 1);
    CHECK(out);
    size_t to = 0;
    bool inside = false;
    for (size_t i = 0; i < *n;) {
        size_t sign = line[i] == '-', digits = 0;
        while (!inside && i + sign + digits < *n && isdigit((unsigned char)line[i + sign + digits])) digits++;
        size_t all = digits ? sign + digits : 1;
        bool real = i + all < *n && memchr(".eE", line[i + all], 3);
        bool quoted = digits >= LARGE && !real;
        if (quoted) out[to++] = '"';
        memcpy(out + to, line + i, all);
        to += all;
        if (quoted) out[to++] = '"';
        if (inside && line[i] == '\\' && i + 1 < *n) out[to++] = line[i + all++];
        else if (!digits && line[i] == '"') inside = !inside;
        i += all;
        /* The rest of a real number is no integer of its own. */
        while (real && i < *n && (isalnum((unsigned char)line[i]) || memchr(".+-", line[i], 3))) out[to++] = line[i++];
    }
    *n = to;
    return out;
}

Json *json_parse_line(const char *line, size_t length, Status *st)
{
    json_error_t error;
    Json *v = load(line, length, &error);
    if (!v && json_error_code(&error) == json_error_numeric_overflow) {
        char *quoted = quote_large(line, &length);
        v = load(quoted, length, &error);
        free(quoted);
    }
    if (v) return v;
    char *what = utf8_repair(error.text, strlen(error.text), NULL);
    fail(st, "%s", what);
    free(what);
    return NULL;
}

void json_free(Json *v)
{
    json_decref(v);
}

Json *json_copy(const Json *v)
{
    return json_deep_copy(v);
}

bool json_is_object(const Json *v)
{
    return v && json_typeof(v) == JSON_OBJECT;
}

bool json_is_array(const Json *v)
{
    return v && json_typeof(v) == JSON_ARRAY;
}

bool json_is_string(const Json *v)
{
    return v && json_typeof(v) == JSON_STRING;
}

bool json_is_number(const Json *v)
{
    return v && (json_typeof(v) == JSON_INTEGER || json_typeof(v) == JSON_REAL);
}

bool json_is_integer_value(const Json *v)
{
    return v && json_typeof(v) == JSON_INTEGER;
}

bool json_is_bool(const Json *v)
{
    return v && (json_typeof(v) == JSON_TRUE || json_typeof(v) == JSON_FALSE);
}

bool json_is_null_value(const Json *v)
{
    return v && json_typeof(v) == JSON_NULL;
}

const Json *json_get(const Json *object, const char *key)
{
    return json_object_get(object, key);
}

size_t json_count(const Json *v)
{
    return json_is_object(v) ? json_object_size(v) : json_array_size(v);
}

const Json *json_at(const Json *array, size_t i)
{
    return json_array_get(array, i);
}

/* jansson's iterators want an object they may change; reading through them changes nothing. */
static Json *unconst(const Json *v)
{
    return (Json *)(uintptr_t)v;
}

const char *json_next(const Json *object, void **cursor, const Json **value)
{
    Json *o = unconst(object);
    *cursor = *cursor ? json_object_iter_next(o, *cursor) : json_object_iter(o);
    if (!*cursor) return NULL;
    *value = json_object_iter_value(*cursor);
    return json_object_iter_key(*cursor);
}

const char *json_member(const Json *object, size_t i, const Json **value)
{
    void *cursor = NULL;
    const char *key;
    while ((key = json_next(object, &cursor, value)) && i > 0) i--;
    return key;
}

const char *json_string(const Json *v, size_t *length)
{
    if (length) *length = json_string_length(v);
    return json_string_value(v);
}

double json_number(const Json *v)
{
    return json_number_value(v);
}

int64_t json_integer(const Json *v)
{
    if (json_is_integer_value(v)) return json_integer_value(v);
    double real = json_real_value(v);
    return fabs(real) < 0x1p63 ? (int64_t)real : 0;
}

bool json_bool(const Json *v)
{
    return v && json_typeof(v) == JSON_TRUE;
}

static const char *type_name(const Json *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_NULL: return "null";
    default: return "true or false";
    }
}

static const Json *present(const Json *object, const char *key)
{
    const Json *v = json_get(object, key);
    return json_is_null_value(v) ? NULL : v;
}

bool json_get_int(const Json *object, const char *key, int64_t otherwise, int64_t *out, Status *st)
{
    const Json *v = present(object, key);
    if (!v) {
        *out = otherwise;
        return true;
    }
    double real = json_real_value(v);
    bool whole = json_typeof(v) == JSON_REAL && real == floor(real) && fabs(real) <= 0x1p53;
    if (!whole && !json_is_integer_value(v)) return fail(st, "\"%s\" must be an integer, but is %s", key, type_name(v));
    *out = json_integer(v);
    return true;
}

bool json_get_double(const Json *object, const char *key, double otherwise, double *out, Status *st)
{
    const Json *v = present(object, key);
    if (v && !json_is_number(v)) return fail(st, "\"%s\" must be a number, but is %s", key, type_name(v));
    *out = v ? json_number(v) : otherwise;
    return true;
}

bool json_get_bool(const Json *object, const char *key, bool otherwise, bool *out, Status *st)
{
    const Json *v = present(object, key);
    if (v && !json_is_bool(v)) return fail(st, "\"%s\" must be true or false, but is %s", key, type_name(v));
    *out = v ? json_bool(v) : otherwise;
    return true;
}

const char *json_get_string(const Json *object, const char *key, const char *otherwise)
{
    const Json *v = json_get(object, key);
    return json_is_string(v) ? json_string_value(v) : otherwise;
}

double json_number_or_nan(const Json *v)
{
    return v && json_is_number(v) ? json_number(v) : (double)NAN;
}

double json_get_number(const Json *object, const char *key)
{
    return json_number_or_nan(json_get(object, key));
}

static Json *made(Json *v)
{
    CHECK(v);
    return v;
}

Json *json_new_object(void)
{
    return made(json_object());
}

Json *json_new_array(void)
{
    return made(json_array());
}

Json *json_new_string(const char *text, size_t length)
{
    if (utf8_valid_length(text, length) == length) return made(json_stringn_nocheck(text, length));
    size_t n;
    char *valid = utf8_repair(text, length, &n);
    Json *v = made(json_stringn_nocheck(valid, n));
    free(valid);
    return v;
}

Json *json_new_text(const char *text)
{
    return json_new_string(text, strlen(text));
}

Json *json_new_int(int64_t v)
{
    return made(json_pack("I", (json_int_t)v));
}

Json *json_new_number(double v)
{
    return made(isfinite(v) ? json_real(v) : json_null());
}

Json *json_new_bool(bool v)
{
    return made(json_boolean(v));
}

Json *json_new_null(void)
{
    return json_null();
}

void json_set(Json *object, const char *key, Json *value)
{
    CHECK(json_object_set_new(object, key, value) == 0);
}

void json_append(Json *array, Json *value)
{
    CHECK(json_array_append_new(array, value) == 0);
}

const char *json_library(void)
{
    return "jansson " JANSSON_VERSION;
}
