/* The pre-tokenizers of the model families by the names that GGUF files give them (docs/formats.md 3.4). */
#include "data/tokenizer/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

#include "data/utf8.h"

/* What DeepSeek-V2 calls a letter. Written as numbers because editors that compose characters would change the class.
 */
static const int32_t deepseek_letters[][2] = {
    {0x41, 0x5A},       {0x61, 0x7A},       {0xB5, 0xB5},       {0xC0, 0xD6},       {0xD8, 0xF6},
    {0xF8, 0x1BA},      {0x1BC, 0x1BF},     {0x1C4, 0x293},     {0x295, 0x2AF},     {0x370, 0x373},
    {0x376, 0x376},     {0x377, 0x377},     {0x37B, 0x37D},     {0x37F, 0x37F},     {0x386, 0x386},
    {0x388, 0x38A},     {0x38C, 0x38C},     {0x38E, 0x3A1},     {0x3A3, 0x3F5},     {0x3F7, 0x481},
    {0x48A, 0x52F},     {0x531, 0x556},     {0x10A0, 0x10C5},   {0x13A0, 0x13F5},   {0x13F8, 0x13FD},
    {0x1C90, 0x1CBA},   {0x1CBD, 0x1CBF},   {0x1D00, 0x1D2B},   {0x1D6B, 0x1D77},   {0x1D79, 0x1D9A},
    {0x1E00, 0x1F15},   {0x1F18, 0x1F1D},   {0x1F20, 0x1F45},   {0x1F48, 0x1F4D},   {0x1F50, 0x1F57},
    {0x1F59, 0x1F59},   {0x1F5B, 0x1F5B},   {0x1F5D, 0x1F5D},   {0x1F5F, 0x1F7D},   {0x1F80, 0x1FB4},
    {0x1FB6, 0x1FBC},   {0x1FBE, 0x1FBE},   {0x1FC2, 0x1FC4},   {0x1FC6, 0x1FCC},   {0x1FD0, 0x1FD3},
    {0x1FD6, 0x1FDB},   {0x1FE0, 0x1FEC},   {0x1FF2, 0x1FF4},   {0x1FF6, 0x1FFC},   {0x2102, 0x2102},
    {0x2107, 0x2107},   {0x210A, 0x2113},   {0x2115, 0x2115},   {0x2119, 0x211D},   {0x2124, 0x2124},
    {0x2126, 0x2126},   {0x2128, 0x2128},   {0x212A, 0x212D},   {0x212F, 0x2134},   {0x2139, 0x2139},
    {0x213C, 0x213F},   {0x2145, 0x2149},   {0x214E, 0x214E},   {0x2183, 0x2183},   {0x2184, 0x2184},
    {0x2C00, 0x2C7B},   {0x2C7E, 0x2CE4},   {0x2CEB, 0x2CEE},   {0x2CF2, 0x2CF2},   {0x2CF3, 0x2CF3},
    {0xA640, 0xA66D},   {0xA680, 0xA69B},   {0xA722, 0xA76F},   {0xA771, 0xA787},   {0xA78B, 0xA78E},
    {0xAB70, 0xABBF},   {0xFB00, 0xFB06},   {0xFB13, 0xFB17},   {0xFF21, 0xFF3A},   {0xFF41, 0xFF5A},
    {0x10400, 0x1044F}, {0x104B0, 0x104D3}, {0x104D8, 0x104FB}, {0x10C80, 0x10CB2}, {0x10CC0, 0x10CF2},
    {0x118A0, 0x118DF}, {0x1E900, 0x1E943},
};

static const char CONTRACTIONS_AND_WORDS[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|";
static const char SYMBOLS_AND_SPACES[] = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static Json *words_split(const char *numbers)
{
    Text regex = {0};
    text_addf(&regex, "%s%s%s", CONTRACTIONS_AND_WORDS, numbers, SYMBOLS_AND_SPACES);
    Json *split = split_value(regex.p);
    free(regex.p);
    return split;
}

static Json *digits_value(void)
{
    Json *v = json_new_object();
    json_set(v, "type", json_new_text("Digits"));
    json_set(v, "individual_digits", json_new_bool(true));
    return v;
}

static void add_char(Text *out, int32_t code)
{
    char utf8[4];
    text_add_bytes(out, utf8, utf8_put(code, utf8));
}

static Json *letters_split(void)
{
    Text regex = {0};
    text_add(&regex, "\\s?[");
    for (size_t i = 0; i < sizeof deepseek_letters / sizeof deepseek_letters[0]; i++) {
        add_char(&regex, deepseek_letters[i][0]);
        if (deepseek_letters[i][1] == deepseek_letters[i][0]) continue;
        text_add(&regex, "-");
        add_char(&regex, deepseek_letters[i][1]);
    }
    text_add(&regex, "]+");
    Json *split = split_value(regex.p);
    free(regex.p);
    return split;
}

static void add_deepseek_v2(Json *list)
{
    json_append(list, split_value("[\r\n]"));
    json_append(list, letters_split());
    json_append(list, split_value("\\s?[!-/:-~！-／：-～‘-‟　-。]+"));
    json_append(list, split_value("\\s+$"));
    json_append(list, split_value("[一-龥\xE0\xA0\x80-一가-\xED\x9F\xBF]+"));
    json_append(list, digits_value());
}

static void add_deepseek_coder(Json *list)
{
    json_append(list, split_value("[\r\n]"));
    json_append(list, split_value("\\s?\\p{L}+"));
    json_append(list, split_value("\\s?\\p{P}+"));
    json_append(list, split_value("[一-龥\xE0\xA0\x80-一가-\xED\x9F\xBF]+"));
    json_append(list, digits_value());
}

static void add_deepseek_v3(Json *list)
{
    json_append(list, split_value("\\p{N}{1,3}"));
    json_append(list, split_value("[一-龥぀-ゟ゠-ヿ]+"));
    json_append(list, split_value("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"
                                  "[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
                                  " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"));
}

/* Names with the same split, as llama.cpp has them. */
static const char *const same_split[][2] = {
    {"deepseek-r1-qwen", "qwen2"},
    {"kormo", "qwen2"},
    {"megrez", "qwen2"},
    {"f2llmv2", "qwen2"},
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"},
    {"falcon-h1", "llama-bpe"},
    {"pixtral", "llama-bpe"},
    {"midm-2.0", "llama-bpe"},
    {"lfm2", "llama-bpe"},
    {"starcoder", "smollm"},
    {"refact", "smollm"},
    {"command-r", "smollm"},
    {"codeshell", "smollm"},
    {"exaone", "smollm"},
    {"minerva-7b", "smollm"},
    {"mellum2", "smollm"},
    {"phi-2", "gpt-2"},
    {"mpt", "gpt-2"},
    {"olmo", "gpt-2"},
    {"jais", "gpt-2"},
    {"exaone4", "gpt-2"},
    {"gigachat", "gpt-2"},
    {"a.x-4.0", "gpt-2"},
    {"mellum", "gpt-2"},
    {"trillion", "gpt-2"},
    {"granite-docling", "gpt-2"},
};

const char *pretokenizer_family(const char *name)
{
    for (size_t i = 0; i < sizeof same_split / sizeof *same_split; i++)
        if (!strcmp(name, same_split[i][0])) return same_split[i][1];
    return name;
}

const char *const pretokenizer_names = "deepseek-llm, deepseek-coder, deepseek-v3, qwen2, smollm, llama-bpe, gpt-2 and "
                                       "names with the same split as one of them";

Json *pretokenizer_value(const char *name)
{
    Json *list = json_new_array();
    bool gpt2 = false;
    name = pretokenizer_family(name);
    if (!strcmp(name, "deepseek-llm")) add_deepseek_v2(list);
    else if (!strcmp(name, "deepseek-coder")) add_deepseek_coder(list);
    else if (!strcmp(name, "deepseek-v3")) add_deepseek_v3(list);
    else if (!strcmp(name, "qwen2")) json_append(list, words_split("\\p{N}"));
    else if (!strcmp(name, "llama-bpe")) json_append(list, words_split("\\p{N}{1,3}"));
    else if (!strcmp(name, "smollm") || !strcmp(name, "gpt-2")) gpt2 = true;
    else {
        json_free(list);
        return NULL;
    }
    if (!strcmp(name, "smollm")) json_append(list, digits_value());
    json_append(list, byte_level_value(gpt2));
    return sequence_value("pretokenizers", list);
}
