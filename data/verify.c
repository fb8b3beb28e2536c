/* Exact verifiers over the one reader of answers. */
#include "data/verify.h"

#include <gmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/answer.h"

static const char *const verifier_names[VERIFIER_COUNT] = {"integer",    "rational", "exact",
                                                           "expression", "tests",    "choice"};

const char *verifier_name(Verifier v)
{
    return verifier_names[v];
}

bool verifier_find(const char *name, Verifier *out)
{
    for (int v = 0; v < VERIFIER_COUNT; v++) {
        if (strcmp(name, verifier_names[v]) == 0) {
            *out = (Verifier)v;
            return true;
        }
    }
    return false;
}

Verdict verdict_of(Reason r)
{
    return (Verdict){r == REASON_CORRECT ? 1.0f : 0.0f, r, 0.0f};
}

static size_t digits_at(const char *s)
{
    size_t n = 0;
    while (s[n] >= '0' && s[n] <= '9') n++;
    return n;
}

static bool too_long(const char *s)
{
    return strnlen(s, VERIFY_MAX + 1) > VERIFY_MAX;
}

static Reason number_read(const char *s, mpq_t value)
{
    if (too_long(s)) return REASON_UNPARSEABLE;
    switch (answer_number(s, value)) {
    case NUMBER_READ: return REASON_CORRECT;
    case NUMBER_DIVIDED_BY_ZERO: return REASON_DIVISION_BY_ZERO;
    default: return REASON_UNPARSEABLE;
    }
}

Reason verify_rational(const char *gold, const char *answer)
{
    mpq_t g, a;
    mpq_inits(g, a, NULL);
    Reason r = number_read(gold, g) == REASON_CORRECT ? number_read(answer, a) : REASON_UNPARSEABLE;
    if (r == REASON_CORRECT && !mpq_equal(g, a)) r = REASON_WRONG_ANSWER;
    mpq_clears(g, a, NULL);
    return r;
}

static bool is_integer(const char *s)
{
    mpq_t value;
    mpq_init(value);
    bool yes = number_read(s, value) == REASON_CORRECT && mpz_cmp_ui(mpq_denref(value), 1) == 0;
    mpq_clear(value);
    return yes;
}

Reason verify_integer(const char *gold, const char *answer)
{
    return is_integer(gold) ? verify_rational(gold, answer) : REASON_UNPARSEABLE;
}

/* The digits of s as one word. Caller frees. */
static char *digits_of(const char *s)
{
    char *plain = answer_plain(s);
    size_t n = 0;
    for (const char *p = plain; *p != '\0'; p++)
        if (*p >= '0' && *p <= '9') plain[n++] = *p;
    plain[n] = '\0';
    return plain;
}

/* A fraction in another spelling: 1/2, \frac{1}{2}, \dfrac12. The same numbers, not the same value: 2/4 is another answer to
 * what asks for text. */
static bool same_fraction(const char *gold, const char *answer)
{
    if (strchr(gold, '/') == NULL && strstr(gold, "frac") == NULL) return false;
    if (verify_rational(gold, answer) != REASON_CORRECT) return false;
    char *g = digits_of(gold), *a = digits_of(answer);
    bool same = strcmp(g, a) == 0;
    free(g);
    free(a);
    return same;
}

Reason verify_exact(const char *gold, const char *answer)
{
    if (strcmp(gold, answer) == 0) return REASON_CORRECT;
    char *g = answer_bare(gold), *a = answer_bare(answer);
    bool equal = *g != '\0' && (strcmp(g, a) == 0 || same_fraction(gold, answer));
    free(g);
    free(a);
    return equal ? REASON_CORRECT : REASON_WRONG_ANSWER;
}

Reason verify_digits(const char *gold, const char *answer)
{
    if (*answer == '\0' || too_long(answer) || answer[digits_at(answer)] != '\0') return REASON_UNPARSEABLE;
    if (strcmp(gold, answer) == 0) return REASON_CORRECT;
    int count[10] = {0};
    for (const char *s = gold; *s != '\0'; s++) count[*s - '0']++;
    for (const char *s = answer; *s != '\0'; s++) count[*s - '0']--;
    for (int d = 0; d < 10; d++) {
        if (count[d] != 0) return REASON_NOT_A_PERMUTATION;
    }
    return REASON_NOT_SORTED;
}

/* Recursive descent over sum = product {+- product}, product = factor {* / factor}, factor = number | ( sum ). */
enum { EXPRESSION_DEPTH = 32, EXPRESSION_DIGITS = 17 };

typedef struct Expression {
    const char *p;
    int depth;
    long used[VERIFY_MAX_NUMBERS];
    int n;
    bool divided_by_zero;
} Expression;

static void skip_blanks(Expression *e)
{
    while (*e->p == ' ') e->p++;
}

static bool read_sum(Expression *e, mpq_t out);

static bool read_factor(Expression *e, mpq_t out)
{
    skip_blanks(e);
    if (*e->p == '(') {
        if (++e->depth > EXPRESSION_DEPTH) return false;
        e->p++;
        bool ok = read_sum(e, out);
        skip_blanks(e);
        e->depth--;
        return ok && *e->p++ == ')';
    }
    size_t n = digits_at(e->p);
    if (n == 0 || e->n == VERIFY_MAX_NUMBERS) return false;
    long value = 0;
    for (size_t i = 0; i < n && i < EXPRESSION_DIGITS; i++) value = value * 10 + (e->p[i] - '0');
    /* A longer number is in no list of ours: it is remembered as one that cannot be. */
    e->used[e->n++] = n > EXPRESSION_DIGITS ? -1 : value;
    e->p += n;
    mpq_set_si(out, value, 1);
    return true;
}

static void apply(Expression *e, char op, mpq_t left, const mpq_t right)
{
    if (op == '+') {
        mpq_add(left, left, right);
    } else if (op == '-') {
        mpq_sub(left, left, right);
    } else if (op == '*') {
        mpq_mul(left, left, right);
    } else if (mpq_sgn(right) != 0) {
        mpq_div(left, left, right);
    } else {
        e->divided_by_zero = true;
    }
}

/* out = operand {op operand} for the two operators of one precedence. */
static bool read_chain(Expression *e, mpq_t out, bool (*operand)(Expression *, mpq_t), const char *operators)
{
    if (!operand(e, out)) return false;
    mpq_t right;
    mpq_init(right);
    bool ok = true;
    for (skip_blanks(e); ok && *e->p != '\0' && strchr(operators, *e->p) != NULL; skip_blanks(e)) {
        char op = *e->p++;
        ok = operand(e, right);
        if (ok) apply(e, op, out, right);
    }
    mpq_clear(right);
    return ok;
}

static bool read_product(Expression *e, mpq_t out)
{
    return read_chain(e, out, read_factor, "*/");
}

static bool read_sum(Expression *e, mpq_t out)
{
    return read_chain(e, out, read_product, "+-");
}

static bool expression_read(const char *s, Expression *e, mpq_t value)
{
    if (too_long(s)) return false;
    char *plain = answer_plain(s);
    *e = (Expression){.p = plain};
    bool ok = read_sum(e, value) && *e->p == '\0';
    free(plain);
    return ok;
}

/* Whether the multiset e->used is the multiset numbers. */
static Reason check_numbers(const Expression *e, const long *numbers, int n)
{
    bool taken[VERIFY_MAX_NUMBERS] = {false};
    Reason reason = REASON_CORRECT;
    int matched = 0;
    for (int i = 0; i < e->n; i++) {
        bool known = false, free_one = false;
        for (int j = 0; j < n && !free_one; j++) {
            known |= numbers[j] == e->used[i];
            free_one = numbers[j] == e->used[i] && !taken[j];
            taken[j] |= free_one;
        }
        matched += free_one;
        if (known && !free_one) reason = REASON_NUMBER_REUSED;
        else if (!known && reason == REASON_CORRECT) reason = REASON_NUMBER_UNKNOWN;
    }
    return reason == REASON_CORRECT && matched < n ? REASON_NUMBER_MISSING : reason;
}

static Reason compare_expression(const mpq_t target, const long *numbers, int n, const char *answer)
{
    Expression e;
    mpq_t value;
    mpq_init(value);
    Reason r = REASON_UNPARSEABLE;
    if (expression_read(answer, &e, value)) {
        r = check_numbers(&e, numbers, n);
        if (r == REASON_CORRECT && e.divided_by_zero) r = REASON_DIVISION_BY_ZERO;
        else if (r == REASON_CORRECT && !mpq_equal(target, value)) r = REASON_WRONG_ANSWER;
    }
    mpq_clear(value);
    return r;
}

Reason verify_expression(const char *target, const long *numbers, int n, const char *answer)
{
    if (n > VERIFY_MAX_NUMBERS) return REASON_UNPARSEABLE;
    mpq_t value;
    mpq_init(value);
    Reason r = number_read(target, value);
    if (r == REASON_CORRECT) r = compare_expression(value, numbers, n, answer);
    mpq_clear(value);
    return r;
}

Reason verify_expression_like(const char *gold, const char *answer)
{
    Expression e;
    mpq_t value;
    mpq_init(value);
    Reason r = REASON_UNPARSEABLE;
    if (expression_read(gold, &e, value) && !e.divided_by_zero) r = compare_expression(value, e.used, e.n, answer);
    mpq_clear(value);
    return r;
}

bool verify_gold(Verifier v, const char *gold, const long *numbers, int n)
{
    if (v == VERIFIER_EXACT || v == VERIFIER_TESTS || v == VERIFIER_CHOICE) return *gold != '\0';
    if (v == VERIFIER_INTEGER) return verify_integer(gold, gold) == REASON_CORRECT;
    if (v == VERIFIER_RATIONAL) return verify_rational(gold, gold) == REASON_CORRECT;
    if (numbers != NULL) return n > 0 && n <= VERIFY_MAX_NUMBERS && verify_rational(gold, gold) == REASON_CORRECT;
    return strpbrk(gold, "+-*/") != NULL && verify_expression_like(gold, gold) == REASON_CORRECT;
}

const char *verify_library(void)
{
    static char text[32];
    snprintf(text, sizeof text, "GMP %s", gmp_version);
    return text;
}
