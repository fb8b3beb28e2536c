/* The first fault, in one sentence. */
#include "core/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 16384 }; /* bytes of a text before it is cut: two paths of 4,096 and what is said of them */

/* Into a text of `size`: one that is too long loses its middle, since the cause stands at the end. */
static void put(char *text, size_t size, const char *from)
{
    static const char gap[] = " .. ";
    size_t n = strlen(from), head = size / 2 - sizeof gap, tail = size - 1 - head - (sizeof gap - 1);
    if (n < size) {
        memcpy(text, from, n + 1);
        return;
    }
    while (head > 0 && ((unsigned char)from[head] & 0xc0) == 0x80) head--; /* whole characters */
    while (tail > 0 && ((unsigned char)from[n - tail] & 0xc0) == 0x80) tail--;
    memcpy(text, from, head);
    memcpy(text + head, gap, sizeof gap - 1);
    memcpy(text + head + sizeof gap - 1, from + n - tail, tail + 1);
}

bool fail(Status *st, const char *format, ...)
{
    if (!st || st->failed) return false;
    va_list args;
    va_start(args, format);
    char whole[LONGEST];
    vsnprintf(whole, sizeof whole, format, args);
    va_end(args);
    put(st->text, sizeof st->text, whole);
    st->failed = true;
    return false;
}

bool fail_prefix(Status *st, const char *format, ...)
{
    if (!st || !st->failed) return false;
    char whole[LONGEST + 2 + sizeof st->text];
    va_list args;
    va_start(args, format);
    vsnprintf(whole, LONGEST, format, args);
    va_end(args);
    size_t n = strlen(whole);
    snprintf(whole + n, sizeof whole - n, ": %s", st->text);
    put(st->text, sizeof st->text, whole);
    return false;
}

void status_clear(Status *st)
{
    st->failed = false;
    st->text[0] = 0;
}
