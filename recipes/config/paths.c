/* Relative paths of a recipe made absolute, and compared. */
#include "recipes/config/paths.h"

#include <ctype.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoints/model_file.h"
#include "core/base/check.h"

/* PATH with its folder resolved; links in its last part stay, because names carry meaning (".jsonl", RUN/stage). False when
 * the folder is not there or the result is too long. */
static bool absolute(const char *path, char *out, size_t size)
{
    char folder[PATH_MAX], real[PATH_MAX];
    const char *slash = strrchr(path, '/'), *last = slash ? slash + 1 : path;
    int n = slash ? (int)(slash - path + 1) : 0;
    if (n >= PATH_MAX || !*last || !strcmp(last, ".") || !strcmp(last, "..")) return false;
    snprintf(folder, sizeof folder, "%.*s", n, path);
    return realpath(n ? folder : ".", real) &&
           snprintf(out, size, "%s/%s", strcmp(real, "/") ? real : "", last) < (int)size;
}

static bool is_there(PathKind kind, const char *path)
{
    struct stat info;
    char stage[PATH_MAX];
    if (stat(path, &info)) return kind == PATH_MODEL && model_stage_path(path, stage, sizeof stage);
    return kind != PATH_COMMAND || S_ISREG(info.st_mode);
}

static bool find(PathKind kind, const char *folder, const char *path, char *out, size_t size)
{
    char beside[PATH_MAX];
    if (path[0] == '/' || snprintf(beside, sizeof beside, "%s%s", folder, path) >= (int)sizeof beside) return false;
    return is_there(kind, beside) && absolute(beside, out, size);
}

static void set_text(Node *n, const char *text)
{
    free(n->text);
    n->text = strdup(text);
    CHECK(n->text);
}

/* A path as a word of the shell. */
static void write_word(const char *path, FILE *f)
{
    bool plain = true;
    for (const char *c = path; *c; c++) plain = plain && command_plain(*c);
    fputs(plain ? "" : "'", f);
    for (const char *c = path; *c; c++) {
        if (*c == '\'') fputs("'\\''", f);
        else fputc(*c, f);
    }
    fputs(plain ? "" : "'", f);
}

/* The words of a command that are files get their folder; everything else stays as it was typed. */
static void resolve_command(Node *n, const char *folder, size_t most)
{
    char *text = NULL, word[PATH_MAX], path[PATH_MAX];
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    for (const char *p = n->text; *p;) {
        size_t length = command_word_at(p, n->text, word, sizeof word);
        if (length && find(PATH_COMMAND, folder, word, path, sizeof path)) write_word(path, f);
        else fprintf(f, "%.*s", (int)(length ? length : 1), p);
        p += length ? length : 1;
    }
    CHECK(!fclose(f));
    if (strlen(text) < most) set_text(n, text);
    free(text);
}

static bool is_stage(const Node *stages, const char *name)
{
    size_t n = strcspn(name, ".");
    for (int i = 0; stages && i < stages->n; i++) {
        const Node *own = node_get(stages->items[i], "name");
        if (own && own->text && !strncmp(own->text, name, n) && !own->text[n]) return true;
    }
    return false;
}

static void resolve_value(const Field *f, Node *n, const char *folder, const Node *stages)
{
    char path[PATH_MAX];
    if (n->kind != NODE_SCALAR || node_is_null(n)) return;
    if (f->path == PATH_COMMAND) {
        resolve_command(n, folder, (size_t)f->size);
        return;
    }
    if (f->path == PATH_STAGE && !strchr(n->text, '/') && (!stages || is_stage(stages, n->text))) return;
    PathKind kind = f->path == PATH_STAGE ? PATH_MODEL : f->path;
    if (find(kind, folder, n->text, path, sizeof path) && strlen(path) < (size_t)f->size) set_text(n, path);
}

void paths_resolve(const Section *b, Node *map, const char *folder, const Node *stages)
{
    for (int i = 0; i < map->n; i++) {
        Node *value = map->items[i];
        const Field *f = section_any_field(b, value->key);
        if (!f) continue;
        if (f->path) resolve_value(f, value, folder, stages);
        if (f->type == FIELD_SECTION && value->kind == NODE_MAP) paths_resolve(f->section, value, folder, stages);
        for (int k = 0; f->type == FIELD_LIST && value->kind == NODE_LIST && k < value->n; k++)
            if (value->items[k]->kind == NODE_MAP) paths_resolve(f->section, value->items[k], folder, stages);
    }
}

/* ---- Comparison ---- */

static const char *last_part(const char *word, size_t *n)
{
    for (size_t i = *n; i-- > 0;)
        if (word[i] == '/') {
            *n -= i + 1;
            return word + i + 1;
        }
    return word;
}

static bool same_words(const char *a, const char *b)
{
    while (*a || *b) {
        size_t na = strcspn(a, " "), nb = strcspn(b, " "), la = na, lb = nb;
        const char *x = last_part(a, &la), *y = last_part(b, &lb);
        if (la != lb || memcmp(x, y, la) || !a[na] != !b[nb]) return false;
        a += na + (a[na] != 0);
        b += nb + (b[nb] != 0);
    }
    return true;
}

static bool ends_with(const char *path, const char *end)
{
    if (!strncmp(end, "./", 2)) end += 2;
    size_t n = strlen(path), m = strlen(end);
    return m && m < n && !strcmp(path + n - m, end) && path[n - m - 1] == '/';
}

bool paths_same(PathKind kind, const char *a, const char *b)
{
    if (!strcmp(a, b)) return true;
    if (kind == PATH_FILE || kind == PATH_COMMAND) return same_words(a, b);
    return kind != PATH_NONE && (ends_with(a, b) || ends_with(b, a));
}
