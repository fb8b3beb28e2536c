/* Bytes as printable characters. */
#include "data/tokenizer/byte_alphabet.h"

#include "data/utf8.h"

static bool stands_for_itself(int32_t c)
{
    return (c >= 0x21 && c <= 0x7E) || (c >= 0xA1 && c <= 0xAC) || (c >= 0xAE && c <= 0xFF);
}

/* The other bytes in increasing order are 0x00-0x20, 0x7F-0xA0, 0xAD. */
int32_t byte_alphabet_char(unsigned char byte)
{
    if (stands_for_itself(byte)) return byte;
    if (byte <= 0x20) return 0x100 + byte;
    return byte == 0xAD ? 0x143 : 0x121 + byte - 0x7F;
}

static int32_t byte_of(int32_t c)
{
    if (stands_for_itself(c)) return c;
    if (c < 0x100 || c > 0x143) return -1;
    if (c <= 0x120) return c - 0x100;
    return c == 0x143 ? 0xAD : c - 0x121 + 0x7F;
}

bool byte_alphabet_decode(const char *text, size_t length, Text *out)
{
    size_t before = out->n;
    for (size_t at = 0; at < length;) {
        int32_t code;
        at += utf8_next(text + at, length - at, &code);
        int32_t byte = byte_of(code);
        if (byte < 0) {
            out->n = before;
            return false;
        }
        text_add_bytes(out, (char[]){(char)byte}, 1);
    }
    return true;
}

void byte_alphabet_encode(const char *bytes, size_t length, Text *out)
{
    for (size_t i = 0; i < length; i++) {
        char utf8[4];
        text_add_bytes(out, utf8, utf8_put(byte_alphabet_char((unsigned char)bytes[i]), utf8));
    }
}
