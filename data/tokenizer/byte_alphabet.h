/* The alphabet in which byte-level vocabularies write bytes as characters: the 188 printable bytes of Latin-1 stand for
 * themselves, the other 68, in order, are U+0100, U+0101, ... (docs/formats.md 3.2; GPT-2). */
#ifndef DATA_BYTE_ALPHABET_H
#define DATA_BYTE_ALPHABET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "data/text.h"

int32_t byte_alphabet_char(unsigned char byte);
/* Appends text written in the alphabet as bytes. False, and nothing is appended, when a character is not of the
 * alphabet. */
bool byte_alphabet_decode(const char *text, size_t length, Text *out);
/* Appends bytes written in the alphabet. */
void byte_alphabet_encode(const char *bytes, size_t length, Text *out);

#endif
