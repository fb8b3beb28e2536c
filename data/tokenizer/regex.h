/* Unicode regular expressions as tokenizer.json files write them (Oniguruma's Ruby syntax), run by PCRE2, whose only
 * home this is. Where the two disagree about \s (U+180E), \w (marks, connectors) and \h (a hex digit), Oniguruma wins.
 */
#ifndef DATA_REGEX_H
#define DATA_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/status.h"

typedef struct Regex Regex;

/* literal: the pattern is plain text. */
Regex *regex_compile(const char *pattern, size_t length, bool literal, Status *st);
void regex_free(Regex *r);
/* The first match that is not empty in text[from .. length), which must be valid UTF-8. text is the whole subject for
 * what looks around. A subject that exceeds the engine's limits has no further match. */
bool regex_next(const Regex *r, const char *text, size_t length, size_t from, size_t *start, size_t *end);

/* "PCRE2 10.42 2022-12-11". */
const char *regex_library(void);

#endif
