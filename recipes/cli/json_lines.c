/* JSON lines read from a file or standard input, printed to standard output. */
#include "recipes/cli/json_lines.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_blank(const char *line, size_t n)
{
    return strspn(line, " \t\r\n") == n;
}

static bool answer_line(const char *line, size_t n, JsonLineAnswer *answer, void *context, Status *st)
{
    Json *v = json_parse(line, n, "not JSON", st);
    bool good = v && answer(context, v, st);
    json_free(v);
    return good;
}

bool json_lines_answer(JsonLineAnswer *answer, void *context, Status *st)
{
    char *line = NULL;
    size_t capacity = 0;
    long number = 0;
    bool good = true;
    ssize_t n;
    while (good && (n = getline(&line, &capacity, stdin)) >= 0) {
        number++;
        if (is_blank(line, (size_t)n)) continue;
        good = answer_line(line, (size_t)n, answer, context, st);
        if (!good) fail_prefix(st, "standard input: line %ld", number);
        fflush(stdout);
    }
    if (good && ferror(stdin)) good = fail(st, "standard input: cannot be read: %s", strerror(errno));
    free(line);
    return good;
}

void json_line_print(Json *v)
{
    char *text = json_write(v, false);
    puts(text);
    free(text);
    json_free(v);
}
