/* A Tokenizer from the metadata of a GGUF file: byte-level BPE, and SentencePiece's BPE by scores. */
#include "data/tokenizer/tokenizer_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "data/utf8.h"

static const char SPACE[] = "\xE2\x96\x81"; /* U+2581 */

static bool add_tokens(const GgufVocabulary *v, Json *vocab, Json *added, Status *st)
{
    for (int i = 0; i < v->n; i++) {
        const char *token = v->tokens[i];
        size_t length = strlen(token);
        int32_t type = v->types ? v->types[i] : GGUF_NORMAL;
        if (type == GGUF_UNUSED) continue;
        if (utf8_valid_length(token, length) < length) return fail(st, "tokenizer: token %d is not UTF-8", i);
        if (json_get(vocab, token)) return fail(st, "tokenizer: \"%.60s\" stands twice, again as token %d", token, i);
        json_set(vocab, token, json_new_int(i));
        bool special = type == GGUF_CONTROL || (v->sentencepiece && type == GGUF_UNKNOWN);
        if (length && (special || type == GGUF_USER)) json_append(added, added_token_value(i, token, special));
    }
    return true;
}

static Json *typed_value(const char *type, const char *key, const char *text)
{
    Json *v = json_new_object();
    json_set(v, "type", json_new_text(type));
    if (key) json_set(v, key, json_new_text(text));
    return v;
}

static Json *config_value(const GgufVocabulary *v)
{
    Json *o = json_new_object();
    bool has_bos = v->bos >= 0 && v->bos < v->n, has_eos = v->eos >= 0 && v->eos < v->n;
    json_set(o, "tokenizer_class", json_new_text("PreTrainedTokenizerFast"));
    json_set(o, "bos_token", has_bos ? json_new_text(v->tokens[v->bos]) : json_new_null());
    json_set(o, "eos_token", has_eos ? json_new_text(v->tokens[v->eos]) : json_new_null());
    json_set(o, "clean_up_tokenization_spaces", json_new_bool(false));
    if (v->sentencepiece) json_set(o, "add_bos_token", json_new_bool(v->add_bos));
    return o;
}

static Json *merges_value(const GgufVocabulary *v)
{
    Json *list = json_new_array();
    for (int i = 0; i < v->n_merges; i++) json_append(list, json_new_text(v->merges[i]));
    if (!v->sentencepiece || v->n_merges) return list;
    size_t n;
    ScoredMerge *m = merges_by_score(v, &n);
    for (size_t i = 0; i < n; i++) {
        Json *pair = json_new_array();
        json_append(pair, json_new_text(v->tokens[m[i].left]));
        json_append(pair, json_new_text(v->tokens[m[i].right]));
        json_append(list, pair);
    }
    free(m);
    return list;
}

/* ---- SentencePiece ---- */

/* Llama 2's conversion: every space is U+2581, a text begins with one more, characters without a piece are their bytes. */
static Json *replace_value(const char *from, const char *to)
{
    Json *v = typed_value("Replace", "content", to), *pattern = json_new_object();
    json_set(pattern, "String", json_new_text(from));
    json_set(v, "pattern", pattern);
    return v;
}

static Json *sentencepiece_value(const GgufVocabulary *v, Json *vocab, Json *added, Json *merges)
{
    const char *unk = v->unk >= 0 && v->unk < v->n ? v->tokens[v->unk] : NULL;
    bool bytes = false;
    for (int i = 0; v->types && i < v->n; i++) {
        if (v->types[i] == GGUF_UNKNOWN && !unk) unk = v->tokens[i];
        bytes = bytes || v->types[i] == GGUF_BYTE;
    }
    Json *normalizers = json_new_array(), *decoders = json_new_array();
    if (v->space_prefix) json_append(normalizers, typed_value("Prepend", "prepend", SPACE));
    json_append(normalizers, replace_value(" ", SPACE));
    json_append(decoders, replace_value(SPACE, " "));
    if (bytes) json_append(decoders, typed_value("ByteFallback", NULL, NULL));
    json_append(decoders, typed_value("Fuse", NULL, NULL));
    if (v->space_prefix) {
        Json *strip = typed_value("Strip", "content", " ");
        json_set(strip, "start", json_new_int(1));
        json_set(strip, "stop", json_new_int(0));
        json_append(decoders, strip);
    }
    Json *model = bpe_value(vocab, merges, unk, bytes, false);
    json_set(model, "fuse_unk", json_new_bool(true));
    return tokenizer_value(added, sequence_value("normalizers", normalizers), json_new_null(),
                           sequence_value("decoders", decoders), model);
}

/* ---- byte-level BPE ---- */

static Json *byte_level_bpe(const GgufVocabulary *v, Json *split, Json *vocab, Json *added, Json *merges)
{
    const char *family = pretokenizer_family(v->pre);
    Json *model = bpe_value(vocab, merges, NULL, false, !strcmp(family, "llama-bpe"));
    Json *normalizer = strcmp(family, "qwen2") ? NULL : typed_value("NFC", NULL, NULL);
    return tokenizer_value(added, normalizer, split, byte_level_value(false), model);
}

static bool check_scores(const GgufVocabulary *v, Status *st)
{
    if (!v->sentencepiece || v->n_merges) return true;
    if (!v->scores) return fail(st, "tokenizer: a SentencePiece vocabulary without scores has no order of merges");
    for (int i = 0; i < v->n; i++)
        if (!isfinite(v->scores[i])) return fail(st, "tokenizer: the score of token %d is not a number", i);
    return true;
}

Tokenizer *tokenizer_from_gguf(const GgufVocabulary *v, Status *st)
{
    Json *split = v->sentencepiece ? NULL : pretokenizer_value(v->pre);
    if (!v->sentencepiece && !split) {
        fail(st, "tokenizer: tokenizer.ggml.pre \"%.40s\" is not known: only %s are", v->pre, pretokenizer_names);
        return NULL;
    }
    Json *vocab = json_new_object(), *added = json_new_array();
    if (!check_scores(v, st) || !add_tokens(v, vocab, added, st)) {
        json_free(split);
        json_free(vocab);
        json_free(added);
        return NULL;
    }
    Json *merges = merges_value(v), *root = v->sentencepiece ? sentencepiece_value(v, vocab, added, merges)
                                                             : byte_level_bpe(v, split, vocab, added, merges);
    return tokenizer_from_values(root, config_value(v), "tokenizer", st);
}
