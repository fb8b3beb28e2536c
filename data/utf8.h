/* UTF-8: reading characters, and making any bytes valid. Invalid input is replaced the way Unicode recommends (and
 * Rust and Python do): one U+FFFD for each maximal part of an ill-formed sequence. */
#ifndef DATA_UTF8_H
#define DATA_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The character at text[0 .. length), length > 0. Returns the bytes it takes; *code is -1 when these bytes are
 * ill-formed (then the return value is the length of the part that one U+FFFD stands for). code may be NULL. */
size_t utf8_next(const char *text, size_t length, int32_t *code);
/* Bytes written to out (at most 4) for a code point that is not a surrogate. */
size_t utf8_put(int32_t code, char *out);
/* The length of the longest start of text that is well formed. */
size_t utf8_valid_length(const char *text, size_t length);
/* Bytes at the end of text that begin a character whose rest has not come yet (0 to 3). */
size_t utf8_incomplete_tail(const char *text, size_t length);
/* A NUL-terminated copy with ill-formed parts replaced by U+FFFD. out_length may be NULL. Caller frees. */
char *utf8_repair(const char *text, size_t length, size_t *out_length);

#endif
