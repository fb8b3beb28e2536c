/* The pre_tokenizer of a tokenizer.json: stages that each cut every piece further (docs/formats.md 3.1, 3.4). */
#ifndef DATA_PRETOKENIZE_H
#define DATA_PRETOKENIZE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/status.h"
#include "data/json.h"

typedef struct Pretokenizer Pretokenizer;

/* From the "pre_tokenizer" value (NULL or null: text stays whole). Knows Sequence, Split, Digits, ByteLevel (last
 * only), Metaspace, Punctuation, Whitespace, WhitespaceSplit; any other kind fails with its name. */
Pretokenizer *pretokenizer_new(const Json *config, Status *st);
void pretokenizer_free(Pretokenizer *p);
/* A ByteLevel stage ends it: pieces are to be read as bytes. */
bool pretokenizer_byte_level(const Pretokenizer *p);

/* Calls emit for each piece of valid UTF-8 in order; no piece is empty. A piece lives only during the call.
 * first: the text is the beginning of what is encoded, which Metaspace may treat differently. */
typedef void PieceEmit(void *context, const char *piece, size_t length);
void pretokenize(const Pretokenizer *p, const char *text, size_t length, bool first, PieceEmit *emit, void *context);

#endif
