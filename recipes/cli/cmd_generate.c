/* r1 generate: continuations of a prompt, or of token sequences. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/check.h"
#include "core/base/clock.h"
#include "core/rollout/draft.h"
#include "recipes/cli/command.h"
#include "recipes/cli/commands.h"
#include "recipes/plan/placement.h"
#include "recipes/run/interrupt.h"
#include "recipes/cli/json_lines.h"
#include "recipes/cli/sampling.h"
#include "recipes/cli/chat_turn.h"
#include "recipes/cli/token_lines.h"

typedef struct GenerateArgs {
    const char *model, *prompt, *ids, *template_name;
    Sampling sampling;
    bool raw, json;
    RuntimeOptions runtime;
} GenerateArgs;

static int read_args(int argc, char **argv, GenerateArgs *a)
{
    const Option options[] = {
        {"--prompt", "TEXT", OPTION_TEXT, &a->prompt, 0, 0,
         "put to the model in its chat template; it answers until its end token"},
        {"--raw", NULL, OPTION_FLAG, &a->raw, 0, 0, "continue the text of --prompt as it is: no template, no BOS"},
        {"--template", "NAME", OPTION_TEXT, &a->template_name, 0, 0, "a template by name instead of the model's own"},
        {"--ids", "FILE", OPTION_TEXT, &a->ids, 0, 0,
         "instead: JSON lines {\"ids\": [..]} (- is standard input), each continued by\nexactly --max-tokens ids"},
        SAMPLING_OPTIONS(a->sampling),
        {"--draft", "N", OPTION_INT, &a->sampling.draft, 0, DRAFT_MOST,
         "tokens that a module of multi-token prediction guesses a step; the text is\nthe same, and what was accepted "
         "is told (default 0)"},
        ADAPTER_OPTION(a->runtime),
        {"--json", NULL, OPTION_FLAG, &a->json, 0, 0,
         "a line {\"ids\": [new ids]} for each (and \"text\" with --prompt)"},
    };
    const Usage usage = {.name = "generate",
                         .arguments = "MODEL --prompt TEXT | --ids FILE.jsonl [options]",
                         .text =
                             "Samples a continuation. The same seed gives the same text on every machine of a kind.\n",
                         .examples = "echo '{\"ids\": [3, 1, 4]}' | r1 generate tests/golden/v2_lite --ids - "
                                     "--max-tokens 8 --temperature 0 --json\n"
                                     "r1 run micro --until zero\nr1 generate runs/micro/zero --prompt 'sort 4132'\n",
                         .options = options,
                         .n = sizeof options / sizeof *options,
                         .least = 1,
                         .most = 1,
                         .runtime = &a->runtime};
    int count, code = command_read(&usage, argc, argv, &a->model, &count);
    if (code != COMMAND_GO) return code;
    if (!a->ids == !a->prompt) return command_usage(&usage, "it needs one of --prompt and --ids");
    return COMMAND_GO;
}

static Json *ids_json(const Completion *c)
{
    Json *list = json_new_array();
    for (int i = 0; i < c->n; i++) json_append(list, json_new_int(c->ids[i]));
    return list;
}

static void print_completion(const GenerateArgs *a, const Tokenizer *t, const Completion *c)
{
    char *text = t ? tokenizer_decode(t, c->ids, c->n, !a->prompt) : NULL;
    if (a->json) {
        Json *o = json_new_object();
        json_set(o, "ids", ids_json(c));
        if (a->prompt) json_set(o, "text", json_new_text(text));
        json_line_print(o);
    } else {
        puts(text);
    }
    free(text);
}

/* What --max-tokens cannot give is said. */
static void note_positions(const GenerateArgs *a, const OpenModel *m, int prompt)
{
    int positions = m->policy->config.max_positions;
    if (prompt < positions && prompt + a->sampling.max_tokens > positions)
        fprintf(stderr,
                "r1 generate: the model has positions for %d tokens (max_position_embeddings): completions end there\n",
                positions);
}

static void note_drafts(const GenerateArgs *a, const RolloutStats *s, double seconds)
{
    if (a->sampling.draft)
        fprintf(stderr, "r1 generate: %ld tokens in %ld steps, %.3f s; of %ld guesses %ld were right (%.0f %%)\n",
                s->tokens, s->steps, seconds, s->drafted, s->accepted,
                s->drafted ? 100.0 * (double)s->accepted / (double)s->drafted : 0.0);
}

/* Every line of --ids, in one continuous batch. */
static bool continue_ids(const GenerateArgs *a, OpenModel *m, Status *st)
{
    TokenLines lines;
    if (!a->json && !open_model_reads_text(m, a->model, st)) return false;
    if (!token_lines_read(&lines, a->ids, m->policy->config.V, a->runtime.skip_bad, st)) return false;
    RolloutPrompt *prompts = calloc((size_t)lines.n, sizeof *prompts);
    Completion *out = calloc((size_t)lines.n, sizeof *out);
    CHECK(prompts && out);
    for (int i = 0; i < lines.n; i++) prompts[i] = (RolloutPrompt){lines.lines[i].ids, lines.lines[i].n, (uint32_t)i};
    RolloutSpec spec = sampling_spec(&a->sampling, lines.n);
    spec.cancel = &interrupted;
    int longest = 0;
    for (int i = 0; i < lines.n; i++) longest = prompts[i].n > longest ? prompts[i].n : longest;
    note_positions(a, m, longest);
    RolloutStats stats;
    double began = clock_seconds();
    bool ok = rollout_run(m->policy->sampler, &m->policy->w, &spec, prompts, lines.n, out, &stats, st);
    if (ok) note_drafts(a, &stats, clock_seconds() - began);
    for (int i = 0; i < lines.n && ok; i++) print_completion(a, m->file->tokenizer, &out[i]);
    free(prompts);
    free(out);
    token_lines_free(&lines);
    return ok;
}

static bool encode_prompt(const GenerateArgs *a, const Speech *s, Ids *ids, bool *thinking, Status *st)
{
    *thinking = false;
    if (a->raw || !s->voice.has_template) {
        tokenizer_encode(s->voice.tokenizer, a->prompt, strlen(a->prompt), ids);
        return ids->n > 0 || fail(st, "--prompt is empty; give the model at least one token");
    }
    Json *messages = json_new_array(), *message = json_new_object();
    json_set(message, "role", json_new_text("user"));
    json_set(message, "content", json_new_text(a->prompt));
    json_append(messages, message);
    bool ok = speech_encode(s, messages, false, ids, thinking, st);
    json_free(messages);
    return ok;
}

static bool answer_prompt(const GenerateArgs *a, OpenModel *m, Status *st)
{
    Speech speech;
    Speaker speaker;
    Ids ids = {0};
    Completion c;
    bool thinking;
    if (!speech_open(&speech, m, a->model, a->template_name, st)) return false;
    bool ok = encode_prompt(a, &speech, &ids, &thinking, st);
    if (ok) {
        RolloutPrompt prompt = {ids.ids, ids.n, 0};
        RolloutSpec spec = sampling_spec(&a->sampling, 1);
        spec.cancel = &interrupted;
        spec.stops = speech.voice.stops;
        spec.n_stops = speech.voice.n_stops;
        note_positions(a, m, ids.n);
        spec.sampling.vocab_used = tokenizer_vocab(speech.voice.tokenizer);
        if (!a->json) {
            speaker_begin(&speaker, &speech, stdout, thinking);
            spec.on_token = speaker_token;
            spec.on_token_ctx = &speaker;
        }
        RolloutStats stats;
        double began = clock_seconds();
        ok = rollout_run(m->policy->sampler, &m->policy->w, &spec, &prompt, 1, &c, &stats, st);
        if (!a->json) free(speaker_end(&speaker));
        else if (ok) print_completion(a, speech.voice.tokenizer, &c);
        if (ok) note_drafts(a, &stats, clock_seconds() - began);
    }
    free(ids.ids);
    return ok;
}

int cmd_generate(int argc, char **argv)
{
    GenerateArgs a = {.sampling = sampling_defaults(), .runtime = runtime_defaults()};
    Status st = {0};
    OpenModel m;
    int code = read_args(argc, argv, &a);
    if (code != COMMAND_GO) return code;
    if (!open_model(&m, a.model, &a.runtime, &st)) return command_failed(&st);
    bool ok = open_model_speaks(&m, a.model, &st) && (a.ids ? continue_ids(&a, &m, &st) : answer_prompt(&a, &m, &st));
    if (ok && !a.ids) placement_compare(&m.machine, m.file, &m.placing, NULL);
    open_model_close(&m);
    return ok ? 0 : command_failed(&st);
}
