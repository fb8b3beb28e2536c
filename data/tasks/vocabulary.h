/* Words as the general families read and write them. */
#ifndef DATA_TASKS_VOCABULARY_H
#define DATA_TASKS_VOCABULARY_H

#include <stddef.h>

#include "data/task.h"

typedef enum {
    WORD_OTHER,
    WORD_COMMAND,
    WORD_PHRASE,
    WORD_VERB,
    WORD_PERSON,
    WORD_NOUN,
    WORD_FORBIDDEN,
    WORD_CLASSES
} WordClass;

/* One word of a text. index: its place in its list of words.h (the same for both languages); -1 for WORD_OTHER. */
typedef struct Word {
    WordClass class;
    int index;
    Language language;
} Word;

int word_count(WordClass class);
const char *word_text(WordClass class, int index, Language language);
/* The word of `language` for an English word of words.h (our own bug when there is none), as text and as a word. */
const char *word_for(const char *english, Language language);
Word word_of(const char *english, Language language);
/* Whether w is that English word of words.h, in either language. */
bool word_is(Word w, const char *english);

/* Takes a text apart: runs of Latin letters, Chinese words (longest first), and each other character that is not a
 * blank as WORD_OTHER. Writes at most max words, returns how many there are. */
int words_read(const char *text, Word *out, int max);

/* The text of n words (none WORD_OTHER): a blank on each side of an English word, none between Chinese ones. Caller
 * frees. */
char *words_write(const Word *words, int n);

#endif
