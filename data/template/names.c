/* The built-in templates by name, and which of them a Jinja text is. */
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

static bool has(const char *text, const char *part)
{
    return strstr(text, part) != NULL;
}

/* V3 (with and without the list of system prompts) and R1 (generation prompt with and without <think>). Later ones,
 * which choose by a `thinking` variable or look at the last user message, are others. */
static bool recognise_deepseek(const char *jinja, ChatTemplate *out)
{
    if (has(jinja, "thinking") || has(jinja, "is_last_user")) return false;
    bool strips = has(jinja, "content.split('</think>')[-1]"), opens = has(jinja, "<｜Assistant｜><think>");
    find(strips ? opens ? "deepseek-r1-think" : "deepseek-r1" : "deepseek-v3", out);
    out->open_think = opens;
    out->last_system_only = !has(jinja, "is_first_sp");
    out->no_tools = has(jinja, "'tool_calls' in message");
    return true;
}

static bool recognise_chatml(const char *jinja, ChatTemplate *out)
{
    bool thinks = has(jinja, "enable_thinking");
    if (thinks && has(jinja, "reasoning_content") && has(jinja, "last_query_index")) return find("qwen3", out);
    if (thinks || has(jinja, "reasoning_content")) return false;
    if (has(jinja, "You are Qwen, created by Alibaba Cloud.") && has(jinja, "tools")) return find("qwen2.5", out);
    if (has(jinja, "tools") || !has(jinja, "content'] + '<|im_end|>'")) return false;
    if (has(jinja, "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>"))
        return find("smollm2", out);
    if (has(jinja, "You are a helpful assistant.<|im_end|>")) return find("qwen2", out);
    return !has(jinja, "<|im_start|>system") && find("chatml", out);
}

bool template_recognised(const char *jinja, ChatTemplate *out)
{
    if (has(jinja, "'<assistant>' + message['content'] + eos_token")) return find("r1-tiny", out);
    if (has(jinja, "<｜Assistant｜>")) return recognise_deepseek(jinja, out);
    if (has(jinja, "'User: ' + message['content'] + '") && has(jinja, "'Assistant: ' + message['content'] + eos_token"))
        return find("deepseek-v2", out);
    if (has(jinja, "<|im_start|>")) return recognise_chatml(jinja, out);
    if (has(jinja, "message['content'] | trim + '<|eot_id|>'") && has(jinja, "bos_token + content") &&
        !has(jinja, "tools"))
        return find("llama-3", out);
    return false;
}

bool template_for(const Tokenizer *t, const char *name, ChatTemplate *out, Status *st)
{
    if (name) return template_named(name, out, st);
    const char *jinja = tokenizer_chat_template(t);
    if (jinja && template_recognised(jinja, out)) return true;
    char *names = all_names();
    fail(st, "%s: name one with --template (%s)",
         jinja ? "the tokenizer's chat_template is none that r1 knows" : "the tokenizer has no chat_template", names);
    free(names);
    return false;
}
