/* Conversations to token ids and completions back to text: the one place that knows how a prompt is put to the model, and which
 * tokens of a conversation are trained.
 *
 * Messages stay a list up to the voice's template (models without one: the plain template). What a user, a system text or a tool
 * says is text: a control token in it does not count (tokenizer_encode_quoted). */
#ifndef RECIPES_PROMPTS_H
#define RECIPES_PROMPTS_H

#include "core/batches.h"
#include "core/rollout/rollout.h"
#include "data/conversation.h"
#include "data/corpus.h"
#include "recipes/model/voice.h"

/* Messages rendered and encoded. Fails where the template cannot say them. */
bool chat_encode(const Voice *v, const Json *messages, TemplateOptions options, Ids *out, Status *st);
/* The ids that a completion follows: the conversation up to where the assistant speaks. */
bool prompt_encode(const Voice *v, const Json *messages, const Json *tools, Ids *out, Status *st);

/* A training sequence: its tokens, and which of them are predicted. */
typedef struct Sequence {
    int32_t *ids;
    int n;
    TokenSpan *spans; /* ascending; from index 1 on */
    int n_spans;
} Sequence;
void sequence_free(Sequence *s);
int sequence_predicted(const Sequence *s);

typedef struct Sequences {
    Sequence *list; /* owned */
    int n, capacity;
} Sequences;
void sequences_free(Sequences *s);

/* The training sequences of a document, the one function for written, distilled and sampled ones: an assistant's turn is trained
 * from where the rendered conversation up to it leaves the rendered generation prompt before it, with its end token. Turns stand
 * in one sequence where the template renders them alike as a last and as an earlier turn; where it does not (thoughts of earlier
 * turns left out), a turn has a sequence of its own. Text rows: BOS, the text, the end token. */
bool document_encode(const Voice *v, const Document *d, Turns turns, Sequences *out, Status *st);
/* A prompt and its completion as one sequence; *first: the completion's first token. For prompts of built-in tasks, which every
 * template can say. Caller frees out->ids. */
void completion_encode(const Voice *v, const char *prompt, const char *completion, Ids *out, int *first);

/* Text of a completion without its stop token, tags shown, behind what the generation prompt has opened for it (<think>): what
 * rewards and verifiers judge. U+0000 becomes U+FFFD. Caller frees. */
char *completion_text(const Voice *v, const Completion *c);
/* The content of the message that such a text is: without what the template puts before every content. A view. */
const char *completion_content(const Voice *v, const char *text);

/* The problems of a rollout with their encoded prompts. */
typedef struct PromptSet {
    Problem *problems;
    RolloutPrompt *prompts; /* ids point into storage */
    Ids *storage;
    int n;
} PromptSet;

/* Problems first .. first + n - 1 of the mix; the RNG's prompt index is the problem's index. Fails on a row that the
 * template cannot say; the set is then empty. */
bool prompts_draw(PromptSet *s, const Voice *v, const CorpusSpec *c, uint32_t seed, Split split, uint64_t first, int n,
                  Status *st);
void prompts_free(PromptSet *s);
/* Fails when a problem is a text row, which has no prompt: nothing is sampled from it but for an evaluation. */
bool prompts_ask(const PromptSet *s, Status *st);

/* A rollout's sampling for this voice: its stops, and no id that stands for no token. */
void voice_rollout(const Voice *v, RolloutSpec *spec);

#endif
