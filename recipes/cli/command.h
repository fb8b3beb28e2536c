/* What every command of the command line shares: its options as a table (parsing, checks and --help come from it), and
 * the three ways it ends. */
#ifndef RECIPES_COMMAND_H
#define RECIPES_COMMAND_H

#include "recipes/config/option.h"
#include "recipes/model/runtime_options.h"

typedef struct Usage {
    const char *name;      /* of the command */
    const char *arguments; /* "MODEL --ids FILE.jsonl [options]" */
    const char *text;      /* what it does, lines ended by '\n' */
    const char *examples;  /* lines a person can type, ended by '\n' */
    const Option *options;
    int n;
    int least, most;         /* arguments that are no options */
    RuntimeOptions *runtime; /* NULL: the command takes no runtime options */
} Usage;

enum { COMMAND_GO = -1 };

/* Reads argv[1 ..] (argv[0] is the command's name) into the options and arguments[u->most] (the rest NULL). Returns
 * COMMAND_GO, or the exit code at once: 0 after --help (printed), 2 after a usage error (one sentence on stderr). */
int command_read(const Usage *u, int argc, char **argv, const char **arguments, int *count);

/* Takes every `NAME VALUE` of an option that may be given many times out of argv. Returns their number; -1 when one lacks its
 * value or there are more than max. */
int command_take(int *argc, char **argv, const char *name, const char **values, int max);

/* The whole command as a line that a shell reads back: "r1 NAME ..."; free(). */
char *command_text(int argc, char **argv);

/* A usage error found later: the sentence and where help is. Returns 2. */
int command_usage(const Usage *u, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The sentence of a failure on stderr. Returns 1, or 130 after Ctrl-C. */
int command_failed(const Status *st);

#endif
