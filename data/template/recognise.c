/* Which built-in a model's own chat template is: both are rendered with the same conversations and compared. A template is never
 * taken for another because of some words in it. */
#include "data/template/template.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "data/template/jinja.h"

#define USER(text)   "{\"role\": \"user\", \"content\": \"" text "\"}"
#define SYSTEM(text) "{\"role\": \"system\", \"content\": \"" text "\"}"
#define SAYS(text)   "{\"role\": \"assistant\", \"content\": \"" text "\"}"
#define CALL(content)                                                                                                  \
    "{\"role\": \"assistant\", \"content\": " content                                                                  \
    ", \"tool_calls\": [{\"type\": \"function\", \"function\": {\"name\": "                                            \
    "\"add\", \"arguments\": \"{\\\"a\\\": 2}\"}}]}"
#define TOOL(text) "{\"role\": \"tool\", \"content\": \"" text "\"}"

/* What an example asks for beside its messages, and what it is about. */
enum {
    ASKS = 1,    /* the generation prompt */
    TOOLS = 2,   /* calls of tools, content "" (Qwen) */
    NO_TEXT = 4, /* calls of tools, content null (DeepSeek) */
    QUIET = 8,   /* Qwen3's closed thought */
    SYSTEMS = 16 /* system texts that are not the first message */
};

static const struct {
    const char *messages;
    int what;
} examples[] = {
    {"[" USER(" Hi ") "]", ASKS},
    {"[" USER("Hi") "]", 0},
    {"[" SYSTEM("Be brief.") "," USER(" Hi\\n") "," SAYS(" Yo ") "," USER("Bye") "]", ASKS},
    {"[" USER("a") "," SAYS("<think>\\nb\\n</think>\\n\\nc") "]", 0},
    {"[" USER("a") "," SAYS("<think>b</think>c") "," USER("d") "," SAYS("<think>e</think>f") "]", 0},
    {"[" USER("a") "," USER("b") "]", ASKS},
    {"[" USER("a") "]", ASKS | QUIET},
    {"[" SYSTEM("A") "," SYSTEM("B") "," USER("c") "]", ASKS | SYSTEMS},
    {"[" USER("a") "," SAYS("b") "," SYSTEM("C") "," USER("d") "]", ASKS | SYSTEMS},
    {"[" USER("2+3?") "," CALL("\"\"") "," TOOL("5") "," SAYS("It is 5") "]", TOOLS},
    {"[" USER("2+3?") "," CALL("\"\"") "," TOOL("5") "]", TOOLS | ASKS},
    {"[" USER("2+3?") "," CALL("null") "," TOOL("5") "," SAYS("It is 5") "]", NO_TEXT},
    {"[" USER("2+3?") "," CALL("null") "," TOOL("5") "]", NO_TEXT | ASKS},
};
enum { EXAMPLES = sizeof examples / sizeof *examples };

static bool applies(const ChatTemplate *t, int example)
{
    int what = examples[example].what;
    bool deepseek = t->family == TEMPLATE_DEEPSEEK;
    if (what & QUIET) return t->family == TEMPLATE_QWEN3;
    if (what & SYSTEMS) return !t->first_system_only;
    if (what & (TOOLS | NO_TEXT)) return !t->no_tools && ((what & NO_TEXT) != 0) == deepseek;
    return true;
}

/* Gives up what example i is about, so that such messages are refused from then on. False: it is about everything. */
static bool give_up(ChatTemplate *t, int example)
{
    if (examples[example].what & SYSTEMS) return t->first_system_only = true;
    if (examples[example].what & (TOOLS | NO_TEXT)) return t->no_tools = true;
    return false;
}

/* BOS and EOS as the family spells them where no tokenizer says otherwise. */
static Json *variables_of(const ChatTemplate *t, int example)
{
    bool plain = t->family == TEMPLATE_PLAIN, llama = t->family == TEMPLATE_LLAMA3;
    bool deepseek = t->family == TEMPLATE_DEEPSEEK || t->family == TEMPLATE_DEEPSEEK_V2;
    Status st = {0};
    Json *v = json_new_object();
    json_set(v, "messages", json_parse(examples[example].messages, strlen(examples[example].messages), "example", &st));
    json_set(v, "add_generation_prompt", json_new_bool(examples[example].what & ASKS));
    json_set(v, "bos_token",
             json_new_text(plain      ? "<bos>"
                           : deepseek ? "<｜begin▁of▁sentence｜>"
                           : llama    ? "<|begin_of_text|>"
                                      : "(the BOS token)"));
    json_set(v, "eos_token", json_new_text(plain ? "<eos>" : deepseek ? "<｜end▁of▁sentence｜>" : "(the EOS token)"));
    if (examples[example].what & QUIET) json_set(v, "enable_thinking", json_new_bool(false));
    return v;
}

/* The longer of the common start and the common end of two texts. */
static size_t common_ends(const char *a, const char *b)
{
    size_t start = 0, end = 0, n = strlen(a), m = strlen(b);
    while (a[start] && a[start] == b[start]) start++;
    while (end < n && end < m && a[n - 1 - end] == b[m - 1 - end]) end++;
    return start > end ? start : end;
}

/* Whether example i comes out the same; else st says what differs, and *common how much is the same. */
static bool same_example(const char *jinja, const ChatTemplate *t, int i, size_t *common, Status *st)
{
    Json *v = variables_of(t, i);
    TemplateOptions options = {.add_generation_prompt = examples[i].what & ASKS,
                               .no_thinking = (examples[i].what & QUIET) != 0};
    RenderedChat ours = {0};
    Status refused = {0};
    bool known = template_render(t, json_get(v, "messages"), options, &ours, &refused);
    char *theirs = jinja_render(jinja, v, st);
    bool same = theirs && known && !strcmp(theirs, ours.text);
    *common = theirs && known ? common_ends(theirs, ours.text) : 0;
    if (theirs && !same)
        fail(st, "it is not %s, which says \"%.80s\" where it says \"%.80s\"", t->name, known ? ours.text : "nothing",
             theirs);
    free(theirs);
    rendered_free(&ours);
    json_free(v);
    return same;
}

/* Whether all examples come out the same; lenient: later system texts and tools may be given up. Else st says what differs, and
 * *likeness is larger the nearer the template is. */
static bool same_examples(const char *jinja, ChatTemplate *t, bool lenient, size_t *likeness, Status *st)
{
    for (int i = 0; i < EXAMPLES; i++) {
        Status why = {0};
        size_t common;
        if (!applies(t, i) || same_example(jinja, t, i, &common, &why) || (lenient && give_up(t, i))) continue;
        *st = why;
        *likeness = 1 + common + 10000 * (size_t)i;
        return false;
    }
    return true;
}

bool template_recognised(const char *jinja, ChatTemplate *out, Status *st)
{
    size_t best = 0, likeness;
    Status nearest = {0};
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0; template_at(i); i++)
            for (int form = 0; form < (template_at(i)->family == TEMPLATE_DEEPSEEK ? 2 : 1); form++) {
                ChatTemplate t = *template_at(i);
                Status why = {0};
                t.last_system_only ^= form; /* published templates differ in which system texts count */
                if (same_examples(jinja, &t, pass, &likeness, &why)) {
                    *out = t;
                    return true;
                }
                if (likeness > best) best = likeness, nearest = why;
            }
    return fail(st, "%s", nearest.text);
}
