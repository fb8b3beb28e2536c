/* How a model is spoken to: its tokenizer, its chat template, what ends its turn. */
#ifndef RECIPES_VOICE_H
#define RECIPES_VOICE_H

#include "checkpoints/attachments.h"
#include "core/config.h"
#include "data/template/template.h"

enum { VOICE_STOPS = 8, VOICE_TEXT = 64 };

typedef struct Voice {
    const Tokenizer *tokenizer;
    ChatTemplate chat;
    bool has_template;       /* false: chat is the plain template */
    char opened[VOICE_TEXT]; /* what the generation prompt says of the answer itself, such as "<think>\n" */
    char lead[VOICE_TEXT]; /* what the template puts between generation prompt and content, such as DeepSeek-V2's " " */
    int32_t stops[VOICE_STOPS]; /* ids that end the model's turn; the first is the one its training texts end with */
    int n_stops;
} Voice;

/* False, with a sentence: the tokenizer has ids that the embedding has no rows for, as where a token was added and the model not
 * resized. A text that holds one could not be read. config NULL: not known, true. */
bool vocabulary_fits(const Tokenizer *t, const ModelConfig *config, Status *st);

/* The template is the named one, or (name NULL or "") the tokenizer's own, or that of the built-in recipes where the tokenizer
 * has their tokens; without any of these has_template is false. Turns end with the template's marker, the tokenizer's and
 * the config's end of text (config may be NULL), those of an attached generation_config.json (a may be NULL), and
 * well-known markers. Fails on an unknown name and on a template that is there but not known. */
bool voice_open(Voice *v, const Tokenizer *t, const char *template_name, const ModelConfig *config,
                const Attachments *a, Status *st);
bool voice_stops(const Voice *v, int32_t id);

#endif
