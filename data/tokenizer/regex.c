/* Unicode regular expressions by PCRE2. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "data/tokenizer/regex.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/text.h"
#include "data/utf8.h"

struct Regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    bool jit;
};

/* White_Space of Unicode, its complement, and Alphabetic | M | Nd | Pc, as contents of a character class. */
#define SPACES "\\x09-\\x0D\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}\\x{205F}\\x{3000}"
#define NO_SPACES                                                                                                      \
    "\\x00-\\x08\\x0E-\\x1F\\x21-\\x84\\x86-\\x9F\\xA1-\\x{167F}\\x{1681}-\\x{1FFF}\\x{200B}-\\x{2027}"                \
    "\\x{202A}-\\x{202E}\\x{2030}-\\x{205E}\\x{2060}-\\x{2FFF}\\x{3001}-\\x{10FFFF}"
#define WORDS                                                                                                          \
    "\\p{L}\\p{M}\\p{Nd}\\p{Nl}\\p{Pc}\\x{24B6}-\\x{24E9}"                                                             \
    "\\x{1F130}-\\x{1F149}\\x{1F150}-\\x{1F169}\\x{1F170}-\\x{1F189}"
#define HEXES "0-9A-Fa-f"

/* Writes what the escape \c means to PCRE2. */
static void translate_escape(Text *out, char c, bool in_class)
{
    static const struct {
        char name, *inside, *outside;
    } table[] = {
        {'s', SPACES, "[" SPACES "]"}, {'S', NO_SPACES, "[^" SPACES "]"}, {'w', WORDS, "[" WORDS "]"},
        {'W', NULL, "[^" WORDS "]"},   {'h', HEXES, "[" HEXES "]"},       {'H', NULL, "[^" HEXES "]"},
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        const char *text = in_class ? table[i].inside : table[i].outside;
        if (table[i].name != c || !text) continue;
        text_add(out, text);
        return;
    }
    text_add_bytes(out, (char[]){'\\', c}, 2);
}

static char *translate(const char *pattern, size_t length, size_t *out_length)
{
    Text out = {0};
    bool in_class = false;
    size_t class_start = 0;
    for (size_t i = 0; i < length; i++) {
        if (pattern[i] == '\\' && i + 1 < length) {
            translate_escape(&out, pattern[++i], in_class);
            continue;
        }
        if (!in_class && pattern[i] == '[') {
            in_class = true;
            class_start = i + 1 + (i + 1 < length && pattern[i + 1] == '^');
        } else if (in_class && pattern[i] == '[' && i + 1 < length && pattern[i + 1] == ':') {
            const char *close = memmem(pattern + i, length - i, ":]", 2);
            if (close) {
                size_t name = (size_t)(close - pattern) + 2 - i;
                text_add_bytes(&out, pattern + i, name);
                i += name - 1;
                continue;
            }
        } else if (in_class && pattern[i] == ']' && i != class_start) {
            in_class = false;
        }
        text_add_bytes(&out, pattern + i, 1);
    }
    *out_length = out.n;
    return text_take(&out);
}

static pcre2_code *compile(const char *pattern, size_t length, bool literal, Status *st)
{
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    CHECK(context);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    uint32_t flags = PCRE2_UTF | (literal ? PCRE2_LITERAL : PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C);
    int error;
    PCRE2_SIZE at;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, length, flags, &error, &at, context);
    pcre2_compile_context_free(context);
    if (code) return code;
    PCRE2_UCHAR what[200];
    pcre2_get_error_message(error, what, sizeof what);
    fail(st, "the regular expression \"%.80s\" cannot be compiled: %s", pattern, (const char *)what);
    return NULL;
}

Regex *regex_compile(const char *pattern, size_t length, bool literal, Status *st)
{
    size_t n;
    char *translated = literal ? text_copy(pattern, n = length) : translate(pattern, length, &n);
    pcre2_code *code = compile(translated, n, literal, st);
    free(translated);
    if (!code) return NULL;
    Regex *r = calloc(1, sizeof *r);
    CHECK(r);
    r->code = code;
    r->match = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    CHECK(r->match && r->context);
    pcre2_set_match_limit(r->context, 20000000);
    pcre2_set_heap_limit(r->context, 256 * 1024);
    r->jit = pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0;
    if (r->jit) {
        r->stack = pcre2_jit_stack_create(32 * 1024, 8 * 1024 * 1024, NULL);
        pcre2_jit_stack_assign(r->context, NULL, r->stack);
    }
    return r;
}

void regex_free(Regex *r)
{
    if (!r) return;
    pcre2_code_free(r->code);
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->context);
    pcre2_jit_stack_free(r->stack);
    free(r);
}

static int match_at(const Regex *r, const char *text, size_t length, size_t from)
{
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    if (r->jit) {
        int got = pcre2_jit_match(r->code, subject, length, from, PCRE2_NO_UTF_CHECK, r->match, r->context);
        if (got != PCRE2_ERROR_JIT_STACKLIMIT) return got;
    }
    return pcre2_match(r->code, subject, length, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, r->match, r->context);
}

bool regex_next(const Regex *r, const char *text, size_t length, size_t from, size_t *start, size_t *end)
{
    while (from < length) {
        if (match_at(r, text, length, from) < 0) return false;
        const PCRE2_SIZE *found = pcre2_get_ovector_pointer(r->match);
        if (found[0] < from || found[1] < found[0]) return false;
        if (found[1] > found[0]) {
            *start = found[0];
            *end = found[1];
            return true;
        }
        if (found[0] >= length) return false;
        from = found[0] + utf8_next(text + found[0], length - found[0], NULL);
    }
    return false;
}

const char *regex_library(void)
{
    static char version[48], text[64];
    pcre2_config(PCRE2_CONFIG_VERSION, version);
    snprintf(text, sizeof text, "PCRE2 %s", version);
    return text;
}
