/* The first fault, in one sentence. */
#include "core/base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

bool fail(Status *st, const char *format, ...)
{
    if (!st || st->failed) return false;
    va_list args;
    va_start(args, format);
    vsnprintf(st->text, sizeof st->text, format, args);
    va_end(args);
    st->failed = true;
    return false;
}

bool fail_prefix(Status *st, const char *format, ...)
{
    if (!st || !st->failed) return false;
    char old[sizeof st->text], prefix[sizeof st->text];
    memcpy(old, st->text, sizeof old);
    va_list args;
    va_start(args, format);
    vsnprintf(prefix, sizeof prefix, format, args);
    va_end(args);
    size_t used = strlen(prefix) < sizeof st->text - 3 ? strlen(prefix) : sizeof st->text - 3;
    memcpy(st->text, prefix, used);
    snprintf(st->text + used, sizeof st->text - used, ": %s", old);
    return false;
}

void status_clear(Status *st)
{
    st->failed = false;
    st->text[0] = 0;
}
