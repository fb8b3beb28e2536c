/* One line of a user's file: its columns, checked. */
#include "data/dataset_row.h"

#include <stdlib.h>
#include <string.h>

#include "data/answer.h"
#include "data/choice.h"
#include "data/conversation.h"
#include "data/sandbox/code_tests.h"
#include "data/text.h"
#include "data/verify.h"

/* The row's "numbers" in out; how many, -1 when there are none, 0 when they are not a list of at most max integers. */
static int row_numbers(const Json *row, long *out, int max)
{
    const Json *list = json_get(row, "numbers");
    if (list == NULL) return -1;
    if (!json_is_array(list) || json_count(list) > (size_t)max) return 0;
    int n = (int)json_count(list);
    for (int i = 0; i < n; i++) {
        if (!json_is_integer_value(json_at(list, (size_t)i))) return 0;
        out[i] = (long)json_integer(json_at(list, (size_t)i));
    }
    return n;
}

/* The option that an answer names is the one that the gold answer names. */
static Reason verify_choice(const Problem *p, const char *answer)
{
    Choice c;
    Status st = {0};
    if (!choice_read(&c, p->row, &st)) return REASON_UNPARSEABLE;
    int said = choice_named(&c, answer), gold = choice_named(&c, p->answer);
    choice_free(&c);
    return said < 0 ? REASON_UNPARSEABLE : said == gold ? REASON_CORRECT : REASON_WRONG_ANSWER;
}

Verdict row_verify(const Problem *p, const char *answer)
{
    long numbers[VERIFY_MAX_NUMBERS];
    if (p->answer[0] == '\0' && p->verifier != VERIFIER_TESTS) return verdict_of(REASON_UNPARSEABLE);
    int n = row_numbers(p->row, numbers, VERIFY_MAX_NUMBERS);
    switch (p->verifier) {
    case VERIFIER_INTEGER: return verdict_of(verify_integer(p->answer, answer));
    case VERIFIER_RATIONAL: return verdict_of(verify_rational(p->answer, answer));
    case VERIFIER_CHOICE: return verdict_of(verify_choice(p, answer));
    case VERIFIER_TESTS: return verdict_of(REASON_NOT_RUN); /* task_verify_all runs them */
    case VERIFIER_EXPRESSION:
        return verdict_of(n < 0 ? verify_expression_like(p->answer, answer)
                                : verify_expression(p->answer, numbers, n, answer));
    default: return verdict_of(verify_exact(p->answer, answer));
    }
}

/* ---- Prompts and replies ---- */

/* A trimmed copy. */
static char *copy_trimmed(const char *s, size_t n)
{
    static const char blanks[] = " \t\r\n";
    while (n > 0 && strchr(blanks, *s) != NULL) {
        s++;
        n--;
    }
    while (n > 0 && strchr(blanks, s[n - 1]) != NULL) n--;
    return text_copy(s, n);
}

/* Of columns with the same meaning, the first that is there (null is not). */
static const Json *column(const Json *row, const char *const *names, int n, const char **name)
{
    for (int i = 0; i < n; i++) {
        const Json *v = json_get(row, names[i]);
        if (v == NULL || json_is_null_value(v)) continue;
        if (name != NULL) *name = names[i];
        return v;
    }
    return NULL;
}
#define COLUMN(row, names, name) column(row, names, sizeof(names) / sizeof *(names), name)

enum { SOLUTION_MAX = 256 }; /* bytes of an answer in a column of solutions */
static const char *const prompt_columns[] = {"prompt", "question", "problem"};
static const char *const chat_columns[] = {"messages", "conversations"};

/* The messages that are answered, from a list that the row keeps none of. */
static bool set_prompt(DatasetRow *row, Json *messages)
{
    row->messages = messages;
    row->prompt = conversation_text(messages);
    return true;
}

static bool read_prompt(DatasetRow *row, const Json *prompt, const char *name, Status *st)
{
    if (json_is_string(prompt)) {
        char *text = json_text_copy(prompt), *bare = copy_trimmed(text, strlen(text));
        set_prompt(row, conversation_of_prompt(bare));
        free(bare);
        free(text);
        return true;
    }
    if (!json_is_array(prompt)) return fail(st, "\"%s\" must be a string or a list of messages", name);
    Json *messages = conversation_read(prompt, st);
    if (messages == NULL) return false;
    set_prompt(row, messages);
    return !conversation_ends_with_assistant(messages) || fail(st, "\"%s\" ends with the assistant's message", name);
}

/* The messages of a "completion", "chosen" or "rejected": a string, or messages that end with the assistant's: all of
 * them when they begin with the assistant, else (the whole conversation is repeated) the last. NULL: failed. */
static Json *read_reply(const Json *v, const char *key, Status *st)
{
    if (json_is_string(v)) {
        char *text = json_text_copy(v);
        Json *reply = conversation_new();
        conversation_add(reply, "assistant", text);
        free(text);
        return reply;
    }
    Json *list = json_is_array(v) ? conversation_read(v, st) : NULL;
    if (list == NULL || !conversation_ends_with_assistant(list)) {
        fail(st, "\"%s\" must be a string or messages that end with the assistant's", key);
        json_free(list);
        return NULL;
    }
    size_t n = json_count(list);
    bool whole = strcmp(json_get_string(json_at(list, 0), "role", ""), "assistant") == 0;
    if (whole) return list;
    Json *last = conversation_part(list, n - 1, n);
    json_free(list);
    return last;
}

static char *last_said(const Json *reply)
{
    return conversation_said(json_at(reply, json_count(reply) - 1));
}

static void set_reply(DatasetRow *row, Json *reply)
{
    row->reply = reply;
    row->completion = last_said(reply);
}

/* A conversation: what stands before the last message is answered by it, where the assistant says it. */
static bool read_messages(DatasetRow *row, const Json *list, Status *st)
{
    Json *all = conversation_read(list, st);
    if (all == NULL) return false;
    size_t n = json_count(all);
    bool replied = conversation_ends_with_assistant(all);
    row->kind = replied ? ROW_MESSAGES : ROW_RL;
    set_prompt(row, conversation_part(all, 0, n - replied));
    if (replied) set_reply(row, conversation_part(all, n - 1, n));
    json_free(all);
    return true;
}

/* How much of two strings is their prompt, as TRL finds it: their common start, not ending inside a character, and
 * without the blank before the first difference. */
static size_t common_start(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] != '\0' && a[n] == b[n]) n++;
    while (n > 0 && ((unsigned char)a[n] & 0xc0) == 0x80) n--;
    return n > 0 && a[n - 1] == ' ' ? n - 1 : n;
}

static bool implicit_texts(DatasetRow *row, const Json *chosen, const Json *rejected)
{
    char *a = json_text_copy(chosen), *b = json_text_copy(rejected);
    size_t n = common_start(a, b);
    char *prompt = text_copy(a, n);
    Json *reply = conversation_new();
    conversation_add(reply, "assistant", a + n);
    set_prompt(row, conversation_of_prompt(prompt));
    set_reply(row, reply);
    row->rejected = text_copy(b + n, strlen(b + n));
    free(prompt);
    free(a);
    free(b);
    return true;
}

static bool implicit_messages(DatasetRow *row, const Json *chosen, const Json *rejected, Status *st)
{
    Json *a = conversation_read(chosen, st), *b = a != NULL ? conversation_read(rejected, st) : NULL;
    bool ok = b != NULL;
    if (ok && (!conversation_ends_with_assistant(a) || !conversation_ends_with_assistant(b)))
        ok = fail(st, "\"chosen\" and \"rejected\" must end with the assistant's message");
    size_t n = json_count(a);
    if (ok) {
        set_prompt(row, conversation_part(a, 0, n - 1));
        set_reply(row, conversation_part(a, n - 1, n));
        row->rejected = last_said(b);
    }
    json_free(a);
    json_free(b);
    return ok;
}

/* Preference pairs without "prompt": the shared beginning of chosen and rejected is it. */
static bool read_implicit(DatasetRow *row, const Json *chosen, const Json *rejected, Status *st)
{
    if (json_is_string(chosen) && json_is_string(rejected)) return implicit_texts(row, chosen, rejected);
    if (json_is_array(chosen) && json_is_array(rejected)) return implicit_messages(row, chosen, rejected, st);
    return fail(st, "\"chosen\" and \"rejected\" must both be strings or both lists of messages");
}

static bool read_preference(DatasetRow *row, const Json *prompt, const char *name, Status *st)
{
    const Json *chosen = json_get(row->row, "chosen"), *rejected = json_get(row->row, "rejected");
    row->kind = ROW_PREFERENCE;
    if (rejected == NULL) return fail(st, "\"chosen\" stands without \"rejected\"");
    bool ok;
    if (prompt == NULL) {
        ok = read_implicit(row, chosen, rejected, st);
    } else {
        Json *reply = NULL, *other = NULL;
        ok = read_prompt(row, prompt, name, st) && (reply = read_reply(chosen, "chosen", st)) != NULL &&
             (other = read_reply(rejected, "rejected", st)) != NULL;
        if (reply != NULL) set_reply(row, reply);
        if (other != NULL) row->rejected = last_said(other);
        json_free(other);
    }
    if (ok && strcmp(row->completion, row->rejected) == 0) return fail(st, "\"chosen\" and \"rejected\" are equal");
    return ok;
}

/* ---- The gold answer ---- */

/* What a worked solution ends in: what follows the last "####" (GSM8K), else its last \boxed{..}, else all of it.
 * *steps: bytes of the text that are its steps. */
static char *solution_answer(const char *text, size_t *steps)
{
    const char *mark = NULL, *inside;
    size_t n, all = strlen(text);
    for (const char *at = strstr(text, "####"); at != NULL; at = strstr(at + 4, "####")) mark = at;
    *steps = mark != NULL ? (size_t)(mark - text) : 0;
    if (mark != NULL) return copy_trimmed(mark + 4, strlen(mark + 4));
    if (!answer_boxed(text, all, &inside, &n)) return copy_trimmed(text, all);
    *steps = n + sizeof "\\boxed{}" < all ? all : 0;
    return copy_trimmed(inside, n);
}

/* The column that holds it: r1's "answer", TRL's "solution", verl's reward_model.ground_truth. */
static const Json *gold_column(const Json *row, const char **name)
{
    static const char *const names[] = {"answer", "solution", "ground_truth"};
    const Json *v = COLUMN(row, names, name), *model = json_get(row, "reward_model");
    if (v != NULL) return v;
    *name = "reward_model.ground_truth";
    v = json_get(model, "ground_truth");
    return v != NULL && !json_is_null_value(v) ? v : NULL;
}

static bool set_gold(DatasetRow *row, const Json *gold, const char *name, Status *st)
{
    if (json_is_number(gold)) {
        row->answer = json_write(gold, false);
        return true;
    }
    char *text = json_text_copy(gold);
    if (text == NULL) return fail(st, "\"%s\" must be a string or a number", name);
    size_t steps, n;
    const char *s = json_string(gold, &n);
    bool nul = memchr(s, 0, n) != NULL;
    row->answer = solution_answer(text, &steps);
    if (steps > 0) row->trace = copy_trimmed(text, steps);
    /* A whole solution without a mark is nothing that a completion could say: the row has no gold answer. */
    if (steps == 0 && strcmp(name, "solution") == 0 &&
        (strchr(row->answer, '\n') || strlen(row->answer) > SOLUTION_MAX))
        row->answer[0] = '\0';
    free(text);
    return !nul || fail(st, "\"%s\" holds U+0000, which no answer can", name);
}

/* Where the row names none: rational for a gold answer that is a number in plain digits, else exact. */
static Verifier default_verifier(const char *gold)
{
    const char *s = gold + (*gold == '-');
    size_t n = strspn(s, "0123456789");
    bool whole = n > 0 && (n == 1 || s[0] != '0');
    if (whole && s[n] == '.') n += 1 + strspn(s + n + 1, "0123456789");
    return whole && s[n] == '\0' ? VERIFIER_RATIONAL : VERIFIER_EXACT;
}

static bool check_gold(DatasetRow *row, Status *st)
{
    long numbers[VERIFY_MAX_NUMBERS];
    Verifier v = row->verifier;
    int n = row_numbers(row->row, numbers, VERIFY_MAX_NUMBERS);
    if (v == VERIFIER_EXPRESSION && n == 0)
        return fail(st, "\"numbers\" must be a list of 1 to %d integers", VERIFY_MAX_NUMBERS);
    if (!verify_gold(v, row->answer, n < 0 ? NULL : numbers, n))
        return fail(st, "the answer \"%.60s\" is not one the %s verifier can read%s", row->answer, verifier_name(v),
                    v == VERIFIER_EXPRESSION && n < 0 ? " (a target needs \"numbers\": [..] beside it)" : "");
    return true;
}

/* The row's "verifier", if it names one. */
static bool read_verifier(DatasetRow *row, bool *has_name, Status *st)
{
    const Json *named = json_get(row->row, "verifier");
    const char *verifier = json_string(named, NULL);
    Text names = {0};
    *has_name = named != NULL && !json_is_null_value(named);
    if (!*has_name || (verifier != NULL && verifier_find(verifier, &row->verifier))) return true;
    for (int v = 0; v < VERIFIER_COUNT; v++) text_addf(&names, "%s%s", v > 0 ? ", " : "", verifier_name((Verifier)v));
    if (verifier == NULL) fail(st, "\"verifier\" must be a string (%s)", names.p);
    else fail(st, "unknown verifier \"%s\" (%s)", verifier, names.p);
    free(names.p);
    return false;
}

/* A program is taken as it is, from the column that holds one. */
static bool read_program(DatasetRow *row, Status *st)
{
    static const char *const names[] = {"answer", "solution", "code"};
    const char *name;
    const Json *v = COLUMN(row->row, names, &name);
    row->answer = json_is_string(v) ? json_text_copy(v) : text_copy("", 0);
    return code_tests_check(row->row, st);
}

/* The text of the right option. */
static bool read_choice(DatasetRow *row, Status *st)
{
    Choice c;
    if (!choice_read(&c, row->row, st)) return false;
    row->answer = text_copy(c.text[c.right], strlen(c.text[c.right]));
    choice_free(&c);
    return true;
}

/* The gold answer, else the answer part of the completion. */
static bool read_answer(DatasetRow *row, Status *st)
{
    const char *name = "";
    bool has_name;
    const Json *gold = gold_column(row->row, &name);
    if (!read_verifier(row, &has_name, st)) return false;
    if (row->verifier == VERIFIER_TESTS) return read_program(row, st);
    if (row->verifier == VERIFIER_CHOICE) return read_choice(row, st);
    if (gold == NULL) {
        const char *completion = row->completion != NULL ? row->completion : "";
        Parsed c = completion_parse(completion);
        const char *close = strstr(completion, "</think>"), *behind = close != NULL ? close + 8 : completion;
        row->answer = c.has_answer ? text_copy(c.answer, c.answer_length) : copy_trimmed(behind, strlen(behind));
        if (row->answer[0] == '\0') return !has_name || fail(st, "\"verifier\" stands without \"answer\"");
    } else if (!set_gold(row, gold, name, st)) {
        return false;
    } else if (row->answer[0] == '\0') {
        return !has_name || fail(st, "\"%s\" is empty", name);
    }
    if (!has_name) row->verifier = gold == NULL ? VERIFIER_EXACT : default_verifier(row->answer);
    if (!has_name && gold != NULL && json_is_number(gold)) row->verifier = VERIFIER_RATIONAL;
    return check_gold(row, st);
}

/* ---- Labels ---- */

/* The place of a string column's value in a NULL-ended list of names; `otherwise` where the column is not there. -1:
 * failed. */
static int read_name(const Json *row, const char *key, const char *(*name_of)(int), int otherwise, Status *st)
{
    const Json *v = json_get(row, key);
    if (v == NULL || json_is_null_value(v)) return otherwise;
    const char *given = json_string(v, NULL);
    Text names = {0};
    for (int k = 0; name_of(k) != NULL; k++) {
        if (given != NULL && strcmp(given, name_of(k)) == 0) {
            free(names.p);
            return k;
        }
        text_addf(&names, "%s%s", k > 0 ? ", " : "", name_of(k));
    }
    if (given != NULL) fail(st, "unknown %s \"%.40s\" (%s)", key, given, names.p);
    else fail(st, "\"%s\" must be a string (%s)", key, names.p);
    free(names.p);
    return -1;
}

/* "kind" and "language", or what they are without. */
static bool read_labels(DatasetRow *row, Status *st)
{
    bool english = language_share(row->prompt, strlen(row->prompt), LANGUAGE_EN) >= 0.5f;
    int kind = read_name(row->row, "kind", prompt_kind_name, KIND_REASONING, st);
    int language = read_name(row->row, "language", language_name, english ? LANGUAGE_EN : LANGUAGE_ZH, st);
    if (kind < 0 || language < 0) return false;
    row->prompt_kind = (PromptKind)kind;
    row->language = (Language)language;
    return true;
}

/* "tools": a list of function signatures, or its JSON in a string. */
static bool read_tools(DatasetRow *row, Status *st)
{
    const Json *tools = json_get(row->row, "tools");
    size_t n;
    const char *text = json_string(tools, &n);
    if (tools == NULL || json_is_null_value(tools) || (text != NULL && n == 0)) return true;
    row->tools = text != NULL ? json_parse(text, n, "\"tools\"", st) : json_copy(tools);
    if (row->tools == NULL) return false;
    return json_is_array(row->tools) || fail(st, "\"tools\" must be a list");
}

/* What an RL row teaches when it is used for SFT: its trace and answer in tags, or the bare answer. */
static void teach(DatasetRow *row)
{
    if (row->answer[0] == '\0') return;
    char *own = json_text_copy(json_get(row->row, "trace"));
    const char *trace = own != NULL ? own : row->trace;
    Text text = {0};
    if (trace != NULL) text_addf(&text, "<think>%s</think><answer>%s</answer>", trace, row->answer);
    else text_add(&text, row->answer);
    Json *reply = conversation_new();
    char *said = text_take(&text);
    conversation_add(reply, "assistant", said);
    set_reply(row, reply);
    free(said);
    free(own);
}

static bool read_text(DatasetRow *row, const Json *text)
{
    row->kind = ROW_TEXT;
    row->prompt = text_copy("", 0);
    row->completion = json_text_copy(text);
    return true;
}

static bool read_content(DatasetRow *row, Status *st)
{
    const char *name = NULL, *chat = NULL;
    const Json *prompt = COLUMN(row->row, prompt_columns, &name), *messages = COLUMN(row->row, chat_columns, &chat);
    const Json *completion = json_get(row->row, "completion"), *text = json_get(row->row, "text");
    if (json_get(row->row, "chosen") != NULL) return read_preference(row, prompt, name, st);
    if (messages != NULL) {
        if (!json_is_array(messages)) return fail(st, "\"%s\" must be a list", chat);
        return read_messages(row, messages, st);
    }
    if (prompt == NULL && json_is_string(text)) return read_text(row, text);
    if (prompt == NULL)
        return fail(
            st,
            "the row has none of \"prompt\", \"question\", \"problem\", \"messages\", \"conversations\", \"chosen\", "
            "\"text\"");
    row->kind = completion != NULL ? ROW_COMPLETION : ROW_RL;
    if (!read_prompt(row, prompt, name, st)) return false;
    Json *reply = completion != NULL ? read_reply(completion, "completion", st) : NULL;
    if (reply != NULL) set_reply(row, reply);
    return completion == NULL || reply != NULL;
}

bool row_read(DatasetRow *row, Status *st)
{
    if (!json_is_object(row->row)) return fail(st, "a line must be one JSON object");
    bool chooses = strcmp(json_get_string(row->row, "verifier", ""), verifier_name(VERIFIER_CHOICE)) == 0;
    if ((json_get(row->row, "label") != NULL && !chooses) || json_get(row->row, "labels") != NULL)
        return fail(st, "rows with \"label\" (unpaired preferences, step labels) are not read");
    bool ok = read_content(row, st) && read_tools(row, st) && read_answer(row, st) && read_labels(row, st);
    if (ok && row->kind == ROW_RL) teach(row);
    return ok;
}

void row_free(DatasetRow *row)
{
    free(row->prompt);
    free(row->completion);
    free(row->rejected);
    free(row->answer);
    free(row->trace);
    json_free(row->messages);
    json_free(row->reply);
    json_free(row->tools);
    json_free(row->row);
}
