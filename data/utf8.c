/* UTF-8: next character, validity, repair. */
#include "data/utf8.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"

/* Table 3-7 of the Unicode standard: how many bytes a lead byte asks for, and the range of its second byte. */
static int lead_shape(unsigned char lead, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *low = 0xA0;
        if (lead == 0xED) *high = 0x9F;
        return 3;
    }
    if (lead > 0xF4) return 0;
    if (lead == 0xF0) *low = 0x90;
    if (lead == 0xF4) *high = 0x8F;
    return 4;
}

size_t utf8_next(const char *text, size_t length, int32_t *code)
{
    const unsigned char *s = (const unsigned char *)text;
    unsigned char low, high;
    int want = lead_shape(s[0], &low, &high);
    int32_t c = want <= 1 ? s[0] : s[0] & (0x7F >> want);
    size_t used = 1;
    while ((int)used < want && used < length && s[used] >= low && s[used] <= high) {
        c = c << 6 | (s[used++] & 0x3F);
        low = 0x80;
        high = 0xBF;
    }
    if (code) *code = want && (int)used == want ? c : -1;
    return used;
}

size_t utf8_put(int32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char)code;
        return 1;
    }
    size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3F));
        code >>= 6;
    }
    out[0] = (char)((0xF00 >> n & 0xFF) | code);
    return n;
}

size_t utf8_valid_length(const char *text, size_t length)
{
    size_t at = 0;
    while (at < length) {
        if (!(text[at] & 0x80)) {
            at++;
            continue;
        }
        int32_t code;
        size_t used = utf8_next(text + at, length - at, &code);
        if (code < 0) break;
        at += used;
    }
    return at;
}

size_t utf8_incomplete_tail(const char *text, size_t length)
{
    for (size_t back = 1; back <= 3 && back <= length; back++) {
        unsigned char low, high, lead = (unsigned char)text[length - back];
        if ((lead & 0xC0) == 0x80) continue;
        int32_t code;
        int want = lead_shape(lead, &low, &high);
        bool starts = want > (int)back && utf8_next(text + length - back, back, &code) == back;
        return starts ? back : 0;
    }
    return 0;
}

char *utf8_repair(const char *text, size_t length, size_t *out_length)
{
    size_t valid = utf8_valid_length(text, length);
    char *out = malloc((valid == length ? length : valid + 3 * (length - valid)) + 1);
    CHECK(out);
    if (length) memcpy(out, text, valid);
    size_t n = valid;
    for (size_t at = valid; at < length;) {
        int32_t code;
        size_t used = utf8_next(text + at, length - at, &code);
        if (code < 0) {
            n += utf8_put(0xFFFD, out + n);
        } else {
            memcpy(out + n, text + at, used);
            n += used;
        }
        at += used;
    }
    out[n] = 0;
    if (out_length) *out_length = n;
    return out;
}
