/* Multiple choice: rows {"prompt", "options": [..], "answer": .., "verifier": "choice"}.
 *
 * Options are a list of texts ("options", "choices", "endings"), or ARC's {"text": [..], "label": [..]}. The right one
 * ("answer", "answerKey", "label") is an integer from 0, or a text: an option's label, its whole text, its letter from
 * A on, or its number from 0 in digits; what fits first. */
#ifndef DATA_CHOICE_H
#define DATA_CHOICE_H

#include "core/base/status.h"
#include "data/json.h"

enum { CHOICE_OPTIONS = 64 };

typedef struct Choice {
    char *text[CHOICE_OPTIONS];
    char *label[CHOICE_OPTIONS]; /* the row's, else letters from A on */
    int n, right;
} Choice;

/* Fails on fewer than two options, equal ones, and an answer that names none. Free with choice_free after success. */
bool choice_read(Choice *out, const Json *row, Status *st);
void choice_free(Choice *c);

/* The option that an answer names: its text, or its label, whatever stands around it ("(B)", "B."). -1: none. */
int choice_named(const Choice *c, const char *answer);

#endif
