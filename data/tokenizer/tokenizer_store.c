/* Tokenizers as files and as the bytes a checkpoint keeps. */
#include "data/tokenizer/tokenizer_parts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "core/base/check.h"
#include "data/file.h"
#include "data/utf8.h"
#include "data/stand_in.h"

/* How a stored tokenizer begins when it has a tokenizer_config.json; the rest of tokenizer.json follows as it came. */
static const char CONFIG_FIRST[] = "{\"r1_tokenizer_config\": ";

char *tokenizer_serialize(const Tokenizer *t, size_t *length)
{
    Text out = {0};
    size_t from = 0;
    if (t->config) {
        Json *config = json_new_text(t->config);
        char *quoted = json_write(config, false);
        const char *brace = memchr(t->json, '{', t->json_length);
        CHECK(brace);
        from = (size_t)(brace - t->json) + 1;
        text_add(&out, CONFIG_FIRST);
        text_add(&out, quoted);
        text_add(&out, ",");
        free(quoted);
        json_free(config);
    }
    text_add_bytes(&out, t->json + from, t->json_length - from);
    *length = out.n;
    return text_take(&out);
}

/* The tokenizer.json inside stored bytes: what follows the config's string and its comma. */
static char *without_config(const char *bytes, size_t length, size_t *out_length)
{
    size_t at = sizeof CONFIG_FIRST - 1, n = length;
    if (n <= at || memcmp(bytes, CONFIG_FIRST, at) || bytes[at] != '"') return NULL;
    for (at++; at < n && bytes[at] != '"'; at++)
        if (bytes[at] == '\\') at++;
    if (at + 1 >= n || bytes[at + 1] != ',') return NULL;
    Text out = {0};
    text_add(&out, "{");
    text_add_bytes(&out, bytes + at + 2, n - at - 2);
    *out_length = out.n;
    return text_take(&out);
}

Tokenizer *tokenizer_parse(const char *bytes, size_t length, const char *where, Status *st)
{
    Json *root = json_parse(bytes, length, where, st);
    if (!root) return NULL;
    const char *config = json_string(json_get(root, "r1_tokenizer_config"), NULL);
    size_t n = length;
    char *json = config ? without_config(bytes, length, &n) : NULL;
    Tokenizer *t = tokenizer_build(root, json ? json : text_copy(bytes, length), n,
                                   config ? text_copy(config, strlen(config)) : NULL, where, st);
    json_free(root);
    return t;
}

Tokenizer *tokenizer_from_values(Json *root, Json *config, const char *where, Status *st)
{
    char *json = json_write(root, false);
    Tokenizer *t = tokenizer_build(root, json, strlen(json), config ? json_write(config, false) : NULL, where, st);
    json_free(root);
    json_free(config);
    return t;
}

void tokenizer_set_chat_template(Tokenizer *t, const char *jinja)
{
    Status st = {0};
    Json *config = t->config ? json_parse(t->config, strlen(t->config), "config", &st) : json_new_object();
    CHECK(config);
    if (!t->config) {
        const int32_t ids[] = {t->bos, t->eos};
        for (int i = 0; i < 2; i++) {
            size_t n;
            const char *piece = tokenizer_piece(t, ids[i], &n, NULL);
            if (n) json_set(config, i ? "eos_token" : "bos_token", json_new_string(piece, n));
        }
    }
    json_set(config, "chat_template", json_new_text(jinja));
    free(t->config);
    free(t->chat_template);
    t->config = json_write(config, true);
    t->chat_template = utf8_repair(jinja, strlen(jinja), NULL);
    json_free(config);
}

/* ---- files ---- */

/* The text of a file beside tokenizer.json, in *out; true with *out NULL when there is no such file. */
static bool read_optional(const char *folder, const char *name, char **out, size_t *length, Status *st)
{
    Text path = {0};
    text_addf(&path, "%s/%s", folder, name);
    *out = NULL;
    struct stat info;
    bool good = stat(path.p, &info) ? errno == ENOENT || errno == ENOTDIR : !!(*out = file_read(path.p, length, st));
    if (!good) fail(st, "%s: cannot be read: %s", path.p, strerror(errno));
    free(path.p);
    return good;
}

/* tokenizer_config.json; a chat_template.jinja overrides the template in it (docs/formats.md 1). */
static bool read_config_files(const char *folder, char **config, Status *st)
{
    char *jinja = NULL;
    size_t n;
    if (!read_optional(folder, "tokenizer_config.json", config, &n, st)) return false;
    if (!read_optional(folder, "chat_template.jinja", &jinja, &n, st)) return false;
    if (!jinja) return true;
    Json *v = *config ? json_parse(*config, strlen(*config), "tokenizer_config.json", st) : json_new_object();
    if (json_is_object(v)) {
        json_set(v, "chat_template", json_new_string(jinja, n));
        free(*config);
        *config = json_write(v, true);
    }
    free(jinja);
    json_free(v);
    return v != NULL;
}

static Tokenizer *load_from(const char *folder, const char *path, Status *st)
{
    char *config = NULL;
    size_t n;
    char *json = file_read(path, &n, st);
    Json *root = json ? json_parse(json, n, path, st) : NULL;
    if (json && !root) stand_in(path, st);
    if (!root || !read_config_files(folder, &config, st)) {
        free(json);
        free(config);
        json_free(root);
        return NULL;
    }
    const char *stored = json_string(json_get(root, "r1_tokenizer_config"), NULL);
    Tokenizer *t;
    if (stored) {
        t = tokenizer_parse(json, n, path, st);
        free(json);
        free(config);
    } else {
        t = tokenizer_build(root, json, n, config, path, st);
    }
    json_free(root);
    return t;
}

Tokenizer *tokenizer_load(const char *path, Status *st)
{
    struct stat info;
    if (stat(path, &info)) {
        fail(st, "%s: %s: give a folder with a tokenizer.json, or the file itself", path, strerror(errno));
        return NULL;
    }
    Text file = {0};
    char *folder = text_copy(path, strlen(path));
    text_add(&file, path);
    if (S_ISDIR(info.st_mode)) {
        text_add(&file, "/tokenizer.json");
    } else {
        char *slash = strrchr(folder, '/');
        if (slash) *slash = 0;
        else strcpy(folder, ".");
    }
    Tokenizer *t = load_from(*folder ? folder : "/", file.p, st);
    free(folder);
    free(file.p);
    return t;
}
