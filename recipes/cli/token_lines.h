/* Token sequences from a file of lines. */
#ifndef RECIPES_TOKEN_LINES_H
#define RECIPES_TOKEN_LINES_H

#include "data/tokenizer/tokenizer.h"

typedef struct TokenLines {
    Ids *lines;
    int n, capacity;
    int skipped; /* broken lines left out */
} TokenLines;

/* JSON lines {"ids": [..]} ("-": standard input); blank lines are passed over. Every id must be in 0 .. vocab - 1. A
 * broken line, or one without ids, fails with its number, or is counted when skip_bad; so does a file without any line.
 */
bool token_lines_read(TokenLines *out, const char *path, int vocab, bool skip_bad, Status *st);
/* The same from text through a tokenizer: a line is a JSON string, or an object with "text", or else the text itself.
 * No BOS is added. */
bool token_lines_encode(TokenLines *out, const char *path, const Tokenizer *t, int vocab, bool skip_bad, Status *st);
void token_lines_free(TokenLines *t);

#endif
