/* r1 chat: a conversation on standard input and output. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/run/interrupt.h"
#include "recipes/cli/sampling.h"
#include "recipes/cli/chat_turn.h"
#include "recipes/model/prompts.h"

typedef struct ChatArgs {
    const char *model, *template_name, *system;
    Sampling sampling;
    bool no_thinking;
    RuntimeOptions runtime;
} ChatArgs;

static void add_message(Json *messages, const char *role, const char *text)
{
    Json *o = json_new_object();
    json_set(o, "role", json_new_text(role));
    json_set(o, "content", json_new_text(text));
    json_append(messages, o);
}

static Json *new_conversation(const ChatArgs *a)
{
    Json *messages = json_new_array();
    if (a->system) add_message(messages, "system", a->system);
    return messages;
}

/* The model's turn: streamed, and added to the conversation. Ctrl-C ends the turn, not the conversation. */
static bool answer(const ChatArgs *a, OpenModel *m, const Speech *speech, Json *messages, int turn, Status *st)
{
    Ids ids = {0};
    Speaker speaker;
    Completion c;
    bool thinking, ok = speech_encode(speech, messages, a->no_thinking, &ids, &thinking, st);
    if (ok) {
        RolloutPrompt prompt = {ids.ids, ids.n, (uint32_t)turn};
        RolloutSpec spec = sampling_spec(&a->sampling, 1);
        spec.cancel = &interrupted;
        spec.stops = speech->voice.stops;
        spec.n_stops = speech->voice.n_stops;
        spec.sampling.vocab_used = tokenizer_vocab(speech->voice.tokenizer);
        spec.on_token = speaker_token;
        spec.on_token_ctx = &speaker;
        speaker_begin(&speaker, speech, stdout, thinking);
        interrupt_catch();
        ok = rollout_run(m->policy->sampler, &m->policy->w, &spec, &prompt, 1, &c, NULL, st);
        interrupt_release();
        if (!ok && interrupted) {
            status_clear(st);
            interrupted = 0;
            ok = true;
        }
        char *said = speaker_end(&speaker);
        add_message(messages, "assistant", completion_content(&speech->voice, said));
        free(said);
    }
    free(ids.ids);
    return ok;
}

static bool converse(const ChatArgs *a, OpenModel *m, const Speech *speech, Status *st)
{
    bool terminal = isatty(STDIN_FILENO), ok = true;
    /* Models of the built-in recipes saw one turn at a time in training. */
    bool single_turns = speech->voice.has_template && speech->voice.chat.family == TEMPLATE_PLAIN;
    char *line = NULL;
    size_t size = 0;
    Json *messages = new_conversation(a);
    interrupt_release();
    if (terminal) printf("An empty line or /new begins anew, Ctrl-D ends.\n");
    for (int turn = 0; ok; turn++) {
        if (terminal) fputs("> ", stdout), fflush(stdout);
        ssize_t n = getline(&line, &size, stdin);
        if (n < 0) break;
        line[strcspn(line, "\r\n")] = 0;
        bool anew = !*line || !strcmp(line, "/new");
        if (anew || (single_turns && turn > 0)) {
            json_free(messages);
            messages = new_conversation(a);
        }
        if (anew) continue;
        add_message(messages, "user", line);
        ok = answer(a, m, speech, messages, turn, st);
    }
    if (terminal && ok) putchar('\n');
    json_free(messages);
    free(line);
    return ok;
}

static int read_args(int argc, char **argv, ChatArgs *a)
{
    const Option options[] = {
        {"--system", "TEXT", OPTION_TEXT, &a->system, 0, 0, "a system message before the conversation"},
        {"--template", "NAME", OPTION_TEXT, &a->template_name, 0, 0, "a template by name instead of the model's own"},
        {"--no-thinking", NULL, OPTION_FLAG, &a->no_thinking, 0, 0, "qwen3: answer without thoughts"},
        SAMPLING_OPTIONS(a->sampling),
        ADAPTER_OPTION(a->runtime),
    };
    const Usage usage = {.name = "chat",
                         .arguments = "MODEL [options]",
                         .text = "A conversation: a line from you, an answer from the model, word by word.\n"
                                 "Thoughts are dimmed on a terminal. Models of the built-in recipes know single\n"
                                 "turns: to them every line is a new conversation.\n",
                         .examples = "r1 run micro --until zero\necho 'sort 4132' | r1 chat runs/micro/zero\n",
                         .options = options,
                         .n = sizeof options / sizeof *options,
                         .least = 1,
                         .most = 1,
                         .runtime = &a->runtime};
    int count;
    return command_read(&usage, argc, argv, &a->model, &count);
}

int cmd_chat(int argc, char **argv)
{
    ChatArgs a = {.sampling = sampling_defaults(), .runtime = runtime_defaults()};
    a.sampling.max_tokens = 1024;
    Status st = {0};
    OpenModel m;
    Speech speech;
    int code = read_args(argc, argv, &a);
    if (code != COMMAND_GO) return code;
    if (!open_model(&m, a.model, &a.runtime, &st)) return command_failed(&st);
    bool ok = open_model_speaks(&m, a.model, &st) && speech_open(&speech, &m, a.model, a.template_name, &st);
    if (ok && !speech.voice.has_template)
        ok = fail(&st, "%s has no chat template; name one with --template, or use r1 generate --raw", a.model);
    ok = ok && converse(&a, &m, &speech, &st);
    open_model_close(&m);
    return ok ? 0 : command_failed(&st);
}
