/* r1 template: messages to the text a chat model was trained on, a JSON line each. */
#include "data/template/template.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/cli/json_lines.h"
#include "recipes/model/open_model.h"

typedef struct TemplateArgs {
    const char *path, *name;
    ChatTemplate chosen;
    TemplateOptions options;
} TemplateArgs;

static bool render_line(void *context, const Json *v, Status *st)
{
    const TemplateArgs *a = context;
    RenderedChat chat;
    if (!template_render(&a->chosen, v, a->options, &chat, st)) return false;
    json_line_print(json_new_string(chat.text, chat.length));
    rendered_free(&chat);
    return true;
}

int cmd_template(int argc, char **argv)
{
    TemplateArgs a = {0};
    const Option options[] = {
        {"--add-generation-prompt", NULL, OPTION_FLAG, &a.options.add_generation_prompt, 0, 0,
         "end with what makes the assistant speak"},
        {"--no-thinking", NULL, OPTION_FLAG, &a.options.no_thinking, 0, 0,
         "qwen3: the generation prompt closes the thoughts (enable_thinking = false)"},
        {"--template", "NAME", OPTION_TEXT, &a.name, 0, 0,
         "a built-in template instead of the tokenizer's own: r1-tiny (plain), deepseek-v2, deepseek-v3,\n"
         "deepseek-r1, deepseek-r1-think, chatml, qwen2, qwen2.5, qwen3, llama-3, smollm2"},
    };
    const Usage usage = {
        .name = "template",
        .arguments = "TOKENIZER [--add-generation-prompt] [--template NAME]",
        .text =
            "Reads a JSON array of messages a line on standard input and prints the rendered text as a JSON string.\n"
            "TOKENIZER is a folder with tokenizer.json and tokenizer_config.json, its tokenizer.json, or a\n"
            "model that carries one (.gguf, checkpoint, RUN/stage).\n",
        .examples = "echo '[{\"role\": \"user\", \"content\": \"Hi\"}]' | r1 template tests/tokenizers/qwen3 "
                    "--add-generation-prompt\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 1,
        .most = 1};
    Status st = {0};
    int count, code = command_read(&usage, argc, argv, &a.path, &count);
    if (code != COMMAND_GO) return code;
    if (a.name && !template_named(a.name, &a.chosen, &st)) return command_usage(&usage, "%s", st.text);
    Tokenizer *t = open_tokenizer(a.path, &st);
    a.options.tokenizer = t;
    bool good = t && template_for(t, a.name, &a.chosen, &st) && json_lines_answer(render_line, &a, &st);
    tokenizer_free(t);
    return good ? 0 : command_failed(&st);
}
