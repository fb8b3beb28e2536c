/* Categories of characters and normal forms. */
#include "data/tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "core/base/check.h"
#include "data/text.h"
#include "data/utf8.h"

/* Characters that stay themselves in NFC whatever stands before them: the large blocks of running text. */
static bool plain_in_nfc(int32_t c)
{
    return c < 0x300 || (c >= 0x400 && c < 0x483) || (c >= 0x2010 && c < 0x2060) || (c >= 0x3001 && c < 0x302A) ||
           (c >= 0x3041 && c < 0x3099) || (c >= 0x30A0 && c < 0x3100) || (c >= 0x3400 && c < 0xA000) ||
           (c >= 0xAC00 && c < 0xD7A4) || (c >= 0xFF00 && c < 0xFFF0);
}

static bool is_plain(UnicodeForm form, const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        if (!(text[at] & 0x80)) {
            at++;
            continue;
        }
        if (form != UNICODE_NFC) return false;
        int32_t code;
        at += utf8_next(text + at, length - at, &code);
        if (!plain_in_nfc(code)) return false;
    }
    return true;
}

static void add_normal(Text *out, UnicodeForm form, const char *text, size_t length)
{
    if (is_plain(form, text, length)) {
        text_add_bytes(out, text, length);
        return;
    }
    utf8proc_option_t flags = UTF8PROC_STABLE;
    flags |= form == UNICODE_NFC || form == UNICODE_NFKC ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (form == UNICODE_NFKC || form == UNICODE_NFKD) flags |= UTF8PROC_COMPAT;
    utf8proc_uint8_t *normal;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length, &normal, flags);
    CHECK(n >= 0);
    text_add_bytes(out, (const char *)normal, (size_t)n);
    free(normal);
}

char *unicode_normalize(UnicodeForm form, const char *text, size_t length, size_t *out_length)
{
    if (form == UNICODE_AS_IS || is_plain(form, text, length)) return NULL;
    Text out = {0};
    /* A newline never changes and never joins with its neighbours, so lines are independent. */
    for (size_t at = 0; at < length;) {
        const char *newline = memchr(text + at, '\n', length - at);
        size_t end = newline ? (size_t)(newline - text) + 1 : length;
        add_normal(&out, form, text + at, end - at);
        at = end;
    }
    *out_length = out.n;
    return text_take(&out);
}

bool unicode_is_space(int32_t c)
{
    if (c < 0x1680) return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0;
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
           c == 0x3000;
}

bool unicode_is_word(int32_t c)
{
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC: return true;
    default: /* joiners, and the circled and squared letters, which are alphabetic symbols */
        return c == 0x200C || c == 0x200D || (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
               (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
    }
}

const char *unicode_library(void)
{
    static char text[64];
    snprintf(text, sizeof text, "utf8proc %s (Unicode %s)", utf8proc_version(), utf8proc_unicode_version());
    return text;
}
