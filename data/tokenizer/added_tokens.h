/* Added tokens: strings cut out of the text before anything else looks at it (docs/formats.md 3.1, steps 1 and 2). */
#ifndef DATA_ADDED_TOKENS_H
#define DATA_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct AddedToken {
    int32_t id;
    bool single_word;    /* no match beside a word character */
    bool lstrip, rstrip; /* white space on that side belongs to the match */
} AddedToken;

typedef struct AddedNode {
    int32_t child, sibling, token; /* indexes, -1: none */
    unsigned char byte;
} AddedNode;

/* A trie of contents; zero-initialise. */
typedef struct AddedTokens {
    AddedToken *tokens;
    int n;
    AddedNode *nodes; /* node 0 is the root */
    int nodes_n, nodes_capacity;
    bool begins[256]; /* bytes with which a content begins */
} AddedTokens;

/* The content is not empty. The first of two equal contents wins. */
void added_tokens_add(AddedTokens *a, const char *content, size_t length, AddedToken token);
void added_tokens_free(AddedTokens *a);

/* The first match at or after *scan, leftmost and then longest. [*start, *end) is what it takes from the text, white
 * space included, never before `floor`; *scan is moved to where the search goes on. NULL: no further match. */
const AddedToken *added_tokens_next(const AddedTokens *a, const char *text, size_t length, size_t *scan, size_t floor,
                                    size_t *start, size_t *end);

#endif
