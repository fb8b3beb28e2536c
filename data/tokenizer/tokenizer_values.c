/* Values of a tokenizer.json, for the makers of tokenizers. */
#include "data/tokenizer/tokenizer_parts.h"

#include "core/base/check.h"

const char *const special_tokens[SPECIAL_TOKENS] = {"<unk>",   "<bos>",    "<eos>",    "<user>",   "<assistant>",
                                                    "<think>", "</think>", "<answer>", "</answer>"};
enum { MARKERS = 5 }; /* how many of them, from the first, are special */

static Json *typed(const char *type)
{
    Json *v = json_new_object();
    json_set(v, "type", json_new_text(type));
    return v;
}

Json *added_token_value(int32_t id, const char *content, bool special)
{
    Json *v = json_new_object();
    json_set(v, "id", json_new_int(id));
    json_set(v, "content", json_new_text(content));
    json_set(v, "single_word", json_new_bool(false));
    json_set(v, "lstrip", json_new_bool(false));
    json_set(v, "rstrip", json_new_bool(false));
    json_set(v, "normalized", json_new_bool(false));
    json_set(v, "special", json_new_bool(special));
    return v;
}

Json *split_value(const char *regex)
{
    Json *v = typed("Split"), *pattern = json_new_object();
    json_set(pattern, "Regex", json_new_text(regex));
    json_set(v, "pattern", pattern);
    json_set(v, "behavior", json_new_text("Isolated"));
    json_set(v, "invert", json_new_bool(false));
    return v;
}

Json *byte_level_value(bool use_regex)
{
    Json *v = typed("ByteLevel");
    json_set(v, "add_prefix_space", json_new_bool(false));
    json_set(v, "trim_offsets", json_new_bool(false));
    json_set(v, "use_regex", json_new_bool(use_regex));
    return v;
}

Json *sequence_value(const char *member, Json *list)
{
    Json *v = typed("Sequence");
    json_set(v, member, list);
    return v;
}

Json *bpe_value(Json *vocab, Json *merges, const char *unk, bool byte_fallback, bool ignore_merges)
{
    Json *v = typed("BPE");
    json_set(v, "dropout", json_new_null());
    json_set(v, "unk_token", unk ? json_new_text(unk) : json_new_null());
    json_set(v, "continuing_subword_prefix", json_new_null());
    json_set(v, "end_of_word_suffix", json_new_null());
    json_set(v, "fuse_unk", json_new_bool(false));
    json_set(v, "byte_fallback", json_new_bool(byte_fallback));
    json_set(v, "ignore_merges", json_new_bool(ignore_merges));
    json_set(v, "vocab", vocab);
    json_set(v, "merges", merges);
    return v;
}

Json *tokenizer_value(Json *added, Json *normalizer, Json *pre_tokenizer, Json *decoder, Json *model)
{
    Json *v = json_new_object();
    json_set(v, "version", json_new_text("1.0"));
    json_set(v, "truncation", json_new_null());
    json_set(v, "padding", json_new_null());
    json_set(v, "added_tokens", added);
    json_set(v, "normalizer", normalizer ? normalizer : json_new_null());
    json_set(v, "pre_tokenizer", pre_tokenizer);
    json_set(v, "post_processor", json_new_null());
    json_set(v, "decoder", decoder);
    json_set(v, "model", model);
    return v;
}

Json *special_tokens_value(void)
{
    Json *list = json_new_array();
    for (int i = 0; i < SPECIAL_TOKENS; i++) json_append(list, added_token_value(i, special_tokens[i], i < MARKERS));
    return list;
}

Json *own_config_value(void)
{
    Json *v = json_new_object();
    json_set(v, "tokenizer_class", json_new_text("PreTrainedTokenizerFast"));
    json_set(v, "add_bos_token", json_new_bool(false));
    json_set(v, "add_eos_token", json_new_bool(false));
    json_set(v, "bos_token", json_new_text("<bos>"));
    json_set(v, "eos_token", json_new_text("<eos>"));
    json_set(v, "pad_token", json_new_text("<eos>"));
    json_set(v, "unk_token", json_new_text("<unk>"));
    json_set(v, "clean_up_tokenization_spaces", json_new_bool(false));
    json_set(v, "chat_template",
             json_new_text("{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
                           "{{ '<assistant>' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}"
                           "{{ message['content'] }}{% else %}{{ '<user>' + message['content'] }}{% endif %}"
                           "{% endfor %}"
                           "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"));
    return v;
}
