/* Lines {"ids": [..]} read and checked against a vocabulary. */
#include "recipes/cli/token_lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/json.h"

typedef struct Reader {
    const Tokenizer *tokenizer; /* NULL: lines of ids */
    int vocab;
} Reader;

static bool add_ids(Ids *out, const Json *list, int vocab, Status *st)
{
    if (!json_is_array(list)) return fail(st, "it has no list \"ids\"");
    size_t n = json_count(list);
    for (size_t i = 0; i < n; i++) {
        const Json *v = json_at(list, i);
        if (!json_is_integer_value(v)) return fail(st, "\"ids\"[%zu] is not a whole number", i);
        int64_t id = json_integer(v);
        if (id < 0 || id >= vocab)
            return fail(st, "\"ids\"[%zu] is %lld; the model knows 0 to %d", i, (long long)id, vocab - 1);
        ids_push(out, (int32_t)id);
    }
    return out->n > 0 || fail(st, "\"ids\" is empty; give at least one id");
}

static bool add_text(Ids *out, const Json *v, const char *line, size_t length, const Reader *r, Status *st)
{
    const char *text = line;
    if (json_is_object(v)) v = json_get(v, "text");
    if (json_is_string(v)) text = json_string(v, &length);
    tokenizer_encode(r->tokenizer, text, length, out);
    for (int i = 0; i < out->n; i++)
        if (out->ids[i] >= r->vocab)
            return fail(st, "token %d of the text has id %d; the model knows 0 to %d", i, out->ids[i], r->vocab - 1);
    return out->n > 0 || fail(st, "the text is empty");
}

static bool read_line(Ids *out, const char *line, size_t length, const Reader *r, Status *st)
{
    Status unparsed = {0};
    bool json = !r->tokenizer || line[0] == '"' || line[0] == '{';
    Json *v = json ? json_parse(line, length, "", &unparsed) : NULL;
    bool ok = true;
    if (r->tokenizer) {
        ok = add_text(out, v, line, length, r, st);
    } else if (!v) {
        const char *what = strstr(unparsed.text, "1: ");
        ok = fail(st, "not JSON: %s", what ? what + 3 : unparsed.text);
    } else {
        ok = add_ids(out, json_get(v, "ids"), r->vocab, st);
    }
    json_free(v);
    return ok;
}

static Ids *new_line(TokenLines *t)
{
    if (t->n == t->capacity) {
        t->capacity = t->capacity ? 2 * t->capacity : 64;
        t->lines = realloc(t->lines, (size_t)t->capacity * sizeof *t->lines);
        CHECK(t->lines != NULL);
    }
    t->lines[t->n] = (Ids){0};
    return &t->lines[t->n++];
}

static bool read_all(TokenLines *out, FILE *f, const char *path, const Reader *r, bool skip_bad, Status *st)
{
    char *line = NULL;
    size_t size = 0;
    bool ok = true;
    int number = 0;
    for (ssize_t n; ok && (n = getline(&line, &size, f)) >= 0;) {
        number++;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (strspn(line, " \t") == (size_t)n) continue;
        Status bad = {0};
        Ids *ids = new_line(out);
        if (read_line(ids, line, (size_t)n, r, &bad)) continue;
        free(ids->ids);
        out->n--;
        out->skipped++;
        if (!skip_bad) ok = fail(st, "%s: line %d: %s (--skip-bad leaves such lines out)", path, number, bad.text);
    }
    free(line);
    if (ok && ferror(f)) ok = fail(st, "%s: cannot be read to its end: %s", path, strerror(errno));
    return ok && (out->n > 0 || fail(st, "%s: there is no line with tokens in it", path));
}

static bool read_lines(TokenLines *out, const char *path, const Reader *r, bool skip_bad, Status *st)
{
    *out = (TokenLines){0};
    bool standard = !strcmp(path, "-");
    FILE *f = standard ? stdin : fopen(path, "rb");
    if (!f) return fail(st, "%s: cannot be read: %s", path, strerror(errno));
    bool ok = read_all(out, f, standard ? "standard input" : path, r, skip_bad, st);
    if (!standard) fclose(f);
    if (!ok) token_lines_free(out);
    return ok;
}

bool token_lines_read(TokenLines *out, const char *path, int vocab, bool skip_bad, Status *st)
{
    return read_lines(out, path, &(Reader){NULL, vocab}, skip_bad, st);
}

bool token_lines_encode(TokenLines *out, const char *path, const Tokenizer *t, int vocab, bool skip_bad, Status *st)
{
    return read_lines(out, path, &(Reader){t, vocab}, skip_bad, st);
}

void token_lines_free(TokenLines *t)
{
    for (int i = 0; i < t->n; i++) free(t->lines[i].ids);
    free(t->lines);
    *t = (TokenLines){0};
}
