/* An interpreter of the Jinja of chat templates: pieces of text and tags, walked as they stand. */
#include "data/template/jinja.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/template/jinja_parts.h"

/* ---- pieces ---- */

static void add_piece(Jinja *j, PieceKind kind, const char *p, size_t n)
{
    j->pieces = realloc(j->pieces, ((size_t)j->n + 1) * sizeof *j->pieces);
    CHECK(j->pieces);
    j->pieces[j->n++] = (Piece){kind, p, n};
}

/* The end of a text before a tag: its blanks where the tag begins with -, its indentation where the tag is a block. */
static size_t text_end(const char *from, const char *tag, char kind, bool minus)
{
    const char *end = tag;
    if (minus) {
        while (end > from && jinja_is_blank(end[-1])) end--;
    } else if (kind != '{') {
        const char *line = end;
        while (line > from && (line[-1] == ' ' || line[-1] == '\t')) line--;
        if (line > from ? line[-1] == '\n' : true) end = line;
    }
    return (size_t)(end - from);
}

/* Where a tag's inside ends: its closing mark outside of strings. */
static const char *tag_end(const char *p, char kind)
{
    const char close[3] = {kind == '{' ? '}' : kind, '}', 0};
    char quote = 0;
    for (; *p; p++) {
        if (quote && *p == '\\' && p[1]) p++;
        else if (quote) quote = *p == quote ? 0 : quote;
        else if (kind != '#' && (*p == '\'' || *p == '"')) quote = *p;
        else if (!strncmp(p, close, 2)) return p;
    }
    return NULL;
}

static bool cut(Jinja *j, const char *source)
{
    const char *from = source, *p = source;
    while (*p) {
        if (*p != '{' || !p[1] || !strchr("{%#", p[1])) {
            p++;
            continue;
        }
        char kind = p[1];
        const char *in = p + 2, *end = tag_end(in, kind);
        if (!end) return jinja_refuse(j, "a tag without an end:", p, strlen(p));
        bool before = *in == '-', after = end > in && end[-1] == '-';
        add_piece(j, PIECE_TEXT, from, text_end(from, p, kind, before));
        if (kind != '#')
            add_piece(j, kind == '{' ? PIECE_VALUE : PIECE_BLOCK, in + before,
                      (size_t)(end - in) - before - (after && end > in + before));
        from = p = end + 2;
        if (after)
            while (jinja_is_blank(*from)) from = ++p;
        else if (kind != '{' && *from == '\n') from = ++p;
    }
    add_piece(j, PIECE_TEXT, from, strlen(from));
    return true;
}

/* ---- statements ---- */

static bool is_block(const Piece *piece, const char *word, Reader *rest, Jinja *j)
{
    if (piece->kind != PIECE_BLOCK) return false;
    *rest = (Reader){j, piece->p, piece->p + piece->n};
    return jinja_take(rest, word);
}

/* The block of this nesting at or after `at` that begins with one of the words (NULL-ended); -1: none. */
static int find_block(Jinja *j, int at, const char *const *words)
{
    Reader r;
    for (int depth = 0; at < j->n; at++) {
        for (int k = 0; words[k] && depth == 0; k++)
            if (is_block(&j->pieces[at], words[k], &r, j)) return at;
        depth += is_block(&j->pieces[at], "for", &r, j) || is_block(&j->pieces[at], "if", &r, j);
        depth -= is_block(&j->pieces[at], "endfor", &r, j) || is_block(&j->pieces[at], "endif", &r, j);
    }
    return -1;
}

static void run(Jinja *j, int from, int to);

static Json *evaluate(Jinja *j, Reader *r)
{
    Json *v = jinja_expression(r);
    jinja_skip(r);
    if (!j->st->failed && r->p < r->end) jinja_no_value(r, "what is not understood:");
    return v;
}

static int run_if(Jinja *j, int at, Reader *r)
{
    static const char *const parts[] = {"elif", "else", "endif", NULL}, *const end[] = {"endif", NULL};
    int last = find_block(j, at + 1, end);
    if (last < 0) return jinja_no_value(r, "an if without an end:"), j->n;
    for (bool otherwise = false; !j->st->failed;) {
        Json *condition = otherwise ? NULL : evaluate(j, r);
        int next = find_block(j, at + 1, parts);
        if (otherwise || jinja_truth(condition)) {
            json_free(condition);
            run(j, at + 1, next);
            break;
        }
        json_free(condition);
        if (next == last) break;
        at = next;
        otherwise = is_block(&j->pieces[at], "else", r, j);
        if (!otherwise) is_block(&j->pieces[at], "elif", r, j);
    }
    return last;
}

static Json *loop_of(size_t i, size_t n)
{
    Json *loop = json_new_object();
    json_set(loop, "index0", json_new_int((int64_t)i));
    json_set(loop, "index", json_new_int((int64_t)i + 1));
    json_set(loop, "first", json_new_bool(i == 0));
    json_set(loop, "last", json_new_bool(i + 1 == n));
    json_set(loop, "length", json_new_int((int64_t)n));
    return loop;
}

static int run_for(Jinja *j, int at, Reader *r)
{
    static const char *const end[] = {"endfor", NULL};
    char name[64];
    int last = find_block(j, at + 1, end);
    if (last < 0 || !jinja_take_name(r, name) || !jinja_take(r, "in"))
        return jinja_no_value(r, "a for that is not understood:"), j->n;
    Json *list = evaluate(j, r);
    if (!j->st->failed && list && !json_is_array(list)) jinja_no_value(r, "a for over no list");
    for (size_t i = 0, n = json_count(list); i < n && !j->st->failed; i++) {
        if (j->depth == SCOPES) {
            jinja_no_value(r, "loops that are too deep");
            break;
        }
        Json *scope = j->scopes[j->depth++] = json_new_object();
        json_set(scope, name, json_copy(json_at(list, i)));
        json_set(scope, "loop", loop_of(i, n));
        run(j, at + 1, last);
        json_free(j->scopes[--j->depth]);
    }
    json_free(list);
    return last;
}

/* namespace(a=1, b='') */
static Json *new_namespace(Reader *r)
{
    Json *out = json_new_object();
    char name[64];
    while (!r->j->st->failed && !jinja_take(r, ")")) {
        if (!jinja_take_name(r, name) || !jinja_take(r, "=")) jinja_no_value(r, "a namespace that is not understood:");
        Json *v = r->j->st->failed ? NULL : jinja_expression(r);
        json_set(out, name, v ? v : json_new_null());
        jinja_take(r, ",");
    }
    return out;
}

static void run_set(Jinja *j, Reader *r)
{
    char name[64], member[64] = "";
    bool ok = jinja_take_name(r, name) && (!jinja_take(r, ".") || jinja_take_name(r, member)) && jinja_take(r, "=");
    if (!ok) {
        jinja_no_value(r, "a set that is not understood:");
        return;
    }
    Reader at = *r;
    char function[64];
    bool makes = jinja_take_name(&at, function) && !strcmp(function, "namespace") && jinja_take(&at, "(");
    Json *v = makes ? (*r = at, new_namespace(r)) : evaluate(j, r);
    if (j->st->failed) {
        json_free(v);
        return;
    }
    if (!v) v = json_new_null();
    if (!member[0]) json_set(j->scopes[makes ? 0 : j->depth - 1], name, v);
    else json_set((Json *)jinja_look_up(j, name), member, v);
}

static int run_block(Jinja *j, int at)
{
    Reader r;
    const Piece *piece = &j->pieces[at];
    if (is_block(piece, "if", &r, j)) return run_if(j, at, &r);
    if (is_block(piece, "for", &r, j)) return run_for(j, at, &r);
    if (is_block(piece, "set", &r, j)) return run_set(j, &r), at;
    if (is_block(piece, "generation", &r, j) || is_block(piece, "endgeneration", &r, j)) return at;
    jinja_refuse(j, "the block", piece->p, piece->n);
    return at;
}

static void run(Jinja *j, int from, int to)
{
    for (int at = from; at < to && !j->st->failed; at++) {
        const Piece *piece = &j->pieces[at];
        if (++j->steps > STEPS || j->out.n > (1u << 20)) {
            fail(j->st, "it does not come to an end");
        } else if (piece->kind == PIECE_TEXT) {
            text_add_bytes(&j->out, piece->p, piece->n);
        } else if (piece->kind == PIECE_VALUE) {
            Reader r = {j, piece->p, piece->p + piece->n};
            Json *v = evaluate(j, &r);
            if (!j->st->failed) jinja_add_text(&j->out, v);
            json_free(v);
        } else {
            at = run_block(j, at);
        }
    }
}

char *jinja_render(const char *source, const Json *variables, Status *st)
{
    Jinja j = {.st = st, .depth = 1, .scopes = {json_copy(variables)}};
    if (cut(&j, source)) run(&j, 0, j.n);
    for (int i = 0; i < j.depth; i++) json_free(j.scopes[i]);
    free(j.pieces);
    if (!st->failed) return text_take(&j.out);
    free(j.out.p);
    return NULL;
}
