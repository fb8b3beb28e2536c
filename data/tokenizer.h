/* Text <-> token ids. One type, two makers: the built-in character tokenizer of the tiny recipes, and tokenizer.json
 * (byte-level BPE). Token ids are kept end to end: generated ids are never decoded and encoded again. */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/status.h"

typedef struct Tokenizer Tokenizer;

/* A growing list of ids; zero-initialise, free(.ids). */
typedef struct Ids {
    int32_t *ids;
    int n, capacity;
} Ids;
void ids_push(Ids *list, int32_t id);

/* The built-in character tokenizer: printable ASCII and newline, the Chinese characters of the built-in tasks, a short list
 * of whole words, and one token for each of <bos> <eos> <user> <assistant> <think> </think> <answer> </answer>.
 * Longest match first; a character outside it becomes its UTF-8 bytes (256 byte tokens exist only in the `bytes` variant;
 * otherwise <unk>). */
Tokenizer *tokenizer_new_char(void);
/* A byte-level BPE trained on `text` to `vocab` ids (256 bytes + the special tokens above + merges, ties to the lowest pair). */
Tokenizer *tokenizer_train_bpe(const char *text, size_t length, int vocab, Status *st);
/* From a folder or a tokenizer.json path. */
Tokenizer *tokenizer_load(const char *path, Status *st);
/* The bytes that tokenizer_parse reads back: what a checkpoint stores (tokenizer.json syntax). Caller frees. */
char *tokenizer_serialize(const Tokenizer *t, size_t *length);
Tokenizer *tokenizer_parse(const char *bytes, size_t length, const char *where, Status *st);
void tokenizer_free(Tokenizer *t);

int tokenizer_vocab(const Tokenizer *t); /* one more than the largest id */
/* Appends the ids of text (special tokens in it are parsed; no BOS is added). */
void tokenizer_encode(const Tokenizer *t, const char *text, size_t length, Ids *out);
/* Bytes of ids, NUL-terminated; special tokens appear as their text when `special`, else are dropped. Invalid UTF-8 becomes
 * U+FFFD. Caller frees. */
char *tokenizer_decode(const Tokenizer *t, const int32_t *ids, int n, bool special);
/* The raw bytes of one token (a view) for streaming decoders; is_special may be NULL. */
const char *tokenizer_piece(const Tokenizer *t, int32_t id, size_t *length, bool *is_special);
/* The id of a token by its text, -1 when there is none. */
int32_t tokenizer_id(const Tokenizer *t, const char *text);
int32_t tokenizer_bos(const Tokenizer *t); /* -1: none */
int32_t tokenizer_eos(const Tokenizer *t);

#endif
