/* Text <-> token ids. One type, several makers: the built-in tokenizers of the tiny recipes, tokenizer.json, GGUF.
 * Token ids are kept end to end: generated ids are never decoded and encoded again. A Tokenizer is used by one thread
 * at a time (it remembers recent words). */
#ifndef DATA_TOKENIZER_H
#define DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/status.h"
#include "data/tokenizer/ids.h"

typedef struct Tokenizer Tokenizer;

/* The built-in character tokenizer: printable ASCII and newline, the Chinese characters of the built-in tasks, a short
 * list of whole words, and one token for each of <bos> <eos> <user> <assistant> <think> </think> <answer> </answer>.
 * Longest match first; a character outside it becomes <unk>. The first four and <unk> are special (decode drops them);
 * the tags are text to a reader and stay. */
Tokenizer *tokenizer_new_char(void);
/* The same with 256 byte tokens more: a character outside it becomes its UTF-8 bytes. */
Tokenizer *tokenizer_new_char_bytes(void);
/* A byte-level BPE trained on `text` to `vocab` ids: the special tokens above, 256 bytes, merges (the most frequent
 * pair of ids, ties to the lowest pair). Ends with fewer ids when no pair is left that occurs twice; fails when vocab
 * has no room for the tokens that must be there. */
Tokenizer *tokenizer_train_bpe(const char *text, size_t length, int vocab, Status *st);
/* From a folder or a tokenizer.json path; takes tokenizer_config.json and chat_template.jinja beside it where they
 * are. */
Tokenizer *tokenizer_load(const char *path, Status *st);
/* tokenizer.ggml.* of a GGUF file. Byte-level BPE (kind gpt2): merges ("left right") and the pre-tokenizer's name count.
 * SentencePiece's BPE (kind llama): merges may be missing, then they follow from the scores; space_prefix: a text begins with a
 * space that is not there. */
typedef struct GgufVocabulary {
    const char **tokens; /* NULL: no token */
    int n;
    const int32_t *types; /* NULL: all normal */
    const float *scores;  /* NULL: none */
    const char **merges;
    int n_merges;
    const char *pre;
    int bos, eos, unk; /* -1: none */
    bool sentencepiece, space_prefix, add_bos;
    void *made; /* tokenizer_to_gguf's: what the others point to */
} GgufVocabulary;
enum { GGUF_NORMAL = 1, GGUF_UNKNOWN, GGUF_CONTROL, GGUF_USER, GGUF_UNUSED, GGUF_BYTE }; /* token types */
Tokenizer *tokenizer_from_gguf(const GgufVocabulary *v, Status *st);
/* The other way, with n >= tokenizer_vocab ids; free with gguf_vocabulary_free. Fails where no kind of llama.cpp's is known
 * to give the same ids. bos, eos and add_bos are left to the caller. */
bool tokenizer_to_gguf(const Tokenizer *t, int n, GgufVocabulary *v, Status *st);
void gguf_vocabulary_free(GgufVocabulary *v);
/* The bytes that tokenizer_parse reads back: what a checkpoint stores. It is tokenizer.json as it came; where there is
 * a tokenizer_config.json, its text is the first member, "r1_tokenizer_config". Caller frees. */
char *tokenizer_serialize(const Tokenizer *t, size_t *length);
Tokenizer *tokenizer_parse(const char *bytes, size_t length, const char *where, Status *st);
void tokenizer_free(Tokenizer *t);

int tokenizer_vocab(const Tokenizer *t); /* one more than the largest id */
/* Appends the ids of text (special tokens in it are parsed; no BOS is added). Invalid UTF-8 counts as U+FFFD. */
void tokenizer_encode(const Tokenizer *t, const char *text, size_t length, Ids *out);
/* Bytes [start, end) of a text. */
typedef struct TextSpan {
    size_t start, end;
} TextSpan;
/* The same where `quoted` (n spans, ascending) holds what somebody wrote: there a control token is only text. Control tokens are
 * the special ones, and tags (<think>, <tool_call>): added tokens that begin with < and end with >. */
void tokenizer_encode_quoted(const Tokenizer *t, const char *text, size_t length, const TextSpan *quoted, int n,
                             Ids *out);
/* Bytes of ids, NUL-terminated; special tokens appear as their text when `special`, else are dropped. Invalid UTF-8
 * becomes U+FFFD. Caller frees. */
char *tokenizer_decode(const Tokenizer *t, const int32_t *ids, int n, bool special);
/* The same with its length, for text that may hold U+0000. */
char *tokenizer_decode_length(const Tokenizer *t, const int32_t *ids, int n, bool special, size_t *length);
/* The raw bytes of one token (a view) for streaming decoders; is_special may be NULL. */
const char *tokenizer_piece(const Tokenizer *t, int32_t id, size_t *length, bool *is_special);
/* The id of a token by its text, -1 when there is none. */
int32_t tokenizer_id(const Tokenizer *t, const char *text);
int32_t tokenizer_bos(const Tokenizer *t); /* -1: none */
int32_t tokenizer_eos(const Tokenizer *t);

/* The files an export writes: tokenizer.json as it came, and tokenizer_config.json (NULL: there was none). Views. */
const char *tokenizer_json_text(const Tokenizer *t, size_t *length);
const char *tokenizer_config_text(const Tokenizer *t);
/* The Jinja text of the chat template (a view), NULL when there is none; and setting it (GGUF:
 * tokenizer.chat_template). */
const char *tokenizer_chat_template(const Tokenizer *t);
void tokenizer_set_chat_template(Tokenizer *t, const char *jinja);

/* Decoding id by id without cutting a character: bytes that begin one wait for the rest. Zero-initialise. */
typedef struct TextStream {
    char held[4];
    int n, stripped;
    bool begun;
} TextStream;
/* The text that is complete after this id, "" when none is; and, at the end, U+FFFD for what never was. Caller frees.
 */
char *tokenizer_stream(const Tokenizer *t, TextStream *s, int32_t id, bool special);
char *tokenizer_stream_end(TextStream *s);

#endif
