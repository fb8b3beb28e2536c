/* Exact verifiers: strings in, a reason out; no floating point and no tolerance anywhere. Gold and answer are read by
 * data/answer.h: one reader of the usual spellings for both. An answer of more than VERIFY_MAX bytes does not parse. */
#ifndef DATA_VERIFY_H
#define DATA_VERIFY_H

#include "data/task.h"

enum { VERIFY_MAX = 4096, VERIFY_MAX_NUMBERS = 64 };

const char *verifier_name(Verifier v); /* "integer", ... */
bool verifier_find(const char *name, Verifier *out);

/* 1 for REASON_CORRECT, else 0. */
Verdict verdict_of(Reason r);

/* Gold is an integer of any size, the answer a number of that value (72.0 is 72). */
Reason verify_integer(const char *gold, const char *answer);

/* Numbers of data/answer.h, exactly (GMP): 1/2 = 2/4 = 0.5. */
Reason verify_rational(const char *gold, const char *answer);

/* The same bytes, once what stands around an answer ($..$, \boxed{..}, a final point) is taken away. */
Reason verify_exact(const char *gold, const char *answer);

/* A list of single digits without separators, in the order of gold (which is sorted). A list of other digits is not a
 * permutation; the same digits in another order are not sorted. */
Reason verify_digits(const char *gold, const char *answer);

/* An expression over + - * / and parentheses, evaluated in exact rationals, that uses each of the n numbers exactly
 * once (as often as it stands in the list) and equals target (a rational). Blanks between tokens are allowed, a
 * sign, "=" or any other text is not. Checked in the order of the Reason list: parse, reused, unknown, missing,
 * division by zero, value. */
Reason verify_expression(const char *target, const long *numbers, int n, const char *answer);

/* The same, where gold is itself an expression: its numbers must be used, its value reached. */
Reason verify_expression_like(const char *gold, const char *answer);

/* Whether a gold answer parses; numbers: NULL (expression: gold must then be an expression of two or more numbers)
 * or the list a target comes with. */
bool verify_gold(Verifier v, const char *gold, const long *numbers, int n);

/* "GMP 6.2.1". */
const char *verify_library(void);

#endif
