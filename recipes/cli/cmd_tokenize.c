/* r1 tokenize: text to token ids and back, a JSON line each. */
#include <stdlib.h>

#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/cli/json_lines.h"
#include "recipes/model/open_model.h"

typedef struct TokenizeArgs {
    const char *path;
    bool decode, special;
    Tokenizer *tokenizer;
} TokenizeArgs;

static bool encode_line(void *context, const Json *v, Status *st)
{
    const TokenizeArgs *a = context;
    size_t n;
    const char *text = json_string(v, &n);
    if (!text) return fail(st, "expected a JSON string (--decode takes arrays of ids)");
    Ids ids = {0};
    tokenizer_encode(a->tokenizer, text, n, &ids);
    Json *list = json_new_array();
    for (int i = 0; i < ids.n; i++) json_append(list, json_new_int(ids.ids[i]));
    json_line_print(list);
    free(ids.ids);
    return true;
}

static bool read_ids(const TokenizeArgs *a, const Json *list, Ids *ids, Status *st)
{
    if (!json_is_array(list)) return fail(st, "expected a JSON array of ids");
    for (size_t i = 0; i < json_count(list); i++) {
        const Json *v = json_at(list, i);
        int64_t id = json_integer(v);
        if (!json_is_integer_value(v) || id < 0 || id >= tokenizer_vocab(a->tokenizer))
            return fail(st, "element %zu is not an id from 0 to %d", i, tokenizer_vocab(a->tokenizer) - 1);
        ids_push(ids, (int32_t)id);
    }
    return true;
}

static bool decode_line(void *context, const Json *v, Status *st)
{
    const TokenizeArgs *a = context;
    Ids ids = {0};
    bool good = read_ids(a, v, &ids, st);
    if (good) {
        size_t n;
        char *text = tokenizer_decode_length(a->tokenizer, ids.ids, ids.n, a->special, &n);
        json_line_print(json_new_string(text, n));
        free(text);
    }
    free(ids.ids);
    return good;
}

int cmd_tokenize(int argc, char **argv)
{
    TokenizeArgs a = {0};
    const Option options[] = {
        {"--decode", NULL, OPTION_FLAG, &a.decode, 0, 0, "the other way: an array of ids a line gives a string a line"},
        {"--special", NULL, OPTION_FLAG, &a.special, 0, 0,
         "with --decode: keep special tokens as their text (the other way they are always parsed)"},
    };
    const Usage usage = {
        .name = "tokenize",
        .arguments = "TOKENIZER [--decode [--special]]",
        .text = "Reads a JSON string a line on standard input and prints the JSON array of its token ids. Special "
                "tokens in\n"
                "the text are parsed, no BOS is added. TOKENIZER is a folder with a tokenizer.json, that file, or a\n"
                "model that carries one (.gguf, checkpoint, RUN/stage).\n",
        .examples = "echo '\"Hello, world!\"' | r1 tokenize tests/tokenizers/qwen3\n"
                    "echo '[9707, 11, 1879, 0, 151645]' | r1 tokenize tests/tokenizers/qwen3 --decode --special\n",
        .options = options,
        .n = sizeof options / sizeof *options,
        .least = 1,
        .most = 1};
    Status st = {0};
    int count, code = command_read(&usage, argc, argv, &a.path, &count);
    if (code != COMMAND_GO) return code;
    a.tokenizer = open_tokenizer(a.path, &st);
    bool good = a.tokenizer && json_lines_answer(a.decode ? decode_line : encode_line, &a, &st);
    tokenizer_free(a.tokenizer);
    return good ? 0 : command_failed(&st);
}
