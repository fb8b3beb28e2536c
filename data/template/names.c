/* The built-in templates by name, and the one that a tokenizer asks for. */
#include "data/template/template.h"

#include <stdlib.h>
#include <string.h>

#include "data/text.h"

static const ChatTemplate templates[] = {
    {.name = "r1-tiny", .family = TEMPLATE_PLAIN, .no_tools = true},
    {.name = "plain", .family = TEMPLATE_PLAIN, .no_tools = true},
    {.name = "deepseek-v2", .family = TEMPLATE_DEEPSEEK_V2, .no_tools = true},
    {.name = "deepseek-v3", .family = TEMPLATE_DEEPSEEK},
    {.name = "deepseek-r1", .family = TEMPLATE_DEEPSEEK, .strip_reasoning = true, .last_system_only = true},
    {.name = "deepseek-r1-think",
     .family = TEMPLATE_DEEPSEEK,
     .strip_reasoning = true,
     .last_system_only = true,
     .open_think = true},
    {.name = "chatml", .family = TEMPLATE_CHATML, .no_tools = true},
    {.name = "qwen2", .family = TEMPLATE_CHATML, .default_system = "You are a helpful assistant.", .no_tools = true},
    {.name = "qwen2.5",
     .family = TEMPLATE_QWEN25,
     .default_system = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
    {.name = "qwen3", .family = TEMPLATE_QWEN3},
    {.name = "llama-3", .family = TEMPLATE_LLAMA3, .no_tools = true},
    {.name = "smollm2",
     .family = TEMPLATE_CHATML,
     .default_system = "You are a helpful AI assistant named SmolLM, trained by Hugging Face",
     .no_tools = true},
};
enum { TEMPLATES = sizeof templates / sizeof templates[0] };

ChatTemplate template_plain(void)
{
    return templates[0];
}

const ChatTemplate *template_at(int i)
{
    return i >= 0 && i < TEMPLATES ? &templates[i] : NULL;
}

static bool find(const char *name, ChatTemplate *out)
{
    for (int i = 0; i < TEMPLATES; i++) {
        if (strcmp(templates[i].name, name)) continue;
        *out = templates[i];
        return true;
    }
    return false;
}

static char *all_names(void)
{
    Text names = {0};
    for (int i = 0; i < TEMPLATES; i++) text_addf(&names, "%s%s", i ? ", " : "", templates[i].name);
    return text_take(&names);
}

bool template_named(const char *name, ChatTemplate *out, Status *st)
{
    if (find(name, out)) return true;
    char *names = all_names();
    fail(st, "there is no chat template \"%.60s\": --template takes one of %s", name, names);
    free(names);
    return false;
}

bool template_for(const Tokenizer *t, const char *name, ChatTemplate *out, Status *st)
{
    if (name) return template_named(name, out, st);
    const char *jinja = tokenizer_chat_template(t);
    Status why = {0};
    if (jinja && template_recognised(jinja, out, &why)) return true;
    char *names = all_names();
    if (jinja)
        fail(st, "the tokenizer's chat_template is none that r1 knows: %s; name one with --template (%s)", why.text,
             names);
    else fail(st, "the tokenizer has no chat_template: name one with --template (%s)", names);
    free(names);
    return false;
}
