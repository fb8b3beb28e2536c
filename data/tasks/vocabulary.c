/* The words and characters of the built-in tasks' texts. */
#include "data/tasks/vocabulary.h"

#include <string.h>

#include "core/base/check.h"
#include "data/tasks/words.h"
#include "data/text.h"
#include "data/utf8.h"

#define PAIR(english, chinese) {english, chinese},
#define PAIRS(name, list)      static const char *const name[][LANGUAGE_COUNT] = {list(PAIR)}
PAIRS(commands, TASK_COMMANDS);
PAIRS(phrases, TASK_PHRASES);
PAIRS(verbs, TASK_VERBS);
PAIRS(people, TASK_PEOPLE);
PAIRS(nouns, TASK_NOUNS);
PAIRS(forbidden, TASK_FORBIDDEN);

#define LIST(class, name) [class] = {name, sizeof name / sizeof name[0]}
static const struct {
    const char *const (*pairs)[LANGUAGE_COUNT];
    int n;
} lists[WORD_CLASSES] = {
    LIST(WORD_COMMAND, commands), LIST(WORD_PHRASE, phrases), LIST(WORD_VERB, verbs),
    LIST(WORD_PERSON, people),    LIST(WORD_NOUN, nouns),     LIST(WORD_FORBIDDEN, forbidden),
};

int word_count(WordClass class)
{
    return lists[class].n;
}

const char *word_text(WordClass class, int index, Language language)
{
    CHECK(index >= 0 && index < lists[class].n);
    return lists[class].pairs[index][language];
}

Word word_of(const char *english, Language language)
{
    for (int c = WORD_COMMAND; c < WORD_CLASSES; c++) {
        for (int i = 0; i < lists[c].n; i++) {
            if (strcmp(lists[c].pairs[i][LANGUAGE_EN], english) == 0) return (Word){(WordClass)c, i, language};
        }
    }
    CHECK(!"an English word of words.h");
    return (Word){0};
}

const char *word_for(const char *english, Language language)
{
    Word w = word_of(english, language);
    return word_text(w.class, w.index, language);
}

bool word_is(Word w, const char *english)
{
    return w.class != WORD_OTHER && strcmp(lists[w.class].pairs[w.index][LANGUAGE_EN], english) == 0;
}

/* The longest word of `language` at the start of text; English words must be the whole run of `length` bytes. */
static size_t find_word(const char *text, size_t length, Language language, Word *out)
{
    size_t best = 0;
    for (int c = WORD_COMMAND; c < WORD_CLASSES; c++) {
        for (int i = 0; i < lists[c].n; i++) {
            const char *word = lists[c].pairs[i][language];
            if (word[0] != text[0] || word[length > 1] != text[length > 1]) continue;
            size_t n = strlen(word);
            bool fits = language == LANGUAGE_EN ? n == length : n <= length;
            if (fits && n > best && memcmp(word, text, n) == 0) {
                best = n;
                *out = (Word){(WordClass)c, i, language};
            }
        }
    }
    return best;
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

int words_read(const char *text, Word *out, int max)
{
    int n = 0;
    size_t left = strlen(text);
    while (left > 0) {
        if (strchr(" \t\r\n", *text) != NULL) {
            text++;
            left--;
            continue;
        }
        Word w = {WORD_OTHER, -1, LANGUAGE_EN};
        size_t length = 0;
        if (is_letter(*text)) {
            while (is_letter(text[length])) length++;
            find_word(text, length, LANGUAGE_EN, &w);
        } else {
            length = find_word(text, left, LANGUAGE_ZH, &w);
            if (length == 0) length = utf8_next(text, left, NULL);
        }
        if (n < max) out[n] = w;
        n++;
        text += length;
        left -= length;
    }
    return n;
}

char *words_write(const Word *words, int n)
{
    Text text = {0};
    for (int i = 0; i < n; i++) {
        if (i > 0 && (words[i].language == LANGUAGE_EN || words[i - 1].language == LANGUAGE_EN)) text_add(&text, " ");
        text_add(&text, word_text(words[i].class, words[i].index, words[i].language));
    }
    return text_take(&text);
}
