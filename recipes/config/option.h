/* An option of a command line as a row of a table: parsing, checks and --help are loops over such rows. */
#ifndef RECIPES_OPTION_H
#define RECIPES_OPTION_H

#include <stdbool.h>
#include <stdio.h>

#include "core/base/status.h"

typedef enum { OPTION_FLAG, OPTION_INT, OPTION_REAL, OPTION_TEXT, OPTION_CHOICE } OptionType;

/* Where the value of an OPTION_CHOICE goes. */
typedef struct OptionChoice {
    int *out;                   /* an enum; its value before is the default */
    const char *(*name)(int k); /* of value k; NULL after the last */
    bool *given;                /* becomes true when the option is there; NULL: nobody asks */
} OptionChoice;

typedef struct Option {
    const char *name;  /* "--ids" */
    const char *value; /* how help calls its value: "FILE"; NULL for a flag */
    OptionType type;
    void *out;        /* bool, int, double, const char * or OptionChoice; its value before is the default */
    double low, high; /* numbers: inclusive */
    const char *help; /* one or more lines, '\n' between them */
} Option;

/* Stores the value (NULL for a flag). Fails with a sentence that says what is expected, and the nearest choice. */
bool option_store(const Option *o, const char *text, Status *st);

/* Its lines in --help. */
void option_print(const Option *o, FILE *out);

#endif
