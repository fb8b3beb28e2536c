/* Jinja's expressions: values of JSON, operators, methods, filters and tests. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "data/template/jinja_parts.h"

bool jinja_refuse(Jinja *j, const char *what, const char *p, size_t n)
{
    return fail(j->st, "%s \"%.*s\"", what, (int)(n < 40 ? n : 40), p);
}

Json *jinja_no_value(Reader *r, const char *what)
{
    jinja_refuse(r->j, what, r->p, (size_t)(r->end - r->p));
    return NULL;
}

/* What is wrong with a value, in contrast to its spelling: nothing where it is not wanted. */
static void wrong(Jinja *j, const char *what, const char *name)
{
    if (!j->idle) fail(j->st, "%s \"%.40s\"", what, name);
}

bool jinja_is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* ---- values ---- */

bool jinja_truth(const Json *v)
{
    size_t n = 0;
    if (!v || json_is_null_value(v)) return false;
    if (json_is_bool(v)) return json_bool(v);
    if (json_is_number(v)) return json_number(v) != 0;
    if (json_is_string(v)) return json_string(v, &n) && n > 0;
    return json_count(v) > 0;
}

static bool same(const Json *a, const Json *b)
{
    if (!a || !b) return a == b;
    if (json_is_number(a) && json_is_number(b)) return json_number(a) == json_number(b);
    char *x = json_write(a, false), *y = json_write(b, false);
    bool equal = !strcmp(x, y);
    free(x);
    free(y);
    return equal;
}

void jinja_add_text(Text *out, const Json *v)
{
    size_t n;
    if (!v) return;
    if (json_is_string(v)) {
        const char *s = json_string(v, &n);
        text_add_bytes(out, s, n);
    } else if (json_is_null_value(v)) {
        text_add(out, "None");
    } else if (json_is_bool(v)) {
        text_add(out, json_bool(v) ? "True" : "False");
    } else {
        char *s = json_write(v, false);
        text_add(out, s);
        free(s);
    }
}

static Json *text_value(Text *t)
{
    Json *v = json_new_string(t->p ? t->p : "", t->n);
    free(t->p);
    *t = (Text){0};
    return v;
}

static Json *copy(const Json *v)
{
    return v ? json_copy(v) : NULL;
}

const Json *jinja_look_up(const Jinja *j, const char *name)
{
    for (int i = j->depth - 1; i >= 0; i--) {
        const Json *v = json_get(j->scopes[i], name);
        if (v) return v;
    }
    return NULL;
}

/* ---- expressions ---- */

void jinja_skip(Reader *r)
{
    while (r->p < r->end && jinja_is_blank(*r->p)) r->p++;
}

static bool is_name(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Takes a mark, or a whole word. */
bool jinja_take(Reader *r, const char *mark)
{
    size_t n = strlen(mark);
    jinja_skip(r);
    if ((size_t)(r->end - r->p) < n || memcmp(r->p, mark, n) != 0) return false;
    if (is_name(mark[0]) && r->p + n < r->end && is_name(r->p[n])) return false;
    r->p += n;
    return true;
}

bool jinja_take_name(Reader *r, char name[64])
{
    size_t n = 0;
    jinja_skip(r);
    while (r->p + n < r->end && is_name(r->p[n])) n++;
    if (n == 0 || n > 63 || isdigit((unsigned char)*r->p)) return false;
    memcpy(name, r->p, n);
    name[n] = 0;
    r->p += n;
    return true;
}

static Json *string_literal(Reader *r)
{
    Text out = {0};
    for (jinja_skip(r); r->p < r->end && (*r->p == '\'' || *r->p == '"'); jinja_skip(r)) {
        char quote = *r->p++;
        for (; r->p < r->end && *r->p != quote; r->p++) {
            char c = *r->p;
            if (c == '\\' && r->p + 1 < r->end) {
                c = *++r->p;
                c = (char)(c == 'n' ? '\n' : c == 't' ? '\t' : c == 'r' ? '\r' : c);
            }
            text_add_bytes(&out, &c, 1);
        }
        r->p++;
    }
    return text_value(&out);
}

/* Up to three arguments "(a, b)"; keyword names are taken off. The bracket is open already. */
static int arguments(Reader *r, Json *out[3])
{
    int n = 0;
    char name[64];
    while (!jinja_take(r, ")")) {
        const char *at = r->p;
        if (!(jinja_take_name(r, name) && jinja_take(r, "=") && *r->p != '=')) r->p = at;
        Json *v = jinja_expression(r);
        if (r->j->st->failed || n == 3 || (!jinja_take(r, ",") && (jinja_skip(r), r->p >= r->end || *r->p != ')'))) {
            json_free(v);
            jinja_no_value(r, "arguments that are not understood:");
            return n;
        }
        out[n++] = v;
    }
    return n;
}

static Json *strip(const char *s, size_t n, const char *what, bool left, bool right)
{
    while (left && n && strchr(what, *s)) s++, n--;
    while (right && n && strchr(what, s[n - 1])) n--;
    return json_new_string(s, n);
}

static Json *split(const char *s, const char *by)
{
    Json *list = json_new_array();
    size_t m = strlen(by);
    for (const char *hit; m && (hit = strstr(s, by)); s = hit + m)
        json_append(list, json_new_string(s, (size_t)(hit - s)));
    json_append(list, json_new_text(s));
    return list;
}

static Json *replaced(const char *s, const char *old, const char *with)
{
    Text out = {0};
    size_t m = strlen(old);
    for (const char *hit; m && (hit = strstr(s, old)); s = hit + m) {
        text_add_bytes(&out, s, (size_t)(hit - s));
        text_add(&out, with);
    }
    text_add(&out, s);
    return text_value(&out);
}

/* A method of a string, or .get of a mapping. */
static Json *call_method(Reader *r, const Json *self, const char *name)
{
    Json *a[3] = {0}, *out = NULL;
    int n = arguments(r, a);
    const char *s = json_string(self, NULL), *first = n > 0 ? json_string(a[0], NULL) : NULL;
    size_t length = s ? strlen(s) : 0, m = first ? strlen(first) : 0;
    const char *what = first ? first : " \t\n\r\f\v";
    if (!s && json_is_object(self) && !strcmp(name, "get") && first) {
        const Json *v = json_get(self, first);
        out = v ? json_copy(v) : n > 1 ? copy(a[1]) : json_new_null();
    } else if (!s) wrong(r->j, "of no string the method", name);
    else if (!strcmp(name, "strip")) out = strip(s, length, what, true, true);
    else if (!strcmp(name, "lstrip")) out = strip(s, length, what, true, false);
    else if (!strcmp(name, "rstrip")) out = strip(s, length, what, false, true);
    else if (!strcmp(name, "startswith") && first) out = json_new_bool(!strncmp(s, first, m));
    else if (!strcmp(name, "endswith") && first) out = json_new_bool(length >= m && !strcmp(s + length - m, first));
    else if (!strcmp(name, "split") && n == 1 && m) out = split(s, first);
    else if (!strcmp(name, "replace") && n == 2 && first && json_string(a[1], NULL))
        out = replaced(s, first, json_string(a[1], NULL));
    else wrong(r->j, "the method", name);
    for (int i = 0; i < n; i++) json_free(a[i]);
    return out;
}

static int64_t index_of(const Json *v, int64_t n, int64_t otherwise)
{
    int64_t i = v ? json_integer(v) : otherwise;
    return v && i < 0 ? i + n : i;
}

/* [a:b:c] of a list, c 1 or -1; the first bound is read already. */
static Json *slice(Reader *r, const Json *list, Json *from)
{
    Json *to = NULL, *step = NULL, *out = json_new_array();
    jinja_skip(r);
    if (r->p < r->end && *r->p != ']' && *r->p != ':') to = jinja_expression(r);
    if (jinja_take(r, ":")) step = jinja_expression(r);
    int64_t n = (int64_t)json_count(list), by = step ? json_integer(step) : 1;
    if (!json_is_array(list) || (by != 1 && by != -1) || !jinja_take(r, "]"))
        jinja_no_value(r, "a slice that is not understood:");
    int64_t first = index_of(from, n, by > 0 ? 0 : n - 1), last = index_of(to, n, by > 0 ? n : -1);
    for (int64_t i = first; !r->j->st->failed && (by > 0 ? i < last && i < n : i > last && i >= 0); i += by)
        if (i >= 0) json_append(out, json_copy(json_at(list, (size_t)i)));
    json_free(from);
    json_free(to);
    json_free(step);
    return out;
}

/* self[..], without the bracket. */
static Json *subscript(Reader *r, const Json *self)
{
    Json *key = NULL, *out = NULL;
    jinja_skip(r);
    if (r->p < r->end && *r->p != ':') key = jinja_expression(r);
    if (jinja_take(r, ":")) return slice(r, self, key);
    if (json_is_array(self) && json_is_number(key)) {
        int64_t n = (int64_t)json_count(self), i = index_of(key, n, 0);
        if (i >= 0 && i < n) out = json_copy(json_at(self, (size_t)i));
    } else if (json_is_string(key)) {
        out = copy(json_get(self, json_string(key, NULL)));
    }
    json_free(key);
    if (!jinja_take(r, "]")) jinja_no_value(r, "a bracket without an end:");
    return out;
}

static Json *filtered(Reader *r, Json *v, const char *name)
{
    Json *a[3] = {0}, *out = NULL;
    int n = jinja_take(r, "(") ? arguments(r, a) : 0;
    size_t length = 0;
    const char *s = json_string(v, &length);
    if (!strcmp(name, "trim") && s) out = strip(s, length, " \t\n\r\f\v\x1c\x1d\x1e\x1f", true, true);
    else if (!strcmp(name, "length") || !strcmp(name, "count"))
        out = json_new_int((int64_t)(s ? length : json_count(v)));
    else if (!strcmp(name, "tojson") && v && n == 0) {
        char *text = json_write(v, false);
        out = json_new_text(text);
        free(text);
    } else if (!strcmp(name, "default") && n >= 1) out = v ? json_copy(v) : copy(a[0]);
    else if (!strcmp(name, "string")) {
        Text text = {0};
        jinja_add_text(&text, v);
        out = text_value(&text);
    } else if ((!strcmp(name, "first") || !strcmp(name, "last")) && json_is_array(v) && json_count(v))
        out = json_copy(json_at(v, *name == 'f' ? 0 : json_count(v) - 1));
    else wrong(r->j, "the filter", name);
    for (int i = 0; i < n; i++) json_free(a[i]);
    json_free(v);
    return out;
}

static Json *call_function(Reader *r, const char *name)
{
    Json *a[3] = {0};
    if (!strcmp(name, "raise_exception")) {
        int n = arguments(r, a);
        if (!r->j->st->failed) wrong(r->j, "it refuses:", n && json_string(a[0], NULL) ? json_string(a[0], NULL) : "");
        for (int i = 0; i < n; i++) json_free(a[i]);
        return NULL;
    }
    jinja_refuse(r->j, "the function", name, strlen(name));
    return NULL;
}

static Json *primary(Reader *r)
{
    char name[64];
    jinja_skip(r);
    if (r->p < r->end && (*r->p == '\'' || *r->p == '"')) return string_literal(r);
    if (r->p < r->end && isdigit((unsigned char)*r->p)) {
        char *end;
        int64_t v = strtoll(r->p, &end, 10);
        r->p = end;
        return json_new_int(v);
    }
    if (jinja_take(r, "(")) {
        Json *v = jinja_expression(r);
        if (!jinja_take(r, ")")) jinja_no_value(r, "a bracket without an end:");
        return v;
    }
    if (jinja_take(r, "[")) {
        Json *list = json_new_array();
        while (!r->j->st->failed && !jinja_take(r, "]")) {
            Json *v = jinja_expression(r);
            json_append(list, v ? v : json_new_null());
            if (!jinja_take(r, ",") && (jinja_skip(r), r->p >= r->end || *r->p != ']'))
                jinja_no_value(r, "a list that is not understood:");
        }
        return list;
    }
    if (!jinja_take_name(r, name)) return jinja_no_value(r, "an expression that is not understood:");
    if (!strcmp(name, "true") || !strcmp(name, "True")) return json_new_bool(true);
    if (!strcmp(name, "false") || !strcmp(name, "False")) return json_new_bool(false);
    if (!strcmp(name, "none") || !strcmp(name, "None")) return json_new_null();
    if (jinja_take(r, "(")) return call_function(r, name);
    return copy(jinja_look_up(r->j, name));
}

static Json *postfix(Reader *r)
{
    if (jinja_take(r, "-")) {
        Json *v = postfix(r), *out = json_new_int(-json_integer(v));
        json_free(v);
        return out;
    }
    Json *v = primary(r);
    char name[64];
    while (!r->j->st->failed) {
        Json *next = NULL;
        if (jinja_take(r, ".")) {
            if (!jinja_take_name(r, name)) jinja_no_value(r, "a member that is not understood:");
            else next = jinja_take(r, "(") ? call_method(r, v, name) : copy(json_get(v, name));
        } else if (jinja_take(r, "[")) {
            next = subscript(r, v);
        } else if (jinja_take(r, "|")) {
            if (!jinja_take_name(r, name)) jinja_no_value(r, "a filter that is not understood:");
            else v = filtered(r, v, name);
            continue;
        } else {
            break;
        }
        if (r->j->st->failed) break;
        json_free(v);
        v = next;
    }
    return v;
}

static Json *sum(Reader *r)
{
    Json *v = postfix(r);
    while (!r->j->st->failed) {
        bool plus = jinja_take(r, "+"), tilde = !plus && jinja_take(r, "~"),
             minus = !plus && !tilde && jinja_take(r, "-");
        if (!plus && !tilde && !minus) break;
        Json *w = postfix(r), *out = NULL;
        if (!tilde && json_is_number(v) && json_is_number(w)) {
            out = json_new_int(json_integer(v) + (minus ? -1 : 1) * json_integer(w));
        } else if (tilde || (plus && json_is_string(v) && json_is_string(w))) {
            Text text = {0};
            jinja_add_text(&text, v);
            jinja_add_text(&text, w);
            out = text_value(&text);
        } else if (!r->j->st->failed) {
            wrong(r->j, "a sum of other things than texts or numbers before", r->p);
        }
        json_free(v);
        json_free(w);
        v = out;
    }
    return v;
}

static bool contains(const Json *list, const Json *v)
{
    const char *s = json_string(list, NULL), *part = json_string(v, NULL);
    if (s) return part && strstr(s, part);
    if (json_is_object(list)) return part && json_get(list, part);
    for (size_t i = 0; i < json_count(list); i++)
        if (same(json_at(list, i), v)) return true;
    return false;
}

static Json *test(Reader *r, const Json *v)
{
    char name[64];
    bool no = jinja_take(r, "not"), yes = false;
    if (!jinja_take_name(r, name)) return jinja_no_value(r, "a test that is not understood:");
    if (!strcmp(name, "defined")) yes = v != NULL;
    else if (!strcmp(name, "undefined")) yes = v == NULL;
    else if (!strcmp(name, "none")) yes = v && json_is_null_value(v);
    else if (!strcmp(name, "string")) yes = json_is_string(v);
    else if (!strcmp(name, "mapping")) yes = json_is_object(v);
    else if (!strcmp(name, "iterable") || !strcmp(name, "sequence"))
        yes = json_is_array(v) || json_is_string(v) || json_is_object(v);
    else if (!strcmp(name, "number")) yes = json_is_number(v);
    else if (!strcmp(name, "boolean")) yes = json_is_bool(v);
    else if (!strcmp(name, "true")) yes = json_is_bool(v) && json_bool(v);
    else if (!strcmp(name, "false")) yes = json_is_bool(v) && !json_bool(v);
    else jinja_refuse(r->j, "the test", name, strlen(name));
    return json_new_bool(yes != no);
}

static Json *comparison(Reader *r)
{
    static const char *const marks[] = {"==", "!=", "<=", ">=", "<", ">", "in"};
    Json *v = sum(r);
    while (!r->j->st->failed) {
        Json *out;
        if (jinja_take(r, "is")) {
            out = test(r, v);
        } else {
            const char *at = (jinja_skip(r), r->p);
            bool no = jinja_take(r, "not");
            int op = 0;
            while (op < 7 && !(no ? op == 6 && jinja_take(r, marks[op]) : jinja_take(r, marks[op]))) op++;
            if (op == 7) {
                r->p = at;
                break;
            }
            Json *w = sum(r);
            double a = json_number(v), b = json_number(w);
            bool yes = op == 0   ? same(v, w)
                       : op == 1 ? !same(v, w)
                       : op == 2 ? a <= b
                       : op == 3 ? a >= b
                       : op == 4 ? a < b
                       : op == 5 ? a > b
                                 : contains(w, v) != no;
            out = json_new_bool(yes);
            json_free(w);
        }
        json_free(v);
        v = out;
    }
    return v;
}

static Json *negation(Reader *r)
{
    if (!jinja_take(r, "not")) return comparison(r);
    Json *v = negation(r), *out = json_new_bool(!jinja_truth(v));
    json_free(v);
    return out;
}

/* a and b, a or b: where the first decides, the second is only read. */
static Json *chain(Reader *r, bool any)
{
    Json *v = any ? chain(r, false) : negation(r);
    while (!r->j->st->failed && jinja_take(r, any ? "or" : "and")) {
        bool decided = jinja_truth(v) == any;
        r->j->idle += decided;
        Json *w = any ? chain(r, false) : negation(r);
        r->j->idle -= decided;
        json_free(decided ? w : v);
        v = decided ? v : w;
    }
    return v;
}

Json *jinja_expression(Reader *r)
{
    if (++r->j->nesting > DEPTH) return jinja_no_value(r, "an expression that is too deep:");
    Json *v = chain(r, true);
    if (!r->j->st->failed && jinja_take(r, "if")) {
        Json *condition = chain(r, true), *other = jinja_take(r, "else") ? jinja_expression(r) : NULL;
        bool yes = jinja_truth(condition);
        json_free(condition);
        json_free(yes ? other : v);
        v = yes ? v : other;
    }
    r->j->nesting--;
    return v;
}
