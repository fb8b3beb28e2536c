/* tokenizer.ggml.* of a written GGUF file. */
#include <stdlib.h>
#include <string.h>

#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/gguf/gguf_write.h"
#include "core/base/check.h"
#include "data/json.h"

enum { TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_UNUSED = 5 };

/* The vocabulary by id; text NULL: no token. */
typedef struct Token {
    const char *text;
    size_t length;
    int type;
} Token;

/* llama.cpp's name of a pre-tokenizer, known by what its regular expressions hold. */
static const char *pre_name(const Json *pre_tokenizer)
{
    char *text = json_write(pre_tokenizer, false);
    bool triples = strstr(text, "p{N}{1,3}"), contractions = strstr(text, "'s|'t|'re"),
         digits = strstr(text, "\"Digits\"");
    const char *name = triples        ? contractions ? "llama-bpe" : "deepseek-v3"
                       : contractions ? "qwen2"
                       : digits       ? strstr(text, "\"Split\"") ? "deepseek-llm" : "smollm"
                                      : "gpt-2";
    free(text);
    return name;
}

static bool is_byte_level_bpe(const Json *root)
{
    const char *type = json_get_string(json_get(root, "model"), "type", "");
    char *text = json_get(root, "pre_tokenizer") ? json_write(json_get(root, "pre_tokenizer"), false) : strdup("");
    bool yes = !strcmp(type, "BPE") && strstr(text, "\"ByteLevel\"");
    free(text);
    return yes;
}

static bool place_token(Token *tokens, int V, int64_t id, const char *text, size_t length, int type, Status *st)
{
    if (id < 0 || id >= V)
        return fail(st, "the tokenizer has id %lld, but the model's vocab_size is %d: they do not belong together",
                    (long long)id, V);
    tokens[id] = (Token){text, length, type};
    return true;
}

static bool collect_tokens(const Json *root, Token *tokens, int V, Status *st)
{
    const Json *value, *added = json_get(root, "added_tokens");
    const char *key;
    for (void *cursor = NULL; (key = json_next(json_get(json_get(root, "model"), "vocab"), &cursor, &value));)
        if (!place_token(tokens, V, json_integer(value), key, strlen(key), TYPE_NORMAL, st)) return false;
    for (size_t i = 0; i < json_count(added); i++) {
        const Json *one = json_at(added, i);
        size_t length = 0;
        const char *text = json_string(json_get(one, "content"), &length);
        int type = json_bool(json_get(one, "special")) ? TYPE_CONTROL : TYPE_USER;
        if (!place_token(tokens, V, json_integer(json_get(one, "id")), text ? text : "", length, type, st))
            return false;
    }
    return true;
}

static void put_tokens(GgufKeys *k, const Token *tokens, int V)
{
    gguf_key_array(k, "tokenizer.ggml.tokens", VALUE_STRING, (uint64_t)V);
    for (int i = 0; i < V; i++) {
        char padding[32];
        int n = snprintf(padding, sizeof padding, "[PAD%d]", i);
        if (tokens[i].text) gguf_put_string(k->out, tokens[i].text, tokens[i].length);
        else gguf_put_string(k->out, padding, (size_t)n);
    }
    gguf_key_array(k, "tokenizer.ggml.token_type", VALUE_I32, (uint64_t)V);
    for (int i = 0; i < V; i++) gguf_put_u64(k->out, (uint64_t)(tokens[i].text ? tokens[i].type : TYPE_UNUSED), 4);
}

/* "left right", from either spelling of tokenizer.json. */
static void put_merges(GgufKeys *k, const Json *merges)
{
    gguf_key_array(k, "tokenizer.ggml.merges", VALUE_STRING, json_count(merges));
    for (size_t i = 0; i < json_count(merges); i++) {
        const Json *one = json_at(merges, i);
        size_t left_n = 0, right_n = 0;
        if (json_is_string(one)) {
            const char *text = json_string(one, &left_n);
            gguf_put_string(k->out, text, left_n);
            continue;
        }
        const char *left = json_string(json_at(one, 0), &left_n), *right = json_string(json_at(one, 1), &right_n);
        gguf_put_u64(k->out, left_n + 1 + right_n, 8);
        fwrite(left ? left : "", 1, left_n, k->out);
        fputc(' ', k->out);
        fwrite(right ? right : "", 1, right_n, k->out);
    }
}

static void put_flags(GgufKeys *k, const ModelConfig *c, const Tokenizer *t)
{
    int bos = tokenizer_bos(t) >= 0 ? tokenizer_bos(t) : c->bos, eos = c->eos >= 0 ? c->eos : tokenizer_eos(t);
    if (bos >= 0) gguf_key_u32(k, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
    if (eos >= 0) gguf_key_u32(k, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
    bool add_bos = false;
    const char *config = tokenizer_config_text(t);
    Status ignored = {0};
    Json *object = config ? json_parse(config, strlen(config), "tokenizer_config.json", &ignored) : NULL;
    if (object) json_get_bool(object, "add_bos_token", false, &add_bos, &ignored);
    json_free(object);
    gguf_key_bool(k, "tokenizer.ggml.add_bos_token", add_bos && bos >= 0);
    gguf_key_bool(k, "tokenizer.ggml.add_eos_token", false);
    if (tokenizer_chat_template(t)) gguf_key_text(k, "tokenizer.chat_template", tokenizer_chat_template(t));
}

static bool put_bpe(GgufKeys *k, const ModelConfig *c, const Tokenizer *t, const Json *root, Status *st)
{
    Token *tokens = calloc((size_t)c->V, sizeof *tokens);
    CHECK(tokens);
    bool ok = collect_tokens(root, tokens, c->V, st);
    if (ok) {
        gguf_key_text(k, "tokenizer.ggml.model", "gpt2");
        gguf_key_text(k, "tokenizer.ggml.pre", pre_name(json_get(root, "pre_tokenizer")));
        put_tokens(k, tokens, c->V);
        put_merges(k, json_get(json_get(root, "model"), "merges"));
        put_flags(k, c, t);
    }
    free(tokens);
    return ok;
}

bool gguf_put_tokenizer(GgufKeys *k, const ModelConfig *c, const Tokenizer *t, Status *st)
{
    size_t length = 0;
    const char *text = t ? tokenizer_json_text(t, &length) : NULL;
    Json *root = text ? json_parse(text, length, "tokenizer.json", st) : NULL;
    if (text && !root) return false;
    bool ok = true;
    if (root && is_byte_level_bpe(root)) ok = put_bpe(k, c, t, root, st);
    else gguf_key_text(k, "tokenizer.ggml.model", "none");
    json_free(root);
    return ok;
}
