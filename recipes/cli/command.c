/* Options out of argv, --help, and the sentences with which a command ends. */
#include "recipes/cli/command.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "recipes/run/interrupt.h"
#include "recipes/config/did_you_mean.h"

/* The runtime options of a command that takes them; else no rows. */
typedef struct Shared {
    RuntimeTable table;
    int n;
} Shared;

static Shared *shared_of(Shared *s, const Usage *u)
{
    s->n = u->runtime ? RUNTIME_OPTIONS : 0;
    if (u->runtime) runtime_options(&s->table, u->runtime);
    return s;
}

static void print_help(const Usage *u)
{
    printf("r1 %s %s\n\n%s", u->name, u->arguments, u->text);
    if (u->n || u->runtime) printf("\nOptions:\n");
    Shared s;
    shared_of(&s, u);
    for (int i = 0; i < u->n; i++) option_print(&u->options[i], stdout);
    for (int i = 0; i < s.n; i++) option_print(&s.table.rows[i], stdout);
    printf("\nExample:\n");
    for (const char *line = u->examples; *line;) {
        line += strspn(line, " ");
        int n = (int)strcspn(line, "\n");
        printf("  %.*s\n", n, line);
        line += n + (line[n] == '\n');
    }
}

static int usage_error(const Usage *u, const char *text)
{
    fprintf(stderr, "r1 %s: %s; see `r1 %s --help`\n", u->name, text, u->name);
    return 2;
}

int command_usage(const Usage *u, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return usage_error(u, text);
}

int command_failed(const Status *st)
{
    fprintf(stderr, "r1: %s\n", st->text);
    return interrupted ? 130 : 1;
}

static int unknown_option(const Usage *u, const Shared *s, const char *given)
{
    char hint[128];
    Nearest near = nearest_start(given);
    for (int i = 0; i < u->n; i++) nearest_try(&near, u->options[i].name);
    for (int i = 0; i < s->n; i++) nearest_try(&near, s->table.rows[i].name);
    return command_usage(u, "unknown option %s%s", given, nearest_hint(&near, hint, sizeof hint));
}

static const Option *find(const Option *list, int n, const char *name)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(list[i].name, name)) return &list[i];
    return NULL;
}

/* The option at argv[*i], one of the command's or a runtime option. */
static int read_option(const Usage *u, int argc, char **argv, int *i)
{
    Shared s;
    Status st = {0};
    const Option *o = find(u->options, u->n, argv[*i]);
    shared_of(&s, u);
    if (!o) o = find(s.table.rows, s.n, argv[*i]);
    if (!o) return unknown_option(u, &s, argv[*i]);
    if (o->value && *i + 1 >= argc) return command_usage(u, "%s needs a value: %s", o->name, o->value);
    return option_store(o, o->value ? argv[++*i] : NULL, &st) ? COMMAND_GO : usage_error(u, st.text);
}

int command_read(const Usage *u, int argc, char **argv, const char **arguments, int *count)
{
    bool options = true; /* until "--" */
    for (int i = 0; i < u->most; i++) arguments[i] = NULL;
    *count = 0;
    for (int i = 1; i < argc; i++) {
        if (options && (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))) {
            print_help(u);
            return 0;
        }
        if (options && !strcmp(argv[i], "--")) {
            options = false;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            int code = read_option(u, argc, argv, &i);
            if (code != COMMAND_GO) return code;
        } else if (*count == u->most) {
            return command_usage(u, "one argument too many: %s", argv[i]);
        } else {
            arguments[(*count)++] = argv[i];
        }
    }
    if (*count < u->least) return command_usage(u, "it needs %s", u->arguments);
    return COMMAND_GO;
}

int command_take(int *argc, char **argv, const char *name, const char **values, int max)
{
    int n = 0, kept = 1;
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], name)) {
            argv[kept++] = argv[i];
            continue;
        }
        if (i + 1 >= *argc || n == max) return -1;
        values[n++] = argv[++i];
    }
    *argc = kept;
    return n;
}

char *command_text(int argc, char **argv)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    CHECK(f);
    fputs("r1", f);
    for (int i = 0; i < argc; i++) {
        bool plain = argv[i][0] && strspn(argv[i], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                                   "._-+=:,/@%") == strlen(argv[i]);
        fputc(' ', f);
        if (!plain) fputc('\'', f);
        for (const char *c = argv[i]; *c; c++)
            if (*c == '\'') fputs("'\\''", f);
            else fputc(*c, f);
        if (!plain) fputc('\'', f);
    }
    CHECK(!fclose(f));
    return text;
}
