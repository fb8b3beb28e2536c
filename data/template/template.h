/* Chat templates: messages -> the text a model was trained on. Named built-ins in place of a Jinja engine; a model's
 * own Jinja text is rendered with example conversations, and the built-in that gives the same texts is used for it.
 *
 * messages is a JSON array of {"role", "content"}; where the family knows tools also "tool_calls" and role "tool", for
 * Qwen3 "reasoning_content" (docs/formats.md 4 and 6). */
#ifndef DATA_TEMPLATE_H
#define DATA_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "core/base/status.h"
#include "data/json.h"
#include "data/tokenizer/tokenizer.h"

typedef enum {
    TEMPLATE_PLAIN, /* <bos>[system]<user>text<assistant>text<eos>: our own recipes' */
    TEMPLATE_DEEPSEEK_V2,
    TEMPLATE_DEEPSEEK, /* V3 and R1 */
    TEMPLATE_CHATML,   /* also Qwen2, SmolLM2 */
    TEMPLATE_QWEN25,
    TEMPLATE_QWEN3,
    TEMPLATE_LLAMA3
} TemplateFamily;

typedef struct ChatTemplate {
    const char *name;
    TemplateFamily family;
    const char *default_system; /* ChatML, Qwen2.5: what stands where no system message is; NULL: nothing */
    bool strip_reasoning;       /* DeepSeek: of an assistant's text what follows its last </think> */
    bool open_think;            /* DeepSeek: the generation prompt ends in "<think>\n" */
    bool last_system_only;      /* DeepSeek: the last system message counts, not all of them */
    bool no_tools;              /* tool messages are refused */
    bool
        first_system_only; /* a system message that is not the first is refused: the model's own template says it otherwise */
} ChatTemplate;

/* The template of our own recipes, "r1-tiny" and "plain" by name. */
ChatTemplate template_plain(void);
/* The built-in of that name; else fails and lists the names. */
bool template_named(const char *name, ChatTemplate *out, Status *st);
/* The i-th built-in; NULL behind the last. */
const ChatTemplate *template_at(int i);
/* The built-in that renders as this Jinja text does, found by rendering a set of conversations with both: every one must come out
 * the same. Else fails, saying what differs from the nearest built-in, or which construct of it cannot be checked. */
bool template_recognised(const char *jinja, ChatTemplate *out, Status *st);
/* The template to use with a tokenizer: the named one, or (name NULL) the tokenizer's own. Fails with a sentence that
 * names --template when it has none or an unknown one. */
bool template_for(const Tokenizer *t, const char *name, ChatTemplate *out, Status *st);

typedef struct TemplateOptions {
    bool add_generation_prompt;
    bool no_thinking; /* Qwen3: enable_thinking = false */
    bool
        as_said; /* the last message, an assistant's, as the model says it behind the generation prompt: with its thought
                     (reasoning_content, or <think> in the content) where the family leaves thoughts out of past turns, and
                     behind the <think> that the generation prompt opens */
    const Json *tools;          /* Qwen2.5, Qwen3: function signatures; may be NULL */
    const Tokenizer *tokenizer; /* says how BOS and EOS are spelled where the template asks; NULL: as usual for it */
} TemplateOptions;

typedef struct RenderedChat {
    char *text; /* NUL-terminated */
    size_t length;
    TextSpan
        *spans; /* what the assistant says: the end marker is inside, the role header and ChatML's newline behind the
                        marker are not */
    int n;
    TextSpan *quoted; /* what users, system texts and tools say, for tokenizer_encode_quoted */
    int n_quoted;
} RenderedChat;

/* Renders; *out is the caller's to free with rendered_free. Fails when a message has not the shape the template needs.
 */
bool template_render(const ChatTemplate *t, const Json *messages, TemplateOptions options, RenderedChat *out,
                     Status *st);
void rendered_free(RenderedChat *r);

#endif
