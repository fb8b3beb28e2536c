/* Growing text, and the hash that keys problems, splits and cached replies. */
#ifndef DATA_TEXT_H
#define DATA_TEXT_H

#include <stddef.h>
#include <stdint.h>

/* Zero-initialise. p is NUL-terminated once something was added; whoever holds the struct frees p. */
typedef struct Text {
    char *p;
    size_t n, capacity;
} Text;

void text_add_bytes(Text *t, const char *bytes, size_t n);
void text_add(Text *t, const char *s);
void text_addf(Text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Gives the string away (never NULL) and empties the struct. */
char *text_take(Text *t);
/* A malloc'ed copy of n bytes, NUL-terminated. */
char *text_copy(const char *bytes, size_t n);

#endif
