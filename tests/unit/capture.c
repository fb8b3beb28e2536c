#include "tests/unit/capture.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/unit/scratch.h"
#include "tests/unit/unit.h"

enum { WORDS = 64 };

/* Points a descriptor at a new file; returns a copy of where it went before. */
static int redirect(int descriptor, const char *name)
{
    int before = dup(descriptor), file = open(scratch_path(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(before >= 0 && file >= 0);
    dup2(file, descriptor);
    close(file);
    return before;
}

static void restore(int descriptor, int before)
{
    dup2(before, descriptor);
    close(before);
}

static char *text_of(const char *name)
{
    size_t n;
    return scratch_read(scratch_path(name), &n);
}

Captured capture(int (*command)(int, char **), const char *format, ...)
{
    char line[4096], *words[WORDS + 1];
    int count = 0;
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    for (char *word = strtok(line, " "); word && count < WORDS; word = strtok(NULL, " ")) words[count++] = word;
    words[count] = NULL;
    fflush(NULL);
    int out = redirect(STDOUT_FILENO, "stdout"), err = redirect(STDERR_FILENO, "stderr");
    Captured c = {.code = command(count, words)};
    fflush(NULL);
    restore(STDOUT_FILENO, out);
    restore(STDERR_FILENO, err);
    c.out = text_of("stdout");
    c.err = text_of("stderr");
    return c;
}

void captured_free(Captured *c)
{
    free(c->out);
    free(c->err);
    *c = (Captured){0};
}
