/* A Tokenizer from the value of a tokenizer.json (docs/formats.md 3). What it holds and we do not do fails by name, so
 * that ids are exact or not given at all. */
#include "data/tokenizer/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/tokenizer/byte_alphabet.h"
#include "data/utf8.h"

static bool read_id(const Json *v, const char *what, const char *text, int32_t *id, Status *st)
{
    int64_t n = json_integer(v);
    if (!json_is_integer_value(v) || n < 0 || n >= TOKENIZER_MAX_IDS)
        return fail(st, "the id of %s \"%.60s\" must be an integer from 0 to %d", what, text, TOKENIZER_MAX_IDS - 1);
    *id = (int32_t)n;
    return true;
}

/* ---- the vocabulary ---- */

static void grow_tokens(Tokenizer *t, int32_t id)
{
    if (id < t->vocab) return;
    t->tokens = realloc(t->tokens, (size_t)(id + 1) * sizeof *t->tokens);
    CHECK(t->tokens);
    memset(t->tokens + t->vocab, 0, (size_t)(id + 1 - t->vocab) * sizeof *t->tokens);
    t->vocab = id + 1;
}

int tokenizer_named_byte(const char *text, size_t length)
{
    unsigned byte;
    int used = 0;
    if (length != 6 || sscanf(text, "<0x%2x>%n", &byte, &used) != 1 || used != 6) return -1;
    return (int)byte;
}

/* A token's text with what stands for a space made one. */
static void add_spaced(Tokenizer *t, const char *text, size_t length)
{
    const char *end = text + length, *next;
    while ((next = memmem(text, (size_t)(end - text), t->space[0].p, t->space[0].n))) {
        text_add_bytes(&t->pool, text, (size_t)(next - text));
        text_add_bytes(&t->pool, t->space[1].p, t->space[1].n);
        text = next + t->space[0].n;
    }
    text_add_bytes(&t->pool, text, (size_t)(end - text));
}

static void set_token(Tokenizer *t, int32_t id, const char *text, size_t length, bool special)
{
    Token *token = &t->tokens[id];
    *token = (Token){.at = (uint32_t)t->pool.n, .exists = true, .special = special};
    int byte = t->byte_names ? tokenizer_named_byte(text, length) : -1;
    if (byte >= 0) text_add_bytes(&t->pool, (char[]){(char)byte}, 1);
    else if (t->space[0].n) add_spaced(t, text, length);
    else if (!t->bytes_out || !byte_alphabet_decode(text, length, &t->pool)) text_add_bytes(&t->pool, text, length);
    token->length = (uint32_t)(t->pool.n - token->at);
}

static bool read_vocab(Tokenizer *t, const Json *vocab, Status *st)
{
    if (!json_is_object(vocab)) return fail(st, "\"vocab\" must be an object of tokens and ids");
    void *cursor = NULL;
    const Json *value;
    const char *text;
    int32_t id = 0, largest = -1;
    while ((text = json_next(vocab, &cursor, &value))) {
        if (!read_id(value, "token", text, &id, st)) return false;
        if (id > largest) largest = id;
    }
    if (largest < 0) return fail(st, "\"vocab\" is empty");
    grow_tokens(t, largest);
    for (cursor = NULL; (text = json_next(vocab, &cursor, &value));) {
        id = (int32_t)json_integer(value);
        size_t length = strlen(text);
        if (t->tokens[id].exists) return fail(st, "id %d is given to two tokens, the second is \"%.60s\"", id, text);
        set_token(t, id, text, length, false);
        bytemap_add(&t->by_text, text, length, id);
    }
    return true;
}

static bool read_added_token(Tokenizer *t, const Json *v, Status *st)
{
    size_t length;
    const char *content = json_string(json_get(v, "content"), &length);
    if (!content || !length) return fail(st, "an element of \"added_tokens\" has no \"content\"");
    AddedToken token = {0};
    bool special, normalized;
    if (!read_id(json_get(v, "id"), "added token", content, &token.id, st) ||
        !json_get_bool(v, "single_word", false, &token.single_word, st) ||
        !json_get_bool(v, "lstrip", false, &token.lstrip, st) ||
        !json_get_bool(v, "rstrip", false, &token.rstrip, st) || !json_get_bool(v, "special", false, &special, st) ||
        !json_get_bool(v, "normalized", !special, &normalized, st))
        return false;
    int32_t known = bytemap_get(&t->by_text, content, length);
    if (known >= 0 && known != token.id)
        return fail(st, "the added token \"%.60s\" has id %d but stands elsewhere with id %d", content, token.id,
                    known);
    grow_tokens(t, token.id);
    if (known < 0 && t->tokens[token.id].exists)
        return fail(st, "id %d of the added token \"%.60s\" belongs to another token", token.id, content);
    bytemap_add(&t->by_text, content, length, token.id);
    size_t n = length;
    char *normal = normalized ? normalizer_apply(&t->normalizer, content, length, true, &n) : NULL;
    set_token(t, token.id, normal ? normal : content, n, special); /* it is also shown as it is looked for */
    added_tokens_add(normalized ? &t->normalized : &t->raw, normal ? normal : content, n, token);
    free(normal);
    return true;
}

static bool read_added_tokens(Tokenizer *t, const Json *list, Status *st)
{
    if (list && !json_is_null_value(list) && !json_is_array(list)) return fail(st, "\"added_tokens\" must be a list");
    for (size_t i = 0; i < json_count(list); i++)
        if (!read_added_token(t, json_at(list, i), st)) return false;
    return true;
}

/* ---- decoder ---- */

static bool read_decoder_replace(Tokenizer *t, const Json *v, Status *st)
{
    size_t from_n, to_n;
    const char *from = json_string(json_get(json_get(v, "pattern"), "String"), &from_n);
    const char *to = json_string(json_get(v, "content"), &to_n);
    if (!from || !from_n || !to || t->space[0].n)
        return fail(st, "decoder: a Replace must have a \"String\" and a \"content\", and be the only one");
    text_add_bytes(&t->space[0], from, from_n);
    text_add_bytes(&t->space[1], to, to_n);
    return true;
}

static bool read_decoder_strip(Tokenizer *t, const Json *v, bool fused, Status *st)
{
    size_t length;
    int64_t start, stop;
    const char *content = json_string(json_get(v, "content"), &length);
    if (!json_get_int(v, "start", 0, &start, st) || !json_get_int(v, "stop", 0, &stop, st)) return false;
    if (!content || !length || t->strip.n || !fused || start < 0 || start > 64 || stop < 0 || stop > 64)
        return fail(st, "decoder: a Strip must have a \"content\", follow Fuse and be the only one");
    text_add_bytes(&t->strip, content, length);
    t->strip_start = (int)start;
    t->strip_end = (int)stop;
    return true;
}

static bool read_decoder_metaspace(Tokenizer *t, const Json *v, Status *st)
{
    const char *space = json_get_string(v, "replacement", "\xE2\x96\x81");
    bool prefix;
    if (!json_get_bool(v, "add_prefix_space", true, &prefix, st)) return false;
    if (!*space || t->space[0].n) return fail(st, "decoder: Metaspace and Replace cannot both be there");
    text_add(&t->space[0], space);
    text_add(&t->space[1], " ");
    t->bare_start = strcmp(json_get_string(v, "prepend_scheme", prefix ? "always" : "never"), "never") != 0;
    return true;
}

/* fused: a Fuse came before, so that what follows is done to the whole text. Without a decoder a byte-level tokenizer means
 * ByteLevel. */
static bool read_decoder(Tokenizer *t, const Json *v, int depth, bool *fused, Status *st)
{
    if (!v || json_is_null_value(v)) {
        t->bytes_out = pretokenizer_byte_level(t->pre);
        return true;
    }
    const char *type = json_get_string(v, "type", "");
    if (!strcmp(type, "Sequence") && depth < 8) {
        const Json *list = json_get(v, "decoders");
        for (size_t i = 0; i < json_count(list); i++)
            if (!read_decoder(t, json_at(list, i), depth + 1, fused, st)) return false;
        return true;
    }
    if (!strcmp(type, "Replace")) return read_decoder_replace(t, v, st);
    if (!strcmp(type, "Strip")) return read_decoder_strip(t, v, *fused, st);
    if (!strcmp(type, "Metaspace")) return read_decoder_metaspace(t, v, st);
    if (!strcmp(type, "ByteLevel")) t->bytes_out = true;
    else if (!strcmp(type, "ByteFallback")) t->byte_names = true;
    else if (!strcmp(type, "Fuse")) *fused = true;
    else
        return fail(
            st,
            "decoder: \"%.40s\" is not supported: only ByteLevel, ByteFallback, Fuse, Replace, Strip and Metaspace "
            "are",
            type);
    return true;
}

/* ---- the model ---- */

/* Both spellings of a merge: "left right" and ["left", "right"]. */
static bool split_merge(const Json *v, const char **left, size_t *left_n, const char **right, size_t *right_n)
{
    if (json_is_array(v)) {
        *left = json_string(json_at(v, 0), left_n);
        *right = json_string(json_at(v, 1), right_n);
        return json_count(v) == 2 && *left && *right;
    }
    size_t length;
    *left = json_string(v, &length);
    const char *space = *left ? memchr(*left, ' ', length) : NULL;
    if (!space) return false;
    *left_n = (size_t)(space - *left);
    *right = space + 1;
    *right_n = length - *left_n - 1;
    return memchr(*right, ' ', *right_n) == NULL;
}

static bool read_merge(Tokenizer *t, const Json *v, int32_t rank, Text *joined, Status *st)
{
    const char *left, *right;
    size_t left_n, right_n;
    if (!split_merge(v, &left, &left_n, &right, &right_n))
        return fail(st, "merge %d is neither \"left right\" nor [\"left\", \"right\"]", rank);
    joined->n = 0;
    text_add_bytes(joined, left, left_n);
    text_add_bytes(joined, right, right_n);
    int32_t l = bytemap_get(&t->by_text, left, left_n), r = bytemap_get(&t->by_text, right, right_n);
    int32_t id = bytemap_get(&t->by_text, joined->p, joined->n);
    if (l < 0 || r < 0 || id < 0)
        return fail(st, "merge %d (\"%.40s\") names a token that \"vocab\" has not", rank, joined->p);
    bpe_add_merge(&t->bpe, l, r, rank, id);
    return true;
}

static bool read_merges(Tokenizer *t, const Json *merges, Status *st)
{
    if (!json_is_array(merges)) return fail(st, "\"merges\" must be a list");
    Text joined = {0};
    bool good = true;
    int32_t rank = 0;
    for (size_t i = 0; i < json_count(merges) && good; i++) {
        const char *line = json_string(json_at(merges, i), NULL);
        if (i == 0 && line && !strncmp(line, "#version", 8)) continue;
        good = read_merge(t, json_at(merges, i), rank++, &joined, st);
    }
    free(joined.p);
    return good;
}

static void set_byte_ids(Tokenizer *t)
{
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        size_t n = 6;
        if (t->bpe.byte_level) n = utf8_put(byte_alphabet_char((unsigned char)byte), name);
        else snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        t->bpe.byte_ids[byte] = bytemap_get(&t->by_text, name, n);
    }
}

/* A piece looks itself up as bytes; tokens spelled outside the byte alphabet can never be one. */
static void set_pieces(Tokenizer *t, const Json *vocab)
{
    if (t->bpe.byte_level && !t->bpe.ignore_merges) return;
    void *cursor = NULL;
    const Json *value;
    const char *text;
    Text bytes = {0};
    while ((text = json_next(vocab, &cursor, &value))) {
        bytes.n = 0;
        if (!t->bpe.byte_level) text_add(&bytes, text);
        else if (!byte_alphabet_decode(text, strlen(text), &bytes)) continue;
        if (bytes.n) bytemap_add(&t->bpe.pieces, bytes.p, bytes.n, (int32_t)json_integer(value));
    }
    free(bytes.p);
}

static bool refuse_option(const Json *model, const char *key, Status *st)
{
    const Json *v = json_get(model, key);
    const char *text = json_string(v, NULL);
    bool off = !v || json_is_null_value(v) || (text && !*text) || (json_is_number(v) && json_number(v) == 0);
    return off || fail(st, "\"%s\" is not supported", key);
}

static bool read_model_options(Tokenizer *t, const Json *model, Status *st)
{
    if (strcmp(json_get_string(model, "type", "BPE"), "BPE"))
        return fail(st, "type \"%.40s\" is not supported: only BPE is", json_get_string(model, "type", ""));
    if (!refuse_option(model, "dropout", st) || !refuse_option(model, "continuing_subword_prefix", st) ||
        !refuse_option(model, "end_of_word_suffix", st))
        return false;
    t->bpe.byte_level = pretokenizer_byte_level(t->pre);
    if (!json_get_bool(model, "fuse_unk", false, &t->bpe.fuse_unk, st) ||
        !json_get_bool(model, "byte_fallback", false, &t->bpe.byte_fallback, st) ||
        !json_get_bool(model, "ignore_merges", false, &t->bpe.ignore_merges, st))
        return false;
    t->bpe.byte_fallback &= !t->bpe.byte_level;
    return true;
}

static bool read_model(Tokenizer *t, const Json *model, Status *st)
{
    if (!json_is_object(model)) return fail(st, "there is no object \"model\"");
    if (!read_model_options(t, model, st) || !read_vocab(t, json_get(model, "vocab"), st)) return false;
    const char *unk = json_get_string(model, "unk_token", NULL);
    if (unk && (t->bpe.unk = tokenizer_id(t, unk)) < 0) return fail(st, "\"unk_token\" is not in \"vocab\"");
    if (!read_merges(t, json_get(model, "merges"), st)) return false;
    set_byte_ids(t);
    set_pieces(t, json_get(model, "vocab"));
    return true;
}

static bool read_root(Tokenizer *t, const Json *root, Status *st)
{
    if (!json_is_object(root)) return fail(st, "a tokenizer.json must be an object");
    t->pre = pretokenizer_new(json_get(root, "pre_tokenizer"), st);
    bool fused = false;
    if (!t->pre || !normalizer_read(&t->normalizer, json_get(root, "normalizer"), st)) return false;
    if (!read_decoder(t, json_get(root, "decoder"), 0, &fused, st)) return false;
    if (!read_model(t, json_get(root, "model"), st)) return fail_prefix(st, "model");
    return read_added_tokens(t, json_get(root, "added_tokens"), st);
}

/* ---- tokenizer_config.json ---- */

static const char *token_text(const Json *config, const char *key)
{
    const Json *v = json_get(config, key);
    return json_string(json_is_object(v) ? json_get(v, "content") : v, NULL);
}

/* The token that the config names; without a config, the first usual name there is. */
static int32_t find_marker(const Tokenizer *t, const Json *config, const char *key, const char *const *usual)
{
    const char *text = token_text(config, key);
    if (text) return tokenizer_id(t, text);
    if (config) return -1;
    for (; *usual; usual++)
        if (tokenizer_id(t, *usual) >= 0) return tokenizer_id(t, *usual);
    return -1;
}

/* A list of named templates is the older spelling of several; "default" is the one for chat. */
static const char *template_text(const Json *config)
{
    const Json *v = json_get(config, "chat_template");
    for (size_t i = 0; json_is_array(v) && i < json_count(v); i++)
        if (!strcmp(json_get_string(json_at(v, i), "name", ""), "default"))
            return json_get_string(json_at(v, i), "template", NULL);
    return json_string(v, NULL);
}

static bool read_config(Tokenizer *t, Status *st)
{
    static const char *const bos[] = {"<bos>", "<｜begin▁of▁sentence｜>", "<|begin_of_text|>", "<s>", NULL};
    static const char *const eos[] = {"<eos>",           "<｜end▁of▁sentence｜>", "<|im_end|>", "<|eot_id|>",
                                      "<|end_of_text|>", "<|endoftext|>",         "</s>",       NULL};
    Json *config = NULL;
    if (t->config && !(config = json_parse(t->config, strlen(t->config), "tokenizer_config.json", st))) return false;
    t->bos = find_marker(t, config, "bos_token", bos);
    t->eos = find_marker(t, config, "eos_token", eos);
    const char *text = template_text(config);
    if (text) t->chat_template = text_copy(text, strlen(text));
    json_free(config);
    return true;
}

Tokenizer *tokenizer_build(const Json *root, char *json, size_t json_length, char *config, const char *where,
                           Status *st)
{
    Tokenizer *t = calloc(1, sizeof *t);
    CHECK(t);
    *t = (Tokenizer){.json = json, .json_length = json_length, .config = config, .bos = -1, .eos = -1};
    bpe_init(&t->bpe);
    if (read_root(t, root, st) && read_config(t, st)) return t;
    fail_prefix(st, "%s", where);
    tokenizer_free(t);
    return NULL;
}
