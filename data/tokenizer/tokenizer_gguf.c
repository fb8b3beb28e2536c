/* A Tokenizer from the metadata of a GGUF file. */
#include "data/tokenizer/tokenizer_parts.h"

#include <string.h>

#include "core/base/check.h"
#include "data/utf8.h"

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_CONTROL = 3, TYPE_USER = 4, TYPE_UNUSED = 5 };

static bool add_tokens(const char **tokens, int n, const int32_t *types, Json *vocab, Json *added, Status *st)
{
    for (int i = 0; i < n; i++) {
        int32_t type = types ? types[i] : TYPE_NORMAL;
        size_t length = strlen(tokens[i]);
        if (type == TYPE_UNUSED) continue;
        if (utf8_valid_length(tokens[i], length) < length) return fail(st, "tokenizer: token %d is not UTF-8", i);
        if (json_get(vocab, tokens[i]))
            return fail(st, "tokenizer: \"%.60s\" stands twice, again as token %d", tokens[i], i);
        json_set(vocab, tokens[i], json_new_int(i));
        bool is_added = length && (type == TYPE_CONTROL || type == TYPE_USER);
        if (is_added) json_append(added, added_token_value(i, tokens[i], type == TYPE_CONTROL));
    }
    return true;
}

static Json *nfc_value(void)
{
    Json *v = json_new_object();
    json_set(v, "type", json_new_text("NFC"));
    return v;
}

static Json *config_value(const char **tokens, int n, int bos, int eos)
{
    Json *v = json_new_object();
    json_set(v, "tokenizer_class", json_new_text("PreTrainedTokenizerFast"));
    json_set(v, "bos_token", bos >= 0 && bos < n ? json_new_text(tokens[bos]) : json_new_null());
    json_set(v, "eos_token", eos >= 0 && eos < n ? json_new_text(tokens[eos]) : json_new_null());
    json_set(v, "clean_up_tokenization_spaces", json_new_bool(false));
    return v;
}

Tokenizer *tokenizer_from_gguf(const char **tokens, int n, const int32_t *types, const char **merges, int n_merges,
                               const char *pre, int bos, int eos, Status *st)
{
    Json *split = pretokenizer_value(pre);
    if (!split) {
        fail(st, "tokenizer: tokenizer.ggml.pre \"%.40s\" is not known: only %s are", pre, pretokenizer_names);
        return NULL;
    }
    Json *vocab = json_new_object(), *added = json_new_array(), *pairs = json_new_array();
    if (!add_tokens(tokens, n, types, vocab, added, st)) {
        json_free(split);
        json_free(vocab);
        json_free(added);
        json_free(pairs);
        return NULL;
    }
    for (int i = 0; i < n_merges; i++) json_append(pairs, json_new_text(merges[i]));
    const char *family = pretokenizer_family(pre);
    Json *model = bpe_value(vocab, pairs, NULL, false, !strcmp(family, "llama-bpe"));
    Json *normalizer = strcmp(family, "qwen2") ? NULL : nfc_value();
    Json *root = tokenizer_value(added, normalizer, split, byte_level_value(false), model);
    return tokenizer_from_values(root, config_value(tokens, n, bos, eos), "tokenizer", st);
}
