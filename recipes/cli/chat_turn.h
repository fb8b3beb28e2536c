/* Talking with a model in text: its chat template, what ends its turn, and its words as they come. */
#ifndef RECIPES_SPEECH_H
#define RECIPES_SPEECH_H

#include <stdio.h>

#include "data/text.h"
#include "recipes/model/open_model.h"
#include "recipes/model/voice.h"

typedef struct Speech {
    Voice voice;
    int32_t think, end_think; /* -1: the vocabulary has none */
} Speech;

/* Opens its voice. Fails also when the model has no tokenizer. */
bool speech_open(Speech *s, const OpenModel *m, const char *model, const char *template_name, Status *st);

/* Appends the ids of the conversation so far, up to where the model speaks. *thinking: the template has begun its
 * thoughts. */
bool speech_encode(const Speech *s, const Json *messages, bool no_thinking, Ids *out, bool *thinking, Status *st);

/* Writes a turn token by token, whole characters only; thoughts are dimmed when `dim`. */
typedef struct Speaker {
    const Speech *speech;
    FILE *out;
    bool dim, thinking;
    TextStream stream;
    Text said; /* the turn's text without its stop token */
} Speaker;

void speaker_begin(Speaker *s, const Speech *speech, FILE *out, bool thinking);
/* RolloutSpec.on_token with the speaker as ctx. */
void speaker_token(void *speaker, int item, int32_t id);
/* Ends the turn; the text is the caller's. */
char *speaker_end(Speaker *s);

#endif
