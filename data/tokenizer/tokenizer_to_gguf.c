/* A tokenizer as the vocabulary of a GGUF file: which of llama.cpp's kinds gives its ids is found by comparing. */
#include "data/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/philox.h"

/* ---- byte-level BPE: the family whose pre-tokenizer cuts probe texts in the same places ---- */

enum { PROBES = 1500, PROBE_PARTS = 14 };

/* What pre-tokenizers tell apart: letters of several scripts, marks, digits, spaces, line ends, punctuation, symbols. */
static const char *const probe_parts[] = {
    "a",    "Bc",        "the",
    "'s",   "'LL",       "'",
    "1",    "23",        "4567",
    "²",    "Ⅷ",         " ",
    "  ",   "\t",        "\n",
    "\r\n", "\n\n",      ".",
    ",",    "!?",        "-",
    "_",    "(",         "]",
    "/",    "\\",        "\"",
    "`",    "#",         "$",
    "+",    "<",         "=",
    "é",    "e\xCC\x81", "ß",
    "Ж",    "ω",         "א",
    "ا",    "अ",         "ก",
    "你",   "好",        "、",
    "。",   "，",        "ひ",
    "カ",   "한",        "！",
    "～",   "€",         "©",
    "😀",    "\xC2\xA0",  "\xE2\x80\x83",
    "—",    "‘",         "”",
    "ʰ",    "ª",         "Ａ",
    "٣",
};

static void add_piece(void *to, const char *piece, size_t length)
{
    text_add_bytes(to, piece, length);
    text_add_bytes(to, "", 1);
}

static bool same_cuts(const Pretokenizer *a, const Pretokenizer *b)
{
    const uint32_t parts = sizeof probe_parts / sizeof *probe_parts;
    bool same = true;
    for (uint32_t i = 0; i < PROBES && same; i++) {
        Text probe = {0}, cuts[2] = {{0}, {0}};
        Rng draws = rng_stream(0, RNG_DATA, 0, i);
        for (int j = 0; j < PROBE_PARTS; j++) text_add(&probe, probe_parts[rng_below(&draws, parts)]);
        pretokenize(a, probe.p, probe.n, true, add_piece, &cuts[0]);
        pretokenize(b, probe.p, probe.n, true, add_piece, &cuts[1]);
        same = cuts[0].n == cuts[1].n && !memcmp(cuts[0].p, cuts[1].p, cuts[0].n);
        free(probe.p);
        free(cuts[0].p);
        free(cuts[1].p);
    }
    return same;
}

static const char *byte_level_name(const Pretokenizer *pre)
{
    static const char *const families[] = {"llama-bpe", "deepseek-v3",    "qwen2",       "smollm",
                                           "gpt-2",     "deepseek-coder", "deepseek-llm"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++) {
        Status ignored = {0};
        Json *value = pretokenizer_value(families[i]);
        Pretokenizer *other = pretokenizer_new(value, &ignored);
        CHECK(other);
        bool same = same_cuts(pre, other);
        pretokenizer_free(other);
        json_free(value);
        if (same) return families[i];
    }
    return NULL;
}

/* ---- SentencePiece ---- */

/* Adds what a normalizer or a decoder does, a line a step. */
static void add_steps(Text *out, const Json *v, const char *member)
{
    const char *type = json_get_string(v, "type", "");
    if (!strcmp(type, "Sequence")) {
        const Json *list = json_get(v, member);
        for (size_t i = 0; i < json_count(list); i++) add_steps(out, json_at(list, i), member);
        return;
    }
    const char *content = json_get_string(v, "content", "");
    if (!strcmp(type, "Prepend")) text_addf(out, "Prepend %s\n", json_get_string(v, "prepend", ""));
    else if (!strcmp(type, "Replace"))
        text_addf(out, "Replace %s > %s\n", json_get_string(json_get(v, "pattern"), "String", "?"), content);
    else if (!strcmp(type, "Strip"))
        text_addf(out, "Strip %s %d %d\n", content, (int)json_integer(json_get(v, "start")),
                  (int)json_integer(json_get(v, "stop")));
    else if (*type) text_addf(out, "%s\n", type);
}

static bool has_steps(const Json *root, const char *key, const char *member, const char *steps)
{
    Text out = {0};
    text_add(&out, "");
    if (json_get(root, key)) add_steps(&out, json_get(root, key), member);
    bool same = !strcmp(out.p, steps);
    free(out.p);
    return same;
}

static bool sentencepiece_form(const Json *root, bool *space_prefix)
{
    static const char replace[] = "Replace   > ▁\n", back[] = "Replace ▁ >  \nByteFallback\nFuse\n";
    static const char prepend[] = "Prepend ▁\nReplace   > ▁\n",
                      strip[] = "Replace ▁ >  \nByteFallback\nFuse\nStrip   1 0\n";
    const Json *pre = json_get(root, "pre_tokenizer"), *model = json_get(root, "model");
    if (pre && !json_is_null_value(pre)) return false;
    if (!json_bool(json_get(model, "byte_fallback"))) return false;
    *space_prefix = has_steps(root, "normalizer", "normalizers", prepend);
    return *space_prefix
               ? has_steps(root, "decoder", "decoders", strip)
               : has_steps(root, "normalizer", "normalizers", replace) && has_steps(root, "decoder", "decoders", back);
}

/* Added tokens that match in another way than letter by letter, before anything else is done to the text. */
static bool plain_added_tokens(const Json *root, bool sentencepiece, Status *st)
{
    static const char *const flags[] = {"lstrip", "rstrip", "single_word"};
    const Json *added = json_get(root, "added_tokens");
    for (size_t i = 0; i < json_count(added); i++) {
        const Json *one = json_at(added, i);
        const char *flag = NULL;
        for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
            if (json_bool(json_get(one, flags[f]))) flag = flags[f];
        if (sentencepiece && json_bool(json_get(one, "normalized"))) flag = "normalized";
        if (flag)
            return fail(st, "its token \"%.60s\" is matched with \"%s\", which GGUF cannot say",
                        json_get_string(one, "content", ""), flag);
    }
    return true;
}

static bool find_kind(const Tokenizer *t, const Json *root, GgufVocabulary *v, Status *st)
{
    const char *const type = json_get_string(json_get(root, "model"), "type", "BPE");
    if (strcmp(type, "BPE")) return fail(st, "its model is %.40s, not BPE", type);
    v->sentencepiece = !pretokenizer_byte_level(t->pre);
    if (v->sentencepiece && !sentencepiece_form(root, &v->space_prefix))
        return fail(st, "it is neither byte-level BPE nor a SentencePiece BPE that puts U+2581 for every space");
    if (!plain_added_tokens(root, v->sentencepiece, st)) return false;
    if (v->sentencepiece) return true;
    if (!has_steps(root, "normalizer", "normalizers", "") && !has_steps(root, "normalizer", "normalizers", "NFC\n"))
        return fail(st, "its normalizer is one that GGUF cannot say");
    v->pre = byte_level_name(t->pre);
    return v->pre || fail(st, "its pre-tokenizer cuts texts as none of %s does", pretokenizer_names);
}

/* ---- the whole ---- */

/* What the fields of a GgufVocabulary point to. */
typedef struct Made {
    const char **tokens, **merges;
    int32_t *types;
    float *scores;
    Text *lines; /* of merges */
    Json *root;
} Made;

static bool place_token(Made *m, int n, int64_t id, const char *text, int32_t type, Status *st)
{
    if (id < 0 || id >= n)
        return fail(st, "it has id %lld, but the model's vocab_size is %d: they do not belong together", (long long)id,
                    n);
    m->tokens[id] = text;
    m->types[id] = type;
    return true;
}

static bool place_tokens(Made *m, GgufVocabulary *v, Status *st)
{
    const Json *model = json_get(m->root, "model"), *value, *added = json_get(m->root, "added_tokens");
    const char *key, *unk = json_get_string(model, "unk_token", NULL);
    for (void *cursor = NULL; (key = json_next(json_get(model, "vocab"), &cursor, &value));) {
        int32_t type = v->sentencepiece && tokenizer_named_byte(key, strlen(key)) >= 0 ? GGUF_BYTE : GGUF_NORMAL;
        if (!place_token(m, v->n, json_integer(value), key, type, st)) return false;
    }
    for (size_t i = 0; i < json_count(added); i++) {
        const Json *one = json_at(added, i);
        int32_t type = json_bool(json_get(one, "special")) ? GGUF_CONTROL : GGUF_USER;
        if (!place_token(m, v->n, json_integer(json_get(one, "id")), json_get_string(one, "content", ""), type, st))
            return false;
    }
    for (int i = 0; i < v->n && v->sentencepiece && unk; i++)
        if (m->tokens[i] && !strcmp(m->tokens[i], unk)) m->types[v->unk = i] = GGUF_UNKNOWN;
    return true;
}

/* "left right", from either spelling of tokenizer.json. */
static void place_merges(Made *m, GgufVocabulary *v)
{
    const Json *merges = json_get(json_get(m->root, "model"), "merges");
    size_t n = json_count(merges);
    m->merges = calloc(n + 1, sizeof *m->merges);
    m->lines = calloc(n + 1, sizeof *m->lines);
    CHECK(m->merges && m->lines);
    for (size_t i = 0; i < n; i++) {
        const Json *one = json_at(merges, i);
        const char *line = json_string(one, NULL);
        if (line && i == 0 && !strncmp(line, "#version", 8)) continue;
        Text *text = &m->lines[v->n_merges];
        if (line) text_add(text, line);
        else text_addf(text, "%s %s", json_string(json_at(one, 0), NULL), json_string(json_at(one, 1), NULL));
        m->merges[v->n_merges++] = text->p;
    }
    v->merges = m->merges;
}

bool tokenizer_to_gguf(const Tokenizer *t, int n, GgufVocabulary *v, Status *st)
{
    Made *m = calloc(1, sizeof *m);
    CHECK(m);
    *v = (GgufVocabulary){.n = n, .bos = -1, .eos = -1, .unk = -1, .made = m};
    m->root = json_parse(t->json, t->json_length, "tokenizer.json", st);
    m->tokens = calloc((size_t)n + 1, sizeof *m->tokens);
    m->types = calloc((size_t)n + 1, sizeof *m->types);
    CHECK(m->tokens && m->types);
    v->tokens = m->tokens;
    v->types = m->types;
    bool ok = m->root && find_kind(t, m->root, v, st) && place_tokens(m, v, st);
    if (ok) place_merges(m, v);
    if (ok && v->sentencepiece) {
        v->scores = m->scores = calloc((size_t)n + 1, sizeof *m->scores);
        CHECK(m->scores);
        ok = scores_of_merges(v, m->scores, st);
    }
    if (!ok) gguf_vocabulary_free(v);
    return ok;
}

void gguf_vocabulary_free(GgufVocabulary *v)
{
    Made *m = v->made;
    if (!m) return;
    for (int i = 0; i < v->n_merges; i++) free(m->lines[i].p);
    free(m->lines);
    free(m->tokens);
    free(m->merges);
    free(m->types);
    free(m->scores);
    json_free(m->root);
    free(m);
    *v = (GgufVocabulary){0};
}
