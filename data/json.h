/* JSON, the only place that sees jansson. Json is a reference-counted value; whoever got it from a json_read /
 * json_new / json_parse function frees it with json_free; values returned by json_get / json_at are views of their
 * parent. */
#ifndef DATA_JSON_H
#define DATA_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"

typedef struct json_t Json;

/* jansson exports these three names itself; under ours the linker would put our functions in the place of its own. */
#define json_string  r1_json_string
#define json_integer r1_json_integer
#define json_copy    r1_json_copy

/* Parses `length` bytes (strings may hold U+0000; duplicate keys, keys with U+0000 and nesting deeper than 2,048 are
 * refused). `where` names the source in the sentence: "WHERE: line L: what". */
Json *json_parse(const char *text, size_t length, const char *where, Status *st);
/* A line of JSON lines: the sentence names no place, and an integer beyond 64 bits is a string of its digits. */
Json *json_parse_line(const char *line, size_t length, Status *st);
Json *json_read(const char *path, Status *st);
void json_free(Json *v);
Json *json_copy(const Json *v); /* deep */

bool json_is_object(const Json *v);
bool json_is_array(const Json *v);
bool json_is_string(const Json *v);
bool json_is_number(const Json *v); /* integer or real */
bool json_is_integer_value(const Json *v);
bool json_is_bool(const Json *v);
bool json_is_null_value(const Json *v);

const Json *json_get(const Json *object, const char *key); /* NULL when absent or not an object */
size_t json_count(const Json *v);                          /* elements of an array or object */
const Json *json_at(const Json *array, size_t i);
/* Member i of an object in insertion order: its key, and the value in *value. */
const char *json_member(const Json *object, size_t i, const Json **value);
/* Walks a large object in insertion order: *cursor starts as NULL; returns the key, NULL after the last member. */
const char *json_next(const Json *object, void **cursor, const Json **value);
const char *json_string(const Json *v, size_t *length); /* NULL when not a string; length may be NULL */
double json_number(const Json *v);                      /* 0 when not a number */
int64_t json_integer(const Json *v); /* a real is cut towards 0; 0 when not a number or out of range */
bool json_bool(const Json *v);

/* Typed members with a sentence when the type is wrong: absent (or null) gives `otherwise` and true. An integer may be
 * written as a real without fraction (4096.0). */
bool json_get_int(const Json *object, const char *key, int64_t otherwise, int64_t *out, Status *st);
bool json_get_double(const Json *object, const char *key, double otherwise, double *out, Status *st);
bool json_get_bool(const Json *object, const char *key, bool otherwise, bool *out, Status *st);
const char *json_get_string(const Json *object, const char *key, const char *otherwise);
/* The number of that member; NAN when it is absent or no number, and for json_number_or_nan(NULL). */
double json_get_number(const Json *object, const char *key);
double json_number_or_nan(const Json *v);

/* Building. set / append take over the value given. */
Json *json_new_object(void);
Json *json_new_array(void);
Json *json_new_string(const char *text, size_t length);
Json *json_new_text(const char *text); /* NUL-terminated; bytes that are not UTF-8 become U+FFFD */
Json *json_new_int(int64_t v);
Json *json_new_number(double v); /* NaN and infinities become null */
Json *json_new_bool(bool v);
Json *json_new_null(void);
void json_set(Json *object, const char *key, Json *value); /* key is UTF-8 */
void json_append(Json *array, Json *value);

/* One line (`{"a": [1, 2]}`, as Python's json.dumps spaces it), or indented by two; insertion order kept; UTF-8 as it
 * is; reals as the shortest text that reads back equal, always with a point or an exponent. Caller frees. */
char *json_write(const Json *v, bool indent);
/* Indented; written beside, flushed and renamed. */
bool json_write_file(const Json *v, const char *path, Status *st);

/* "jansson 2.14". */
const char *json_library(void);

#endif
