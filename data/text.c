/* Growing text and hashes. */
#include "data/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

static void reserve(Text *t, size_t more)
{
    if (t->p != NULL && t->n + more + 1 <= t->capacity) return;
    size_t capacity = t->capacity < 32 ? 64 : t->capacity * 2;
    while (capacity < t->n + more + 1) capacity *= 2;
    t->p = realloc(t->p, capacity);
    CHECK(t->p != NULL);
    t->capacity = capacity;
}

void text_add_bytes(Text *t, const char *bytes, size_t n)
{
    reserve(t, n);
    if (n > 0) memcpy(t->p + t->n, bytes, n);
    t->n += n;
    t->p[t->n] = '\0';
}

void text_add(Text *t, const char *s)
{
    text_add_bytes(t, s, strlen(s));
}

void text_addf(Text *t, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    CHECK(n >= 0);
    reserve(t, (size_t)n);
    vsnprintf(t->p + t->n, (size_t)n + 1, format, again);
    va_end(again);
    t->n += (size_t)n;
}

char *text_take(Text *t)
{
    reserve(t, 0);
    t->p[t->n] = '\0';
    char *p = t->p;
    *t = (Text){0};
    return p;
}

char *text_copy(const char *bytes, size_t n)
{
    char *p = malloc(n + 1);
    CHECK(p != NULL);
    if (n > 0) memcpy(p, bytes, n);
    p[n] = '\0';
    return p;
}
