/* Added tokens cut out of a text. */
#include "data/tokenizer/added_tokens.h"

#include <stdlib.h>

#include "core/base/check.h"
#include "data/tokenizer/unicode.h"
#include "data/utf8.h"

static int new_node(AddedTokens *a, unsigned char byte)
{
    if (a->nodes_n == a->nodes_capacity) {
        a->nodes_capacity = a->nodes_capacity ? 2 * a->nodes_capacity : 64;
        a->nodes = realloc(a->nodes, (size_t)a->nodes_capacity * sizeof *a->nodes);
        CHECK(a->nodes);
    }
    a->nodes[a->nodes_n] = (AddedNode){.child = -1, .sibling = -1, .token = -1, .byte = byte};
    return a->nodes_n++;
}

static int child_of(const AddedTokens *a, int node, unsigned char byte)
{
    int at = a->nodes[node].child;
    while (at >= 0 && a->nodes[at].byte != byte) at = a->nodes[at].sibling;
    return at;
}

void added_tokens_add(AddedTokens *a, const char *content, size_t length, AddedToken token)
{
    CHECK(length > 0);
    if (!a->nodes_n) new_node(a, 0);
    a->begins[(unsigned char)content[0]] = true;
    int node = 0;
    for (size_t i = 0; i < length; i++) {
        int next = child_of(a, node, (unsigned char)content[i]);
        if (next < 0) {
            next = new_node(a, (unsigned char)content[i]);
            a->nodes[next].sibling = a->nodes[node].child;
            a->nodes[node].child = next;
        }
        node = next;
    }
    if (a->nodes[node].token >= 0) return;
    a->tokens = realloc(a->tokens, (size_t)(a->n + 1) * sizeof *a->tokens);
    CHECK(a->tokens);
    a->tokens[a->n] = token;
    a->nodes[node].token = a->n++;
}

void added_tokens_free(AddedTokens *a)
{
    free(a->tokens);
    free(a->nodes);
    *a = (AddedTokens){0};
}

/* The longest content that begins at text: its token, -1 for none. */
static int longest(const AddedTokens *a, const char *text, size_t length, size_t *used)
{
    int node = 0, best = -1;
    for (size_t i = 0; i < length; i++) {
        node = child_of(a, node, (unsigned char)text[i]);
        if (node < 0) break;
        if (a->nodes[node].token < 0) continue;
        best = a->nodes[node].token;
        *used = i + 1;
    }
    return best;
}

/* The character that ends right before `at` > 0. */
static int32_t char_before(const char *text, size_t at, size_t *begin)
{
    size_t b = at - 1;
    while (b > 0 && ((unsigned char)text[b] & 0xC0) == 0x80) b--;
    int32_t code;
    utf8_next(text + b, at - b, &code);
    *begin = b;
    return code;
}

static bool touches_word(const char *text, size_t length, size_t start, size_t end)
{
    size_t begin;
    int32_t code;
    if (start > 0 && unicode_is_word(char_before(text, start, &begin))) return true;
    if (end == length) return false;
    utf8_next(text + end, length - end, &code);
    return unicode_is_word(code);
}

static size_t space_before(const char *text, size_t at, size_t floor)
{
    size_t begin;
    while (at > floor && unicode_is_space(char_before(text, at, &begin))) at = begin;
    return at;
}

static size_t space_after(const char *text, size_t length, size_t at)
{
    int32_t code;
    while (at < length) {
        size_t used = utf8_next(text + at, length - at, &code);
        if (!unicode_is_space(code)) break;
        at += used;
    }
    return at;
}

const AddedToken *added_tokens_next(const AddedTokens *a, const char *text, size_t length, size_t *scan, size_t floor,
                                    size_t *start, size_t *end)
{
    if (!a->n) return NULL;
    for (size_t at = *scan; at < length; at++) {
        size_t used;
        if (!a->begins[(unsigned char)text[at]]) continue;
        int found = longest(a, text + at, length - at, &used);
        if (found < 0) continue;
        const AddedToken *token = &a->tokens[found];
        /* A match that is turned down still takes its text from the search, as in the reference implementation. */
        if (at < floor || (token->single_word && touches_word(text, length, at, at + used))) {
            at += used - 1;
            continue;
        }
        *scan = at + used;
        *start = token->lstrip ? space_before(text, at, floor) : at;
        *end = token->rstrip ? space_after(text, length, at + used) : at + used;
        return token;
    }
    *scan = length;
    return NULL;
}
