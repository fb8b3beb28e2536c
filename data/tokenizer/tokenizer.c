/* Encoding and decoding with a tokenizer that is built: added tokens, normalizer, pre-tokenizer, BPE, and back. */
#include "data/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/utf8.h"

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
    normalizer_free(&t->normalizer);
    free(t->space[0].p);
    free(t->space[1].p);
    free(t->strip.p);
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
    const TextSpan *quoted; /* of the whole text, in which the piece at hand begins at `base` */
    int n;
    size_t base;
    bool first; /* the piece is the beginning of the text */
} Encoding;

static void encode_piece(void *context, const char *piece, size_t length)
{
    const Encoding *e = context;
    bpe_encode(&e->t->bpe, piece, length, e->out);
}

static bool is_control(const Tokenizer *t, int32_t id)
{
    size_t n;
    bool special;
    const char *piece = tokenizer_piece(t, id, &n, &special);
    return special || (n > 2 && piece[0] == '<' && piece[n - 1] == '>');
}

/* Whether the token at [start, end) of the piece stands in quoted text; white space that it takes with it does not count. */
static bool stands_quoted(const Encoding *e, int32_t id, const char *text, size_t start, size_t end)
{
    size_t n;
    const char *piece = tokenizer_piece(e->t, id, &n, NULL), *at = memmem(text + start, end - start, piece, n);
    size_t from = e->base + (at ? (size_t)(at - text) : start), to = at ? from + n : e->base + end;
    for (int i = 0; i < e->n; i++)
        if (from < e->quoted[i].end && to > e->quoted[i].start) return true;
    return false;
}

typedef void EncodeGap(const Encoding *e, const char *text, size_t length);

static void encode_gap(const Encoding *e, EncodeGap *gap, const char *text, size_t from, size_t to)
{
    Encoding inner = *e;
    inner.base += from;
    inner.first = e->first && from == 0;
    if (to > from) gap(&inner, text + from, to - from);
}

/* Ids of the added tokens in text, and what `gap` makes of the text between them. */
static void cut_added(const Encoding *e, const AddedTokens *added, const char *text, size_t length, EncodeGap *gap)
{
    size_t scan = 0, done = 0, start, end;
    const AddedToken *token;
    while ((token = added_tokens_next(added, text, length, &scan, done, &start, &end))) {
        if (e->n && is_control(e->t, token->id) && stands_quoted(e, token->id, text, start, end)) continue;
        encode_gap(e, gap, text, done, start);
        ids_push(e->out, token->id);
        done = end;
    }
    encode_gap(e, gap, text, done, length);
}

static void encode_words(const Encoding *e, const char *text, size_t length)
{
    pretokenize(e->t->pre, text, length, e->first, encode_piece, (void *)(uintptr_t)e);
}

static void add_normal(Text *out, const Normalizer *z, const char *text, size_t length)
{
    size_t n = length;
    char *normal = normalizer_apply(z, text, length, out->n == 0, &n);
    text_add_bytes(out, normal ? normal : text, n);
    free(normal);
}

/* Normalises between the ends of quoted spans, so that it is known where they lie afterwards. */
static void encode_quoted_normal(const Encoding *e, const char *text, size_t length)
{
    Text normal = {0};
    TextSpan *spans = malloc((size_t)e->n * sizeof *spans);
    size_t done = 0;
    int n = 0;
    CHECK(spans);
    for (int i = 0; i < e->n; i++) {
        size_t start = e->quoted[i].start > e->base ? e->quoted[i].start - e->base : 0;
        size_t end = e->quoted[i].end > e->base ? e->quoted[i].end - e->base : 0;
        if (end > length) end = length;
        if (start >= end) continue;
        add_normal(&normal, &e->t->normalizer, text + done, start - done);
        spans[n].start = normal.n;
        add_normal(&normal, &e->t->normalizer, text + start, end - start);
        spans[n++].end = normal.n;
        done = end;
    }
    add_normal(&normal, &e->t->normalizer, text + done, length - done);
    cut_added(&(Encoding){e->t, e->out, spans, n, 0, e->first}, &e->t->normalized, normal.p ? normal.p : "", normal.n,
              encode_words);
    free(normal.p);
    free(spans);
}

static void encode_normalized(const Encoding *e, const char *text, size_t length)
{
    size_t n = length;
    char *normal = normalizer_apply(&e->t->normalizer, text, length, true, &n);
    if (normal && e->n) encode_quoted_normal(e, text, length);
    else cut_added(e, &e->t->normalized, normal ? normal : text, n, encode_words);
    free(normal);
}

void tokenizer_encode_quoted(const Tokenizer *t, const char *text, size_t length, const TextSpan *quoted, int n,
                             Ids *out)
{
    char *repaired = NULL;
    if (utf8_valid_length(text, length) < length) text = repaired = utf8_repair(text, length, &length);
    cut_added(&(Encoding){t, out, quoted, n, 0, true}, &t->raw, text, length, encode_normalized);
    free(repaired);
}

void tokenizer_encode(const Tokenizer *t, const char *text, size_t length, Ids *out)
{
    tokenizer_encode_quoted(t, text, length, NULL, 0, out);
}

/* ---- decode ---- */

const char *tokenizer_piece(const Tokenizer *t, int32_t id, size_t *length, bool *is_special)
{
    bool known = id >= 0 && id < t->vocab && t->tokens[id].exists;
    if (length) *length = known ? t->tokens[id].length : 0;
    if (is_special) *is_special = known && t->tokens[id].special;
    return known ? t->pool.p + t->tokens[id].at : "";
}

/* first: the first token of a text that is shown. */
static void add_piece(const Tokenizer *t, int32_t id, bool special, bool first, Text *out)
{
    size_t length;
    bool is_special;
    const char *piece = tokenizer_piece(t, id, &length, &is_special);
    if (is_special && !special) return;
    if (!first || !t->bare_start) {
        text_add_bytes(out, piece, length);
        return;
    }
    for (size_t i = 0; i < length; i++)
        if (piece[i] != ' ') text_add_bytes(out, piece + i, 1);
}

static bool is_shown(const Tokenizer *t, int32_t id, bool special)
{
    bool is_special;
    tokenizer_piece(t, id, NULL, &is_special);
    return special || !is_special;
}

/* Where the text proper begins and ends: decoder Strip. */
static size_t strip_start(const Tokenizer *t, const char *text, size_t length, int most)
{
    size_t at = 0, n = t->strip.n;
    for (int i = 0; i < most && n && length - at >= n && !memcmp(text + at, t->strip.p, n); i++) at += n;
    return at;
}

static size_t strip_end(const Tokenizer *t, const char *text, size_t length)
{
    size_t end = length, n = t->strip.n;
    for (int i = 0; i < t->strip_end && n && end >= n && !memcmp(text + end - n, t->strip.p, n); i++) end -= n;
    return end;
}

char *tokenizer_decode_length(const Tokenizer *t, const int32_t *ids, int n, bool special, size_t *length)
{
    Text bytes = {0};
    bool first = true;
    for (int i = 0; i < n; i++) {
        add_piece(t, ids[i], special, first, &bytes);
        first = first && !is_shown(t, ids[i], special);
    }
    text_add_bytes(&bytes, "", 0);
    size_t from = strip_start(t, bytes.p, bytes.n, t->strip_start);
    char *repaired = utf8_repair(bytes.p + from, strip_end(t, bytes.p + from, bytes.n - from), length);
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
    add_piece(t, id, special, !s->begun, &bytes);
    size_t from = 0, one = t->strip.n ? t->strip.n : 1;
    if (s->stripped < t->strip_start) {
        from = strip_start(t, bytes.p, bytes.n, t->strip_start - s->stripped);
        s->stripped = from < bytes.n ? t->strip_start : s->stripped + (int)(from / one);
    }
    s->begun = s->begun || is_shown(t, id, special);
    size_t tail = utf8_incomplete_tail(bytes.p + from, bytes.n - from);
    memcpy(s->held, bytes.p + bytes.n - tail, tail);
    s->n = (int)tail;
    char *complete = utf8_repair(bytes.p + from, bytes.n - from - tail, NULL);
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
