/* Unicode: normal forms and two character classes, by utf8proc, whose only home this is. */
#ifndef DATA_UNICODE_H
#define DATA_UNICODE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum { UNICODE_AS_IS, UNICODE_NFC, UNICODE_NFD, UNICODE_NFKC, UNICODE_NFKD } UnicodeForm;

/* The normal form of valid UTF-8, as a new string; NULL when the text is seen to be in that form already, which is
 * cheap for nearly all text. *out_length is set when a string is returned. Caller frees. */
char *unicode_normalize(UnicodeForm form, const char *text, size_t length, size_t *out_length);

bool unicode_is_space(int32_t code); /* White_Space */
bool unicode_is_word(int32_t code);  /* \w of UTS 18: alphabetic, marks, decimal numbers, connectors, joiners */

/* "utf8proc 2.8.0 (Unicode 15.0.0)". */
const char *unicode_library(void);

#endif
