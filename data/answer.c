/* One spelling for answers: what stands around them, signs and digits, numbers. */
#include "data/answer.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"
#include "data/utf8.h"

enum { ANSWER_MAX = 4096, EXPONENT_MAX = 4096 };

/* ---- around an answer ---- */

typedef struct Span {
    const char *p;
    size_t n;
} Span;

static bool begins(Span s, const char *mark)
{
    size_t m = strlen(mark);
    return s.n >= m && !memcmp(s.p, mark, m);
}

static bool ends(Span s, const char *mark)
{
    size_t m = strlen(mark);
    return s.n >= m && !memcmp(s.p + s.n - m, mark, m);
}

static bool drop_start(Span *s, const char *mark)
{
    if (!begins(*s, mark)) return false;
    s->p += strlen(mark);
    s->n -= strlen(mark);
    return true;
}

static bool drop_end(Span *s, const char *mark)
{
    if (!ends(*s, mark)) return false;
    s->n -= strlen(mark);
    return true;
}

/* Blanks of ASCII, no-break and thin spaces, the ideographic one; LaTeX's. */
static const char *const blanks[] = {" ",      "\t",     "\n",  "\r",  "\u00a0", "\u2009",
                                     "\u202f", "\u3000", "\\ ", "\\,", "\\;",    "\\!"};
enum { BLANKS = sizeof blanks / sizeof *blanks };

static Span trimmed(Span s)
{
    for (bool more = true; more;) {
        more = false;
        for (int i = 0; i < BLANKS; i++) more |= drop_start(&s, blanks[i]) || drop_end(&s, blanks[i]);
    }
    return s;
}

/* The place of the brace that closes the one at s.p[open]; s.n: none. */
static size_t closing(Span s, size_t open)
{
    int depth = 0;
    for (size_t i = open; i < s.n; i++) {
        if (s.p[i] == '\\') i++;
        else if (s.p[i] == '{') depth++;
        else if (s.p[i] == '}' && --depth == 0) return i;
    }
    return s.n;
}

bool answer_boxed(const char *text, size_t n, const char **inside, size_t *length)
{
    static const char *const marks[] = {"\\boxed", "\\fbox"};
    for (size_t at = n; at-- > 0;) {
        if (text[at] != '\\') continue;
        for (int m = 0; m < 2; m++) {
            Span rest = {text + at, n - at};
            if (!drop_start(&rest, marks[m])) continue;
            while (rest.n && rest.p[0] == ' ') rest.p++, rest.n--;
            if (!begins(rest, "{")) continue;
            size_t close = closing(rest, 0);
            if (close == rest.n) continue;
            *inside = rest.p + 1;
            *length = close - 1;
            return true;
        }
    }
    return false;
}

/* Takes `open` and `close` away where they enclose the whole and stand nowhere inside. */
static bool unwrap(Span *s, const char *open, const char *close)
{
    size_t both = strlen(open) + strlen(close);
    if (s->n <= both || !begins(*s, open) || !ends(*s, close)) return false;
    Span inside = {s->p + strlen(open), s->n - both};
    if (memmem(inside.p, inside.n, open, strlen(open)) || memmem(inside.p, inside.n, close, strlen(close)))
        return false;
    *s = inside;
    return true;
}

/* \text{..}: a command whose one argument is the whole. */
static bool unwrap_command(Span *s)
{
    static const char *const commands[] = {"\\text{",   "\\textbf{", "\\mathrm{", "\\mathbf{", "\\mathit{",
                                           "\\mathsf{", "\\mbox{",   "\\bf{",     "{"};
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        size_t open = strlen(commands[i]) - 1;
        if (!begins(*s, commands[i]) || closing(*s, open) + 1 != s->n) continue;
        *s = (Span){s->p + open + 1, s->n - open - 2};
        return true;
    }
    return false;
}

static Span bare(const char *answer)
{
    Span s = {answer, strlen(answer)};
    for (bool more = true; more;) {
        more = answer_boxed(s.p, s.n, &s.p, &s.n);
        s = trimmed(s);
        more |= unwrap(&s, "$$", "$$") || unwrap(&s, "$", "$") || unwrap(&s, "\\(", "\\)") ||
                unwrap(&s, "\\[", "\\]") || unwrap(&s, "**", "**") || unwrap_command(&s);
        if (s.n > 1) more |= drop_end(&s, ".") || drop_end(&s, "\u3002");
    }
    return s;
}

char *answer_bare(const char *answer)
{
    Span s = bare(answer);
    return text_copy(s.p, s.n);
}

/* ---- one spelling of signs ---- */

static const char *const spellings[][2] = {
    {"\u2212", "-"}, {"\u2013", "-"},       {"\ufe63", "-"},       {"\uff0d", "-"},      {"\uff0b", "+"},
    {"\u00d7", "*"}, {"\u22c5", "*"},       {"\u00b7", "*"},       {"\u2217", "*"},      {"\uff0a", "*"},
    {"\u00f7", "/"}, {"\u2215", "/"},       {"\u2044", "/"},       {"\uff0f", "/"},      {"\uff0e", "."},
    {"\uff0c", ","}, {"\uff05", "%"},       {"\uff08", "("},       {"\uff09", ")"},      {"\\%", "%"},
    {"\\$", "$"},    {"{,}", ","},          {"\\times", "*"},      {"\\cdot", "*"},      {"\\div", "/"},
    {"\\left", ""},  {"\\right", ""},       {"\\,", ""},           {"\\!", ""},          {"\\;", ""},
    {"\\ ", " "},    {"\t", " "},           {"\n", " "},           {"\u00a0", ""},       {"\u2009", ""},
    {"\u202f", ""},  {"\\dfrac", "\\frac"}, {"\\tfrac", "\\frac"}, {"\\cfrac", "\\frac"}};

/* Appends what stands at s in one spelling; how many bytes it took. */
static size_t add_sign(Text *out, Span s)
{
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        Span rest = s;
        if (!drop_start(&rest, spellings[i][0])) continue;
        text_add(out, spellings[i][1]);
        return s.n - rest.n;
    }
    int32_t c;
    size_t used = utf8_next(s.p, s.n, &c);
    if (c >= 0xff10 && c <= 0xff19) text_addf(out, "%d", (int)(c - 0xff10));
    else text_add_bytes(out, s.p, used);
    return used;
}

char *answer_plain(const char *answer)
{
    Span s = bare(answer);
    Text out = {0};
    while (s.n) {
        size_t used = add_sign(&out, s);
        s.p += used;
        s.n -= used;
    }
    return text_take(&out);
}

/* ---- numbers ---- */

typedef struct NumberReader {
    const char *p;
    Text digits;   /* of whole and fraction, without separators */
    long decimals; /* digits behind the point */
} NumberReader;

static void skip_blanks(const char **p)
{
    while (**p == ' ') (*p)++;
}

static size_t count_digits(const char *s)
{
    size_t n = 0;
    while (s[n] >= '0' && s[n] <= '9') n++;
    return n;
}

/* ",234" groups behind one to three digits without a leading zero; all that follow must be groups. */
static bool read_groups(NumberReader *r, size_t first)
{
    if (first > 3 || r->digits.p[0] == '0') return false;
    while (*r->p == ',') {
        if (count_digits(r->p + 1) != 3) return false;
        text_add_bytes(&r->digits, r->p + 1, 3);
        r->p += 4;
    }
    return true;
}

/* Digits, groups, a point and digits: at least one digit. */
static bool read_decimal(NumberReader *r)
{
    size_t whole = count_digits(r->p);
    text_add_bytes(&r->digits, r->p, whole);
    r->p += whole;
    if (*r->p == ',' && (whole == 0 || !read_groups(r, whole))) return false;
    if (*r->p == '.') {
        size_t n = count_digits(++r->p);
        text_add_bytes(&r->digits, r->p, n);
        r->decimals = (long)n;
        r->p += n;
    }
    return r->digits.n > 0;
}

static int read_sign(const char **p)
{
    int sign = **p == '-' ? -1 : 1;
    if (**p == '-' || **p == '+') (*p)++;
    skip_blanks(p);
    return sign;
}

/* "10^3", "10^{-3}": what follows a multiplication sign. */
static bool read_power(const char **p, long *exponent)
{
    if (strncmp(*p, "10^", 3) != 0) return false;
    *p += 3;
    bool braces = **p == '{';
    *p += braces;
    int sign = read_sign(p);
    size_t n = count_digits(*p);
    if (n == 0 || n > 5) return false;
    *exponent = sign * strtol(*p, NULL, 10);
    *p += n;
    return !braces || *(*p)++ == '}';
}

/* e3, E-3, * 10^{3}; nothing is 0. False: it begins as one and is none. */
static bool read_exponent(const char **p, long *exponent)
{
    const char *at = *p;
    *exponent = 0;
    if (*at == 'e' || *at == 'E') {
        at++;
        int sign = *at == '-' ? -1 : 1;
        at += *at == '-' || *at == '+';
        size_t n = count_digits(at);
        if (n == 0 || n > 5) return false;
        *exponent = sign * strtol(at, NULL, 10);
        *p = at + n;
        return true;
    }
    skip_blanks(&at);
    if (*at != '*') return true;
    at++;
    skip_blanks(&at);
    if (!read_power(&at, exponent)) return false;
    *p = at;
    return true;
}

/* value *= 10^exponent */
static void scale(mpq_t value, long exponent)
{
    mpz_t power;
    mpz_init(power);
    mpz_ui_pow_ui(power, 10, (unsigned long)labs(exponent));
    if (exponent >= 0) mpz_mul(mpq_numref(value), mpq_numref(value), power);
    else mpz_mul(mpq_denref(value), mpq_denref(value), power);
    mpq_canonicalize(value);
    mpz_clear(power);
}

/* [sign] decimal [exponent] */
static bool read_real(const char **p, mpq_t value)
{
    int sign = read_sign(p);
    if (**p == '$') (*p)++;
    NumberReader r = {.p = *p};
    long exponent = 0;
    bool ok = read_decimal(&r) && read_exponent(&r.p, &exponent);
    exponent -= r.decimals;
    ok = ok && labs(exponent) <= EXPONENT_MAX;
    if (ok) {
        mpz_set_str(mpq_numref(value), r.digits.p, 10);
        mpz_set_ui(mpq_denref(value), 1);
        scale(value, exponent);
        if (sign < 0) mpq_neg(value, value);
        *p = r.p;
    }
    free(r.digits.p);
    return ok;
}

/* An argument of \frac: {number} or one digit. */
static bool read_argument(const char **p, mpq_t value)
{
    skip_blanks(p);
    if (**p >= '0' && **p <= '9') {
        mpq_set_si(value, *(*p)++ - '0', 1);
        return true;
    }
    if (*(*p)++ != '{') return false;
    skip_blanks(p);
    bool ok = read_real(p, value);
    skip_blanks(p);
    return ok && *(*p)++ == '}';
}

static NumberStatus divide(mpq_t value, const mpq_t by)
{
    if (mpq_sgn(by) == 0) return NUMBER_DIVIDED_BY_ZERO;
    mpq_div(value, value, by);
    return NUMBER_READ;
}

/* \frac{a}{b} | real [/ real], then maybe %. */
static NumberStatus read_number(const char **p, mpq_t value)
{
    mpq_t by;
    mpq_init(by);
    NumberStatus status = NUMBER_NONE;
    const char *at = *p;
    int sign = read_sign(&at);
    if (strncmp(at, "\\frac", 5) == 0) {
        at += 5;
        if (read_argument(&at, value) && read_argument(&at, by)) status = divide(value, by);
        if (sign < 0) mpq_neg(value, value);
        *p = at;
    } else if (read_real(p, value)) {
        status = NUMBER_READ;
        skip_blanks(p);
        if (**p == '/') {
            (*p)++;
            skip_blanks(p);
            status = read_real(p, by) ? divide(value, by) : NUMBER_NONE;
        }
    }
    mpq_clear(by);
    skip_blanks(p);
    if (status == NUMBER_READ && **p == '%') {
        scale(value, -2);
        (*p)++;
    }
    return status;
}

NumberStatus answer_number(const char *answer, mpq_t value)
{
    if (strnlen(answer, ANSWER_MAX + 1) > ANSWER_MAX) return NUMBER_NONE;
    char *plain = answer_plain(answer);
    const char *p = plain;
    NumberStatus status = read_number(&p, value);
    skip_blanks(&p);
    if (status != NUMBER_NONE && *p != '\0') status = NUMBER_NONE;
    free(plain);
    return status;
}

char *answer_canonical(const char *answer)
{
    mpq_t value;
    mpq_init(value);
    char *out;
    if (answer_number(answer, value) == NUMBER_READ) {
        out = malloc(mpz_sizeinbase(mpq_numref(value), 10) + mpz_sizeinbase(mpq_denref(value), 10) + 3);
        CHECK(out != NULL);
        mpq_get_str(out, 10, value);
    } else {
        out = answer_bare(answer);
    }
    mpq_clear(value);
    return out;
}
