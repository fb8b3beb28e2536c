/* tokenizer.ggml.* of a written GGUF file. */
#include <string.h>

#include "checkpoints/gguf/ggml_type.h"
#include "checkpoints/gguf/gguf_write.h"
#include "data/json.h"

static void put_tokens(GgufKeys *k, const GgufVocabulary *v)
{
    gguf_key_array(k, "tokenizer.ggml.tokens", VALUE_STRING, (uint64_t)v->n);
    for (int i = 0; i < v->n; i++) {
        char padding[32];
        snprintf(padding, sizeof padding, "[PAD%d]", i);
        const char *text = v->tokens[i] ? v->tokens[i] : padding;
        gguf_put_string(k->out, text, strlen(text));
    }
    gguf_key_array(k, "tokenizer.ggml.token_type", VALUE_I32, (uint64_t)v->n);
    for (int i = 0; i < v->n; i++) gguf_put_u64(k->out, (uint64_t)(v->tokens[i] ? v->types[i] : GGUF_UNUSED), 4);
    if (v->scores) {
        gguf_key_array(k, "tokenizer.ggml.scores", VALUE_F32, (uint64_t)v->n);
        fwrite(v->scores, sizeof *v->scores, (size_t)v->n, k->out);
    }
    gguf_key_array(k, "tokenizer.ggml.merges", VALUE_STRING, (uint64_t)v->n_merges);
    for (int i = 0; i < v->n_merges; i++) gguf_put_string(k->out, v->merges[i], strlen(v->merges[i]));
}

static void put_flags(GgufKeys *k, const ModelConfig *c, const Tokenizer *t, const GgufVocabulary *v)
{
    int bos = tokenizer_bos(t) >= 0 ? tokenizer_bos(t) : c->bos, eos = c->eos >= 0 ? c->eos : tokenizer_eos(t);
    if (bos >= 0) gguf_key_u32(k, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
    if (eos >= 0) gguf_key_u32(k, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
    if (v->unk >= 0) gguf_key_u32(k, "tokenizer.ggml.unknown_token_id", (uint32_t)v->unk);
    if (v->sentencepiece) gguf_key_bool(k, "tokenizer.ggml.add_space_prefix", v->space_prefix);
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

bool gguf_put_tokenizer(GgufKeys *k, const ModelConfig *c, const Tokenizer *t, Status *st)
{
    GgufVocabulary v;
    Status why = {0};
    if (t && tokenizer_vocab(t) > c->V)
        return fail(st, "the tokenizer has id %d, but the model's vocab_size is %d: they do not belong together",
                    tokenizer_vocab(t) - 1, c->V);
    if (!t || !tokenizer_to_gguf(t, c->V, &v, &why)) {
        gguf_key_text(k, "tokenizer.ggml.model", "none");
        return true;
    }
    gguf_key_text(k, "tokenizer.ggml.model", v.sentencepiece ? "llama" : "gpt2");
    gguf_key_text(k, "tokenizer.ggml.pre", v.sentencepiece ? "default" : v.pre);
    put_tokens(k, &v);
    put_flags(k, c, t, &v);
    gguf_vocabulary_free(&v);
    return true;
}
