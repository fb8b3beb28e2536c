/* The built-in character tokenizer, as a tokenizer.json that HF tokenizers reads alike: a regular expression cuts the
 * text into words of the list and single characters, and ignore_merges looks each of them up whole. */
#include "data/tokenizer/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/tasks/words.h"
#include "data/utf8.h"

static void add_once(Json *vocab, const char *text)
{
    if (!json_get(vocab, text)) json_set(vocab, text, json_new_int((int64_t)json_count(vocab)));
}

static bool is_character(const char *text)
{
    return utf8_next(text, strlen(text), NULL) == strlen(text);
}

static Json *char_vocab(bool bytes)
{
    Json *vocab = json_new_object();
    for (int i = 0; i < SPECIAL_TOKENS; i++) add_once(vocab, special_tokens[i]);
    add_once(vocab, "\n");
    for (char c = ' '; c <= '~'; c++) add_once(vocab, (char[]){c, 0});
    for (int i = 0; i < TASK_CHARACTERS; i++) add_once(vocab, task_characters[i]);
    for (int i = 0; i < TASK_WORDS; i++) add_once(vocab, task_words[i]);
    for (unsigned byte = 0; bytes && byte < 256; byte++) {
        char name[8];
        snprintf(name, sizeof name, "<0x%02X>", byte);
        add_once(vocab, name);
    }
    return vocab;
}

static int longer_first(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    size_t n = strlen(*x), m = strlen(*y);
    return n != m ? (n < m) - (n > m) : strcmp(*x, *y);
}

/* An alternation takes its first alternative that fits, so longer words stand first. */
static Json *char_split(void)
{
    const char *words[TASK_WORDS];
    int n = 0;
    for (int i = 0; i < TASK_WORDS; i++)
        if (!is_character(task_words[i])) words[n++] = task_words[i];
    qsort(words, (size_t)n, sizeof *words, longer_first);
    Text regex = {0};
    for (int i = 0; i < n; i++) {
        CHECK(!strpbrk(words[i], "\\^$.|?*+()[]{}"));
        text_addf(&regex, "%s|", words[i]);
    }
    text_add(&regex, "[\\s\\S]");
    Json *split = split_value(regex.p);
    free(regex.p);
    return split;
}

static Json *char_decoder(void)
{
    Json *list = json_new_array();
    for (int i = 0; i < 2; i++) {
        Json *v = json_new_object();
        json_set(v, "type", json_new_text(i ? "Fuse" : "ByteFallback"));
        json_append(list, v);
    }
    return sequence_value("decoders", list);
}

static Tokenizer *new_char(bool bytes)
{
    Status st = {0};
    Json *model = bpe_value(char_vocab(bytes), json_new_array(), "<unk>", bytes, true);
    Json *root = tokenizer_value(special_tokens_value(), NULL, char_split(), char_decoder(), model);
    Tokenizer *t = tokenizer_from_values(root, own_config_value(), "the built-in character tokenizer", &st);
    CHECK(t);
    return t;
}

Tokenizer *tokenizer_new_char(void)
{
    return new_char(false);
}

Tokenizer *tokenizer_new_char_bytes(void)
{
    return new_char(true);
}
