/* The programs of the task family `code`: one value that begins as the input and is changed, modulo 100, by
 *     +n -n *n     add, subtract, multiply by n: a number of one or two digits, or @ for the input
 *     n[ .. ]      the part in brackets n times
 * so that 3[*2+1] sends 2 to 23, and +@ doubles. Blanks between them are allowed. */
#ifndef DATA_PROGRAM_H
#define DATA_PROGRAM_H

typedef enum { PROGRAM_RAN, PROGRAM_UNREADABLE, PROGRAM_TOO_LONG } ProgramStatus;

enum { PROGRAM_MODULUS = 100, PROGRAM_TEXT = 64, PROGRAM_STEPS = 1000, PROGRAM_DEPTH = 8 };

/* Runs a program on an input of 0 .. 99. A text of more than PROGRAM_TEXT bytes, an empty one, and brackets deeper than
 * PROGRAM_DEPTH are unreadable, whatever the input is; more than PROGRAM_STEPS additions, multiplications and rounds are
 * too long. */
ProgramStatus program_run(const char *text, int input, int *output);

#endif
