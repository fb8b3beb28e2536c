#include "data/dataset_row.h"

#include <stdlib.h>
#include <string.h>

#include "data/text.h"
#include "data/verify.h"

static Verifier row_verifier(const Json *row)
{
    Verifier v = json_is_number(json_get(row, "answer")) ? VERIFIER_RATIONAL : VERIFIER_EXACT;
    const char *name = json_get_string(row, "verifier", NULL);
    if (name != NULL) verifier_find(name, &v);
    return v;
}

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

Verdict row_verify(const Problem *p, const char *answer)
{
    long numbers[VERIFY_MAX_NUMBERS];
    if (p->answer[0] == '\0') return verdict_of(REASON_UNPARSEABLE);
    int n = row_numbers(p->row, numbers, VERIFY_MAX_NUMBERS);
    switch (row_verifier(p->row)) {
    case VERIFIER_INTEGER: return verdict_of(verify_integer(p->answer, answer));
    case VERIFIER_RATIONAL: return verdict_of(verify_rational(p->answer, answer));
    case VERIFIER_EXPRESSION:
        return verdict_of(n < 0 ? verify_expression_like(p->answer, answer)
                                : verify_expression(p->answer, numbers, n, answer));
    default: return verdict_of(verify_exact(p->answer, answer));
    }
}

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

/* The content of a message; NULL and a sentence when it is not {"role": known, "content": string}. */
static const char *message_content(const Json *message, const char **role, Status *st)
{
    *role = json_get_string(message, "role", NULL);
    const char *content = json_get_string(message, "content", NULL);
    if (*role == NULL || content == NULL) {
        fail(st, "a message needs \"role\" and \"content\" as strings");
        return NULL;
    }
    if (strcmp(*role, "user") != 0 && strcmp(*role, "assistant") != 0 && strcmp(*role, "system") != 0) {
        fail(st, "role \"%s\" is not read (system, user, assistant are)", *role);
        return NULL;
    }
    return content;
}

/* Turns [from, to) of a conversation as the inside of the template: the first user turn stands bare (prompt_render puts
 * <user> before it), a system text before it. */
static bool join_turns(Text *out, const Json *messages, size_t from, size_t to, Status *st)
{
    bool first_user = true;
    for (size_t i = from; i < to; i++) {
        const char *role, *content = message_content(json_at(messages, i), &role, st);
        if (content == NULL) return false;
        if (role[0] == 's') {
            text_addf(out, "%s\n\n", content);
        } else if (role[0] == 'u') {
            text_addf(out, "%s%s", first_user ? "" : "<user>", content);
            first_user = false;
        } else {
            text_addf(out, "<assistant>%s<eos>", content);
        }
    }
    return true;
}

/* The last turn when the assistant speaks it, else NULL (st tells a fault). */
static const char *last_assistant(const Json *messages, Status *st)
{
    const char *role, *content;
    if (json_count(messages) == 0) {
        fail(st, "a list of messages is empty");
        return NULL;
    }
    content = message_content(json_at(messages, json_count(messages) - 1), &role, st);
    return content != NULL && role[0] == 'a' ? content : NULL;
}

/* A "prompt": a string or messages. */
static bool read_prompt(DatasetRow *row, const Json *prompt, Status *st)
{
    Text text = {0};
    if (json_is_string(prompt)) {
        row->prompt = copy_trimmed(json_string(prompt, NULL), strlen(json_string(prompt, NULL)));
        return true;
    }
    if (!json_is_array(prompt)) return fail(st, "\"prompt\" must be a string or a list of messages");
    bool ok = join_turns(&text, prompt, 0, json_count(prompt), st);
    row->prompt = text_take(&text);
    return ok;
}

/* A "completion", "chosen" or "rejected": a string, or messages of which the last one counts. Caller frees; NULL:
 * failed. */
static char *read_reply(const Json *v, const char *key, Status *st)
{
    const char *s = json_is_string(v) ? json_string(v, NULL) : json_is_array(v) ? last_assistant(v, st) : NULL;
    if (s == NULL) {
        fail(st, "\"%s\" must be a string or messages that end with the assistant's", key);
        return NULL;
    }
    return text_copy(s, strlen(s));
}

static bool read_messages(DatasetRow *row, const Json *messages, Status *st)
{
    if (!json_is_array(messages)) return fail(st, "\"messages\" must be a list");
    const char *reply = last_assistant(messages, st);
    if (st->failed) return false;
    size_t n = json_count(messages);
    row->kind = reply != NULL ? ROW_MESSAGES : ROW_RL;
    row->completion = reply != NULL ? text_copy(reply, strlen(reply)) : NULL;
    Text text = {0};
    bool ok = join_turns(&text, messages, 0, reply != NULL ? n - 1 : n, st);
    row->prompt = text_take(&text);
    return ok;
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

/* Preference pairs without "prompt": the shared beginning of chosen and rejected is it. */
static bool read_implicit(DatasetRow *row, const Json *chosen, const Json *rejected, Status *st)
{
    Text prompt = {0};
    bool ok = true;
    if (json_is_string(chosen) && json_is_string(rejected)) {
        const char *c = json_string(chosen, NULL), *r = json_string(rejected, NULL);
        size_t n = common_start(c, r);
        text_add_bytes(&prompt, c, n);
        row->completion = text_copy(c + n, strlen(c + n));
        row->rejected = text_copy(r + n, strlen(r + n));
    } else if (json_is_array(chosen) && json_is_array(rejected) && json_count(chosen) > 0) {
        ok = join_turns(&prompt, chosen, 0, json_count(chosen) - 1, st);
        row->completion = read_reply(chosen, "chosen", st);
        row->rejected = read_reply(rejected, "rejected", st);
    } else {
        ok = fail(st, "\"chosen\" and \"rejected\" must both be strings or both be messages");
    }
    row->prompt = text_take(&prompt);
    return ok && row->completion != NULL && row->rejected != NULL;
}

static bool read_preference(DatasetRow *row, Status *st)
{
    const Json *prompt = json_get(row->row, "prompt"), *chosen = json_get(row->row, "chosen");
    const Json *rejected = json_get(row->row, "rejected");
    row->kind = ROW_PREFERENCE;
    if (rejected == NULL) return fail(st, "\"chosen\" stands without \"rejected\"");
    bool ok;
    if (prompt == NULL) {
        ok = read_implicit(row, chosen, rejected, st);
    } else {
        ok = read_prompt(row, prompt, st);
        row->completion = ok ? read_reply(chosen, "chosen", st) : NULL;
        row->rejected = row->completion != NULL ? read_reply(rejected, "rejected", st) : NULL;
        ok = row->rejected != NULL;
    }
    if (ok && strcmp(row->completion, row->rejected) == 0) return fail(st, "\"chosen\" and \"rejected\" are equal");
    return ok;
}

/* The gold answer: "answer", else the answer part of the completion. */
static bool read_answer(DatasetRow *row, Status *st)
{
    const Json *answer = json_get(row->row, "answer");
    long numbers[VERIFY_MAX_NUMBERS];
    Verifier v = VERIFIER_EXACT;
    const char *name = json_get_string(row->row, "verifier", NULL);
    if (name != NULL && !verifier_find(name, &v))
        return fail(st, "unknown verifier \"%s\" (integer, rational, exact, expression)", name);
    if (answer == NULL || json_is_null_value(answer)) {
        Parsed c = completion_parse(row->completion != NULL ? row->completion : "");
        row->answer = c.has_answer              ? text_copy(c.answer, c.answer_length)
                      : row->completion != NULL ? copy_trimmed(row->completion, strlen(row->completion))
                                                : text_copy("", 0);
        if (row->answer[0] == '\0') return name == NULL || fail(st, "\"verifier\" stands without \"answer\"");
    } else if (json_is_string(answer)) {
        row->answer = copy_trimmed(json_string(answer, NULL), strlen(json_string(answer, NULL)));
    } else if (json_is_number(answer)) {
        row->answer = json_write(answer, false);
    } else {
        return fail(st, "\"answer\" must be a string or a number");
    }
    v = row_verifier(row->row);
    int n = row_numbers(row->row, numbers, VERIFY_MAX_NUMBERS);
    if (v == VERIFIER_EXPRESSION && n == 0)
        return fail(st, "\"numbers\" must be a list of 1 to %d integers", VERIFY_MAX_NUMBERS);
    if (!verify_gold(v, row->answer, n < 0 ? NULL : numbers, n))
        return fail(st, "the answer \"%.60s\" is not one the %s verifier can read%s", row->answer, verifier_name(v),
                    v == VERIFIER_EXPRESSION && n < 0 ? " (a target needs \"numbers\": [..] beside it)" : "");
    return true;
}

/* "kind" and "language", or what they are without. */
static bool read_labels(DatasetRow *row, Status *st)
{
    static const char *const kinds[] = {"reasoning", "helpful", "safety"};
    const char *kind = json_get_string(row->row, "kind", kinds[0]);
    const char *language = json_get_string(row->row, "language", NULL);
    int k = 0;
    while (k < 3 && strcmp(kind, kinds[k]) != 0) k++;
    if (k == 3) return fail(st, "unknown kind \"%s\" (reasoning, helpful, safety)", kind);
    row->prompt_kind = (PromptKind)k;
    bool english = language_share(row->prompt, strlen(row->prompt), LANGUAGE_EN) >= 0.5f;
    row->language = english ? LANGUAGE_EN : LANGUAGE_ZH;
    if (language != NULL && strcmp(language, "en") != 0 && strcmp(language, "zh") != 0)
        return fail(st, "unknown language \"%s\" (en, zh)", language);
    if (language != NULL) row->language = strcmp(language, "en") == 0 ? LANGUAGE_EN : LANGUAGE_ZH;
    return true;
}

/* What an RL row teaches when it is used for SFT: its trace and answer in tags, or the bare answer. */
static char *rl_completion(const DatasetRow *row)
{
    const char *trace = json_get_string(row->row, "trace", NULL);
    if (row->answer[0] == '\0') return NULL;
    Text text = {0};
    if (trace != NULL) text_addf(&text, "<think>%s</think><answer>%s</answer>", trace, row->answer);
    else text_add(&text, row->answer);
    return text_take(&text);
}

bool row_read(DatasetRow *row, Status *st)
{
    const Json *prompt = json_get(row->row, "prompt"), *completion = json_get(row->row, "completion");
    bool ok;
    if (!json_is_object(row->row)) return fail(st, "a line must be one JSON object");
    if (json_get(row->row, "label") != NULL || json_get(row->row, "labels") != NULL)
        return fail(st, "rows with \"label\" (unpaired preferences, step labels) are not read");
    if (json_get(row->row, "chosen") != NULL) {
        ok = read_preference(row, st);
    } else if (json_get(row->row, "messages") != NULL) {
        ok = read_messages(row, json_get(row->row, "messages"), st);
    } else if (prompt != NULL) {
        row->kind = completion != NULL ? ROW_COMPLETION : ROW_RL;
        ok = read_prompt(row, prompt, st);
        if (ok && completion != NULL) ok = (row->completion = read_reply(completion, "completion", st)) != NULL;
    } else if (json_is_string(json_get(row->row, "text"))) {
        const char *text = json_string(json_get(row->row, "text"), NULL);
        row->kind = ROW_TEXT;
        row->prompt = text_copy("", 0);
        row->completion = text_copy(text, strlen(text));
        ok = true;
    } else {
        return fail(st, "the row has none of \"prompt\", \"messages\", \"chosen\", \"text\"");
    }
    ok = ok && read_answer(row, st) && read_labels(row, st);
    if (ok && row->kind == ROW_RL) row->completion = rl_completion(row);
    return ok;
}

void row_free(DatasetRow *row)
{
    free(row->prompt);
    free(row->completion);
    free(row->rejected);
    free(row->answer);
    json_free(row->row);
}
