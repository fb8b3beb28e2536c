#include "data/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "data/utf8.h"

void ids_push(Ids *list, int32_t id)
{
    if (list->n == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 32;
        list->ids = realloc(list->ids, (size_t)list->capacity * sizeof *list->ids);
        CHECK(list->ids);
    }
    list->ids[list->n++] = id;
}

void tokenizer_free(Tokenizer *t)
{
    if (!t) return;
    free(t->json);
    free(t->config);
    free(t->chat_template);
    free(t->tokens);
    free(t->pool.p);
    bytemap_free(&t->by_text);
    added_tokens_free(&t->raw);
    added_tokens_free(&t->normalized);
    pretokenizer_free(t->pre);
    bpe_free(&t->bpe);
    free(t);
}

int tokenizer_vocab(const Tokenizer *t)
{
    return t->vocab;
}

/* ---- encode ---- */

typedef struct Encoding {
    const Tokenizer *t;
    Ids *out;
} Encoding;

static void encode_piece(void *context, const char *piece, size_t length)
{
    const Encoding *e = context;
    bpe_encode(&e->t->bpe, piece, length, e->out);
}

typedef void EncodeGap(const Encoding *e, const char *text, size_t length);

/* Ids of the added tokens in text, and what `gap` makes of the text between them. */
static void cut_added(const Encoding *e, const AddedTokens *added, const char *text, size_t length, EncodeGap *gap)
{
    size_t scan = 0, done = 0, start, end;
    const AddedToken *token;
    while ((token = added_tokens_next(added, text, length, &scan, done, &start, &end))) {
        if (start > done) gap(e, text + done, start - done);
        ids_push(e->out, token->id);
        done = end;
    }
    if (length > done) gap(e, text + done, length - done);
}

static void encode_words(const Encoding *e, const char *text, size_t length)
{
    pretokenize(e->t->pre, text, length, encode_piece, (void *)(uintptr_t)e);
}

static void encode_normalized(const Encoding *e, const char *text, size_t length)
{
    size_t n = length;
    char *normal = unicode_normalize(e->t->form, text, length, &n);
    cut_added(e, &e->t->normalized, normal ? normal : text, n, encode_words);
    free(normal);
}

void tokenizer_encode(const Tokenizer *t, const char *text, size_t length, Ids *out)
{
    char *repaired = NULL;
    if (utf8_valid_length(text, length) < length) text = repaired = utf8_repair(text, length, &length);
    cut_added(&(Encoding){t, out}, &t->raw, text, length, encode_normalized);
    free(repaired);
}

/* ---- decode ---- */

const char *tokenizer_piece(const Tokenizer *t, int32_t id, size_t *length, bool *is_special)
{
    bool known = id >= 0 && id < t->vocab && t->tokens[id].exists;
    if (length) *length = known ? t->tokens[id].length : 0;
    if (is_special) *is_special = known && t->tokens[id].special;
    return known ? t->pool.p + t->tokens[id].at : "";
}

static void add_piece(const Tokenizer *t, int32_t id, bool special, Text *out)
{
    size_t length;
    bool is_special;
    const char *piece = tokenizer_piece(t, id, &length, &is_special);
    if (special || !is_special) text_add_bytes(out, piece, length);
}

char *tokenizer_decode_length(const Tokenizer *t, const int32_t *ids, int n, bool special, size_t *length)
{
    Text bytes = {0};
    for (int i = 0; i < n; i++) add_piece(t, ids[i], special, &bytes);
    char *repaired = utf8_repair(bytes.p, bytes.n, length);
    free(bytes.p);
    return repaired;
}

char *tokenizer_decode(const Tokenizer *t, const int32_t *ids, int n, bool special)
{
    return tokenizer_decode_length(t, ids, n, special, NULL);
}

char *tokenizer_stream(const Tokenizer *t, TextStream *s, int32_t id, bool special)
{
    Text bytes = {0};
    text_add_bytes(&bytes, s->held, (size_t)s->n);
    add_piece(t, id, special, &bytes);
    size_t tail = utf8_incomplete_tail(bytes.p, bytes.n);
    memcpy(s->held, bytes.p + bytes.n - tail, tail);
    s->n = (int)tail;
    char *complete = utf8_repair(bytes.p, bytes.n - tail, NULL);
    free(bytes.p);
    return complete;
}

char *tokenizer_stream_end(TextStream *s)
{
    char *rest = utf8_repair(s->held, (size_t)s->n, NULL);
    s->n = 0;
    return rest;
}

/* ---- what a tokenizer knows ---- */

int32_t tokenizer_id(const Tokenizer *t, const char *text)
{
    return bytemap_get(&t->by_text, text, strlen(text));
}

int32_t tokenizer_bos(const Tokenizer *t)
{
    return t->bos;
}

int32_t tokenizer_eos(const Tokenizer *t)
{
    return t->eos;
}

const char *tokenizer_json_text(const Tokenizer *t, size_t *length)
{
    *length = t->json_length;
    return t->json;
}

const char *tokenizer_config_text(const Tokenizer *t)
{
    return t->config;
}

const char *tokenizer_chat_template(const Tokenizer *t)
{
    return t->chat_template;
}
