/* Completions taken apart: tags, and which language the words are in. */
#include <string.h>

#include "data/task.h"
#include "data/utf8.h"

static const char think_open[] = "<think>", think_close[] = "</think>";
static const char answer_open[] = "<answer>", answer_close[] = "</answer>";
static const char *const tags[] = {
    think_open, think_close, answer_open, answer_close, "<user>", "<assistant>", "<bos>", "<eos>",
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static const char *skip_blanks(const char *s)
{
    while (is_blank(*s)) s++;
    return s;
}

/* Narrows a view to what stands between its blanks. */
static void trim(const char **s, size_t *n)
{
    while (*n > 0 && is_blank(**s)) {
        (*s)++;
        (*n)--;
    }
    while (*n > 0 && is_blank((*s)[*n - 1])) (*n)--;
}

/* What stands between open and the next close, trimmed; the position behind close in *after. */
static bool find_pair(const char *text, const char *open, const char *close, const char **inside, size_t *length,
                      const char **after)
{
    const char *from = strstr(text, open);
    if (from == NULL) return false;
    from += strlen(open);
    const char *to = strstr(from, close);
    if (to == NULL) return false;
    *inside = from;
    *length = (size_t)(to - from);
    *after = to + strlen(close);
    trim(inside, length);
    return true;
}

static int count_tags(const char *text)
{
    int n = 0;
    for (const char *s = strchr(text, '<'); s != NULL; s = strchr(s + 1, '<')) {
        for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) n += strncmp(s, tags[i], strlen(tags[i])) == 0;
    }
    return n;
}

static Reason judge_format(const Parsed *c, const char *text, const char *after_think)
{
    if (!c->has_think) return REASON_NO_THINK_TAG;
    if (c->think_length == 0) return REASON_EMPTY_THINK;
    if (!c->has_answer) return REASON_NO_ANSWER_TAG;
    if (c->answer_length == 0) return REASON_EMPTY_ANSWER;
    bool in_place = strncmp(skip_blanks(text), think_open, strlen(think_open)) == 0 &&
                    strncmp(skip_blanks(after_think), answer_open, strlen(answer_open)) == 0;
    return in_place && c->answer_final && count_tags(text) == 4 ? REASON_CORRECT : REASON_EXTRA_TEXT;
}

Parsed completion_parse(const char *text)
{
    Parsed c = {.think = text, .answer = text};
    const char *after_think = text, *after = text;
    c.has_think = find_pair(text, think_open, think_close, &c.think, &c.think_length, &after_think);
    c.has_answer = find_pair(text, answer_open, answer_close, &c.answer, &c.answer_length, &after);
    if (c.has_answer) {
        const char *first = strstr(text, answer_open);
        c.answer_final = *skip_blanks(after) == '\0' && strstr(first + 1, answer_open) == NULL;
    }
    c.format_reason = judge_format(&c, text, after_think);
    c.format_ok = c.format_reason == REASON_CORRECT;
    return c;
}

static bool is_letter(int32_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_han(int32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || c == 0x3007;
}

float language_share(const char *text, size_t length, Language language)
{
    int counts[LANGUAGE_COUNT] = {0};
    bool in_word = false;
    for (size_t i = 0; i < length;) {
        int32_t c;
        i += utf8_next(text + i, length - i, &c);
        bool letter = is_letter(c);
        counts[LANGUAGE_EN] += (letter && !in_word) || (c >= '0' && c <= '9');
        counts[LANGUAGE_ZH] += is_han(c);
        in_word = letter;
    }
    int total = counts[LANGUAGE_EN] + counts[LANGUAGE_ZH];
    return total == 0 ? 1.0f : (float)counts[language] / (float)total;
}
