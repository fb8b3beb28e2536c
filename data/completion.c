/* Completions taken apart: tags, and which language the words are in. */
#include <string.h>

#include "data/answer.h"
#include "data/task.h"
#include "data/tokenizer/unicode.h"
#include "data/utf8.h"

static const char think_open[] = "<think>", think_close[] = "</think>";
static const char answer_open[] = "<answer>", answer_close[] = "</answer>";
static const char *const roles[] = {"<user>", "<assistant>", "<bos>", "<eos>"};

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

/* The views of a completion: text, and the part behind its thought (the whole where none was closed). */
typedef struct Parts {
    const char *text, *behind;
    bool thinking; /* a thought was begun and not closed */
} Parts;

static const char *last_of(const char *text, const char *mark)
{
    const char *last = NULL;
    for (const char *s = strstr(text, mark); s != NULL; s = strstr(s + 1, mark)) last = s;
    return last;
}

static Parts take_apart(const char *text)
{
    const char *close = strstr(text, think_close);
    return (Parts){.text = text,
                   .behind = close != NULL ? close + strlen(think_close) : text,
                   .thinking = close == NULL && strstr(text, think_open) != NULL};
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

static int count_of(const char *text, size_t length, const char *tag)
{
    int n = 0;
    size_t m = strlen(tag);
    for (const char *s = text; (s = memmem(s, length - (size_t)(s - text), tag, m)) != NULL; s += m) n++;
    return n;
}

/* The answer in its tags: one pair only, and nothing but white space after it. */
static bool find_tagged(Parsed *c, const char *behind)
{
    const char *after = behind;
    if (!find_pair(behind, answer_open, answer_close, &c->answer, &c->answer_length, &after)) return false;
    c->answer_final = *skip_blanks(after) == '\0' && count_of(behind, strlen(behind), answer_open) == 1;
    return true;
}

/* As models of others end: the last \boxed{..}, else what follows the last "####" (GSM8K). */
static bool find_untagged(Parsed *c, const char *behind)
{
    c->answer_final = true;
    if (strstr(behind, answer_open) != NULL) return false;
    if (!answer_boxed(behind, strlen(behind), &c->answer, &c->answer_length)) {
        const char *mark = last_of(behind, "####");
        if (mark == NULL) return false;
        c->answer = mark + 4;
        c->answer_length = strlen(c->answer);
    }
    trim(&c->answer, &c->answer_length);
    return true;
}

/* Tags that stand where they must not: another thought, another answer behind the thought, roles. A thought may speak of the
 * answer's tags. */
static bool has_other_tags(const Parsed *c, const Parts *parts)
{
    size_t all = strlen(parts->text), behind = strlen(parts->behind);
    int n = 0;
    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++) n += count_of(parts->text, all, roles[i]);
    n += count_of(parts->text, all, think_open) - 1 + count_of(parts->text, all, think_close) - 1;
    n += count_of(parts->behind, behind, answer_open) - 1 + count_of(parts->behind, behind, answer_close) - 1;
    (void)c;
    return n != 0;
}

static Reason judge_format(const Parsed *c, const Parts *parts, bool tagged)
{
    if (!c->has_think) return REASON_NO_THINK_TAG;
    if (c->think_length == 0) return REASON_EMPTY_THINK;
    if (!tagged) return REASON_NO_ANSWER_TAG;
    if (c->answer_length == 0) return REASON_EMPTY_ANSWER;
    bool in_place = strncmp(skip_blanks(parts->text), think_open, strlen(think_open)) == 0 &&
                    strncmp(skip_blanks(parts->behind), answer_open, strlen(answer_open)) == 0;
    return in_place && c->answer_final && !has_other_tags(c, parts) ? REASON_CORRECT : REASON_EXTRA_TEXT;
}

Parsed completion_parse(const char *text)
{
    Parsed c = {.think = text, .answer = text};
    Parts parts = take_apart(text);
    const char *after;
    c.has_think = find_pair(text, think_open, think_close, &c.think, &c.think_length, &after);
    bool tagged = find_tagged(&c, parts.behind);
    c.has_answer = tagged || (!parts.thinking && find_untagged(&c, parts.behind));
    c.format_reason = judge_format(&c, &parts, tagged);
    c.format_ok = c.format_reason == REASON_CORRECT;
    return c;
}

char *parsed_answer(Parsed parsed)
{
    if (!parsed.has_answer) return NULL;
    const char *from = parsed.answer;
    size_t n = parsed.answer_length;
    while (n && (*from == ' ' || *from == '\n')) from++, n--;
    while (n && (from[n - 1] == ' ' || from[n - 1] == '\n')) n--;
    return n ? strndup(from, n) : NULL;
}

/* ---- languages ---- */

typedef enum { LETTER_NONE, LETTER_DIGIT, LETTER_LATIN, LETTER_HAN, LETTER_OTHER, LETTER_OTHER_SIGN } LetterClass;

static bool within(int32_t c, int32_t first, int32_t last)
{
    return c >= first && c <= last;
}

/* Which script a character is of. Kana and Hangul are counted one by one (LETTER_OTHER_SIGN), as Han characters are. */
static LetterClass letter_class(int32_t c)
{
    if (within(c, '0', '9')) return LETTER_DIGIT;
    if (within(c, 'a', 'z') || within(c, 'A', 'Z')) return LETTER_LATIN;
    if (c < 0xaa) return LETTER_NONE;
    if (within(c, 0xc0, 0x24f) && c != 0xd7 && c != 0xf7) return LETTER_LATIN;
    if (within(c, 0x300, 0x36f)) return LETTER_LATIN; /* accents on their own */
    if (within(c, 0x4e00, 0x9fff) || within(c, 0x3400, 0x4dbf) || c == 0x3007 || c == 0x3005) return LETTER_HAN;
    if (within(c, 0x3040, 0x30ff) || within(c, 0xac00, 0xd7af)) return LETTER_OTHER_SIGN;
    if (within(c, 0x2000, 0x2bff) || within(c, 0xff00, 0xff20)) return LETTER_NONE; /* signs; full-width digits */
    return c != 0xfffd && unicode_is_word(c) ? LETTER_OTHER : LETTER_NONE;
}

static bool is_greek(int32_t c)
{
    return within(c, 0x370, 0x3ff);
}

typedef struct WordCounts {
    int english, chinese, other, digits;
} WordCounts;

static WordCounts count_words(const char *text, size_t length)
{
    WordCounts n = {0};
    LetterClass last = LETTER_NONE;
    for (size_t i = 0; i < length;) {
        int32_t c, next = 0;
        i += utf8_next(text + i, length - i, &c);
        if (i < length) utf8_next(text + i, length - i, &next);
        LetterClass class = letter_class(c);
        bool begins = class != last;
        /* One Greek letter is a name of mathematics, no word. */
        if (class == LETTER_OTHER && begins && is_greek(c) && letter_class(next) != LETTER_OTHER) class = LETTER_NONE;
        n.english += class == LETTER_LATIN && begins;
        n.chinese += class == LETTER_HAN;
        n.other += class == LETTER_OTHER_SIGN || (class == LETTER_OTHER && begins);
        n.digits += class == LETTER_DIGIT;
        last = class;
    }
    return n;
}

static float share(int of, int total)
{
    return total == 0 ? 1.0f : (float)of / (float)total;
}

float language_share(const char *text, size_t length, Language language)
{
    WordCounts n = count_words(text, length);
    return share(language == LANGUAGE_EN ? n.english : n.chinese, n.english + n.chinese + n.other);
}

float task_language_share(const Problem *p, const char *text, size_t length)
{
    if (p->row != NULL) return language_share(text, length, p->language);
    WordCounts n = count_words(text, length);
    int english = n.english + n.digits;
    return share(p->language == LANGUAGE_EN ? english : n.chinese, english + n.chinese + n.other);
}
