/* What a Tokenizer is made of: for the files that make one (tokenizer_*.c here). All makers write a tokenizer.json
 * value and build from it, so that whatever exists can be stored and exported. */
#ifndef DATA_TOKENIZER_PARTS_H
#define DATA_TOKENIZER_PARTS_H

#include "data/tokenizer/added_tokens.h"
#include "data/tokenizer/bpe.h"
#include "data/tokenizer/bytemap.h"
#include "data/json.h"
#include "data/tokenizer/normalizer.h"
#include "data/tokenizer/pretokenize.h"
#include "data/tokenizer/tokenizer.h"

enum { TOKENIZER_MAX_IDS = 1 << 22 }; /* ids of a stranger's file stay below */

typedef struct Token {
    uint32_t at, length; /* its bytes in the pool */
    bool exists, special;
} Token;

struct Tokenizer {
    char *json; /* tokenizer.json as it came */
    size_t json_length;
    char *config; /* tokenizer_config.json, with the text of chat_template.jinja put in; NULL: none */
    char *chat_template;
    Token *tokens;
    int vocab;
    Text pool;
    ByteMap by_text;             /* as the file spells them */
    AddedTokens raw, normalized; /* matched before and after the normaliser */
    Normalizer normalizer;
    Pretokenizer *pre;
    Bpe bpe;
    bool bytes_out;  /* decoder ByteLevel: tokens are spelled in the byte alphabet */
    bool byte_names; /* decoder ByteFallback: <0xNN> is a byte */
    Text space[2];   /* decoder Replace or Metaspace: [0] in a token's text stands for [1]; empty: nothing does */
    Text strip;      /* decoder Strip: the character, which leaves the beginning and the end of a text so often */
    int strip_start, strip_end;
    bool bare_start; /* decoder Metaspace: the first token of a text loses its spaces */
    int32_t bos, eos;
};

/* Takes over json (text of `root`) and config (may be NULL), also on failure; does not keep root. */
Tokenizer *tokenizer_build(const Json *root, char *json, size_t json_length, char *config, const char *where,
                           Status *st);
/* The same from values; takes over both. config may be NULL. */
Tokenizer *tokenizer_from_values(Json *root, Json *config, const char *where, Status *st);

/* Values of a tokenizer.json; each takes over the values it is given. */
Json *added_token_value(int32_t id, const char *content, bool special);
Json *split_value(const char *regex);                 /* Split, Isolated */
Json *byte_level_value(bool use_regex);               /* pre_tokenizer or decoder; use_regex: GPT-2's */
Json *sequence_value(const char *member, Json *list); /* member: "pretokenizers" or "decoders" */
Json *bpe_value(Json *vocab, Json *merges, const char *unk, bool byte_fallback, bool ignore_merges);
/* The pre_tokenizer of a family by its GGUF name; NULL when it is none of pretokenizer_names. */
Json *pretokenizer_value(const char *name);
extern const char *const pretokenizer_names; /* for sentences: "a, b, c" */
/* The family whose split a GGUF name has: itself, or the one of an alias. */
const char *pretokenizer_family(const char *name);
/* The byte that "<0xNN>" names, -1 for any other text. */
int tokenizer_named_byte(const char *text, size_t length);
/* The merges of a SentencePiece vocabulary: a piece may be made of any two pieces that give its text, the piece of the highest
 * score first. */
typedef struct ScoredMerge {
    int32_t id, left, right;
} ScoredMerge;
ScoredMerge *merges_by_score(const GgufVocabulary *v, size_t *n); /* caller frees */
/* scores[v->n] in the order of v->merges. Fails when merges_by_score of them would not give the same merges. */
bool scores_of_merges(const GgufVocabulary *v, float *scores, Status *st);
/* The whole; normalizer may be NULL. */
Json *tokenizer_value(Json *added, Json *normalizer, Json *pre_tokenizer, Json *decoder, Json *model);

/* The special tokens of the project's own tokenizers, ids 0 .. SPECIAL_TOKENS-1: <unk>, which is there for the
 * characters the character tokenizer does not know, then those of tokenizer.h. The tags of reasoning and answer are
 * text to a reader, so they are added tokens that are not "special" (as in Qwen3). */
enum { SPECIAL_TOKENS = 9 };
extern const char *const special_tokens[SPECIAL_TOKENS];
Json *special_tokens_value(void);
/* tokenizer_config.json of the project's own tokenizers. */
Json *own_config_value(void);

#endif
