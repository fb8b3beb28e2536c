/* Options out of argv, --help, and the sentences with which a command ends. */
#include "recipes/cli/command.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recipes/run/interrupt.h"
#include "recipes/config/did_you_mean.h"

static void print_option(const Option *o)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s", o->name, o->value ? " " : "", o->value ? o->value : "");
    printf("  %-24s", left);
    if (strlen(left) > 24) printf("\n%26s", "");
    for (const char *p = o->help; *p; p++) {
        if (*p == '\n') printf("\n%26s", "");
        else putchar(*p);
    }
    putchar('\n');
}

static void print_help(const Usage *u)
{
    printf("r1 %s %s\n\n%s", u->name, u->arguments, u->text);
    if (u->n || u->runtime) printf("\nOptions:\n");
    for (int i = 0; i < u->n; i++) print_option(&u->options[i]);
    if (u->runtime) fputs(runtime_help, stdout);
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

static int unknown_option(const Usage *u, const char *given)
{
    static const char *const shared[] = {"--threads", "--chunk",    "--matmul",
                                         "--memory",  "--skip-bad", "--checkpoint-seconds"};
    char hint[128];
    Nearest near = nearest_start(given);
    for (int i = 0; i < u->n; i++) nearest_try(&near, u->options[i].name);
    for (size_t i = 0; u->runtime && i < sizeof shared / sizeof *shared; i++) nearest_try(&near, shared[i]);
    return command_usage(u, "unknown option %s%s", given, nearest_hint(&near, hint, sizeof hint));
}

static int number_error(const Usage *u, const Option *o, const char *text)
{
    return command_usage(u, "%s %s: expected a %snumber from %.10g to %.10g", o->name, text,
                         o->type == OPTION_INT ? "whole " : "", o->low, o->high);
}

/* Stores the option's value; `text` is NULL for a flag. */
static int store(const Usage *u, const Option *o, const char *text)
{
    char *end;
    if (o->type == OPTION_FLAG) *(bool *)o->out = true;
    if (o->type == OPTION_TEXT) *(const char **)o->out = text;
    if (o->type == OPTION_INT) {
        long v = strtol(text, &end, 10);
        if (*end || end == text || v < o->low || v > o->high || v > INT_MAX) return number_error(u, o, text);
        *(int *)o->out = (int)v;
    }
    if (o->type == OPTION_REAL) {
        double v = strtod(text, &end);
        if (*end || end == text || !(v >= o->low && v <= o->high)) return number_error(u, o, text);
        *(double *)o->out = v;
    }
    return COMMAND_GO;
}

static const Option *find(const Usage *u, const char *name)
{
    for (int i = 0; i < u->n; i++)
        if (!strcmp(u->options[i].name, name)) return &u->options[i];
    return NULL;
}

/* The option at argv[*i], one of the command's or a runtime option. */
static int read_option(const Usage *u, int argc, char **argv, int *i)
{
    Status st = {0};
    const Option *o = find(u, argv[*i]);
    if (o && o->type == OPTION_FLAG) return store(u, o, NULL);
    if (o && *i + 1 >= argc) return command_usage(u, "%s needs a value: %s", o->name, o->value);
    if (o) return store(u, o, argv[++*i]);
    int taken = u->runtime ? runtime_option(u->runtime, argc, argv, i, &st) : 0;
    if (taken < 0) return usage_error(u, st.text);
    return taken ? COMMAND_GO : unknown_option(u, argv[*i]);
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
